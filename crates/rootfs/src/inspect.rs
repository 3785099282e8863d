//! Looks into an image, by `debugfs`, for what its record says: operating system, login user, init.
//!
//! Images are strangers' work: whatever is missing or malformed in them is simply not known.

use std::collections::VecDeque;
use std::path::Path;

use dozlab_process::ToolError;

use crate::e2fsprogs::{DEBUGFS, run};

/// Symbolic links that are followed for one path before it counts as missing; the kernel's own limit is 40.
const MOST_LINKS: usize = 40;
/// The most that is read of a file in the image.
const MOST_BYTES: usize = 1 << 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) os_name: Option<String>,
    pub(crate) user: String,
    pub(crate) has_init: bool,
}

/// Whom a learner logs in as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LoginUser {
    /// The user with uid 1000, the first that a person gets on Debian and most others, else root.
    First,
    /// The `User` of an OCI image's configuration: `USER`, `UID`, either with `:GROUP`; root where it is empty, as
    /// for a container.
    Configured(String),
}

pub(crate) async fn inspect(image: &Path, user: &LoginUser) -> Result<Contents, ToolError> {
    let release = read(image, "/etc/os-release").await?.unwrap_or_default();
    let passwd = read(image, "/etc/passwd").await?.unwrap_or_default();
    let has_init = resolve(image, "/sbin/init").await?.is_some();
    Ok(Contents { os_name: pretty_name(&release), user: login_user(&passwd, user), has_init })
}

async fn read(image: &Path, path: &str) -> Result<Option<String>, ToolError> {
    let Some(path) = resolve(image, path).await? else { return Ok(None) };
    let mut printed = debugfs(image, &format!("cat \"{path}\"")).await?;
    printed.truncate(MOST_BYTES);
    Ok(Some(String::from_utf8_lossy(&printed).into_owned()))
}

/// Follows symbolic links, inside the image, to a file that is there.
async fn resolve(image: &Path, path: &str) -> Result<Option<String>, ToolError> {
    let mut rest: VecDeque<String> = split(path);
    let mut resolved: Vec<String> = Vec::new();
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            resolved.pop();
            continue;
        }
        resolved.push(part);
        let here = format!("/{}", resolved.join("/"));
        // A quote or a control character in a link would end the argument of debugfs's command.
        if here.contains(|each: char| each == '"' || each.is_control()) {
            return Ok(None);
        }
        let status = debugfs(image, &format!("stat \"{here}\"")).await?;
        let status = String::from_utf8_lossy(&status);
        if !status.starts_with("Inode:") {
            return Ok(None);
        }
        let Some(target) = link_target(&status) else { continue };
        resolved.pop();
        links += 1;
        if links > MOST_LINKS {
            return Ok(None);
        }
        if target.starts_with('/') {
            resolved.clear();
        }
        for part in split(target).into_iter().rev() {
            rest.push_front(part);
        }
    }
    Ok(Some(format!("/{}", resolved.join("/"))))
}

fn split(path: &str) -> VecDeque<String> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
}

/// Links of up to 59 bytes lie in the inode, where `stat` shows them; longer ones are not followed.
fn link_target(status: &str) -> Option<&str> {
    status.lines().find_map(|line| line.strip_prefix("Fast link dest: \"")?.strip_suffix('"'))
}

async fn debugfs(image: &Path, command: &str) -> Result<Vec<u8>, ToolError> {
    let arguments = ["-R".as_ref(), command.as_ref(), image.as_os_str()];
    Ok(run(DEBUGFS, arguments, None).await?.stdout)
}

fn pretty_name(release: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let value = value.trim().trim_matches(['"', '\'']);
    let shown: String = value.chars().filter(|each| !each.is_control()).take(100).collect();
    (!shown.is_empty()).then_some(shown)
}

/// The name of the user who logs in: root where the image has no such user, or one who cannot log in.
fn login_user(passwd: &str, wanted: &LoginUser) -> String {
    let wanted = match wanted {
        LoginUser::First => "1000",
        LoginUser::Configured(user) => user.split(':').next().unwrap_or_default(),
    };
    let is_plain = |name: &&str| {
        !name.is_empty()
            && !name.starts_with('-')
            && name.chars().all(|each| each.is_ascii_alphanumeric() || "._-".contains(each))
    };
    passwd.lines().find_map(|line| entry_for(line, wanted)).filter(is_plain).unwrap_or("root").to_owned()
}

/// The name in a line of `passwd(5)`, where it is about `wanted`, a name or uid, and they may have a shell.
fn entry_for<'a>(line: &'a str, wanted: &str) -> Option<&'a str> {
    let fields: Vec<&str> = line.trim_end().split(':').collect();
    let (name, uid, shell) = (*fields.first()?, *fields.get(2)?, *fields.get(6)?);
    let can_log_in = !(shell.ends_with("/nologin") || shell.ends_with("/false"));
    ((name == wanted || uid == wanted) && can_log_in).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_user_is_uid_1000_or_else_root() {
        let login_user = |passwd| login_user(passwd, &LoginUser::First);
        assert_eq!(login_user("root:x:0:0::/root:/bin/sh\nlab:x:1000:1000::/home/lab:/bin/bash\n"), "lab");
        assert_eq!(login_user("root:x:0:0::/root:/bin/sh\nx:x:10000:1000::/:/bin/sh\n"), "root");
        assert_eq!(login_user("a b\x1b[2J:x:1000:1000::/:/bin/sh\n"), "root");
        assert_eq!(login_user("-oProxyCommand:x:1000:1000::/:/bin/sh\n"), "root");
        assert_eq!(login_user(""), "root");
    }

    #[test]
    fn the_login_user_of_an_oci_image_is_the_configured_one_if_they_can_log_in() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\nweb:x:101:101::/:/sbin/nologin\nlab:x:1000:1000::/:/bin/sh\n";
        for (configured, user) in [
            ("", "root"),
            ("lab", "lab"),
            ("1000:0", "lab"),
            ("lab:x", "lab"),
            ("web", "root"),
            ("7", "root"),
        ] {
            assert_eq!(login_user(passwd, &LoginUser::Configured(configured.into())), user, "{configured}");
        }
    }

    #[test]
    fn the_name_of_the_operating_system_is_unquoted_and_printable() {
        assert_eq!(pretty_name("ID=x\nPRETTY_NAME=\"Debian 12\"\n").as_deref(), Some("Debian 12"));
        assert_eq!(pretty_name("PRETTY_NAME='a\x1b[2Jb'").as_deref(), Some("a[2Jb"));
        assert_eq!(pretty_name("ID=x\n"), None);
    }
}
