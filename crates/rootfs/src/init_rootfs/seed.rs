//! The NoCloud seed: what cloud-init in the image finds of its session, in the place where the existing init container
//! puts it: in the disk, or on the writable disk that is laid over the image. An image without cloud-init passes it over,
//! and our guest does not need it.
//!
//! The format is that of
//! [cloud-init's NoCloud](https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html).

use crate::disk::SeedFile;

const FOLDER: &str = "/var/lib/cloud/seed/nocloud";
const DEFAULT_HOSTNAME: &str = "dozlab-vm";

/// The seed's files, from `SSH_AUTHORIZED_KEY`, `VM_HOSTNAME`, `SESSION_ID` and `USER_DATA`; none where only the
/// session's id is given, for that alone configures nothing.
pub(super) fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Vec<SeedFile> {
    let (key, hostname, user_data) =
        (lookup("SSH_AUTHORIZED_KEY"), lookup("VM_HOSTNAME"), lookup("USER_DATA"));
    if key.is_none() && hostname.is_none() && user_data.is_none() {
        return Vec::new();
    }
    let hostname = hostname.unwrap_or_else(|| DEFAULT_HOSTNAME.to_owned());
    let instance = lookup("SESSION_ID").map_or_else(|| hostname.clone(), |id| format!("dozlab-{id}"));
    let meta_data = format!("instance-id: {}\nlocal-hostname: {}\n", quoted(&instance), quoted(&hostname));
    let user_data = user_data.unwrap_or_else(|| default_user_data(key.as_deref()));
    [("meta-data", meta_data, 0o644), ("user-data", user_data, 0o600)]
        .map(|(name, text, mode)| SeedFile {
            path: format!("{FOLDER}/{name}"),
            mode,
            content: text.into_bytes(),
        })
        .into()
}

/// Lets the key in as root, too, which cloud-init refuses by default.
fn default_user_data(key: Option<&str>) -> String {
    let mut text = "#cloud-config\ndisable_root: false\n".to_owned();
    if let Some(key) = key {
        text.push_str(&format!("ssh_authorized_keys:\n  - {}\n", quoted(key.trim())));
    }
    text
}

/// A YAML string that is nothing else, whatever is in it: JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(variables: &[(&str, &str)]) -> Vec<(String, String)> {
        let files = from_env(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        });
        files.into_iter().map(|file| (file.path, String::from_utf8(file.content).unwrap())).collect()
    }

    #[test]
    fn a_key_becomes_user_data_that_nothing_in_it_can_break_out_of() {
        let files =
            seed(&[("SSH_AUTHORIZED_KEY", "ssh-ed25519 AAAA a\"b\nruncmd: [x]\n"), ("SESSION_ID", "s1")]);
        assert_eq!(files[0].0, "/var/lib/cloud/seed/nocloud/meta-data");
        assert_eq!(files[0].1, "instance-id: \"dozlab-s1\"\nlocal-hostname: \"dozlab-vm\"\n");
        assert_eq!(
            files[1].1,
            "#cloud-config\ndisable_root: false\nssh_authorized_keys:\n  - \"ssh-ed25519 AAAA a\\\"b\\nruncmd: [x]\"\n"
        );
    }

    #[test]
    fn user_data_is_taken_as_it_is_and_an_id_alone_makes_no_seed() {
        assert_eq!(seed(&[("SESSION_ID", "s1")]), []);
        let files = seed(&[
            ("USER_DATA", "#cloud-config\nx: 1\n"),
            ("VM_HOSTNAME", "lab"),
            ("SSH_AUTHORIZED_KEY", "k"),
        ]);
        assert_eq!(files[0].1, "instance-id: \"lab\"\nlocal-hostname: \"lab\"\n");
        assert_eq!(files[1].1, "#cloud-config\nx: 1\n");
    }
}
