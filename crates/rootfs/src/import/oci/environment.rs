//! The variables and the folder that an image's configuration has for its processes, for the logins of the lab that is
//! made of it.
//!
//! `/etc/environment` is where logins look: `pam_env(8)` does, and so does the guest's own SSH server. What the image
//! has there already comes after, and so wins.
//!
//! A login shell then reads `/etc/profile`, which sets another `PATH` in Debian and Alpine, and after that what is in
//! `/etc/profile.d`: so the image's `PATH` is said again there.

use std::fs::File;
use std::io::Read;

use crate::import::ImportError;
use crate::import::entry_path::EntryPath;
use crate::import::staging::{Attributes, Kind, Staging};

/// Writes `NAME=value` lines of a configuration into the tree's `/etc/environment`. A place that cannot be written is
/// left as it is, with a warning: the image is a good one without its variables.
pub(super) fn place(staging: &mut Staging, variables: &[String]) -> Result<(), ImportError> {
    let text: String = variables.iter().filter_map(|variable| line(variable)).collect();
    if text.is_empty() {
        return Ok(());
    }
    let attributes = Attributes { mode: 0o644, ..Attributes::default() };
    let unreadable = |source| ImportError::Unreadable { path: "etc/environment of the image".into(), source };
    let place = path_in(staging, b"etc", b"environment");
    match place.as_ref().map(|path| (path, staging.kind(path))) {
        Some((path, None)) => staging.add_file(path, attributes, &mut text.as_bytes(), unreadable)?,
        Some((path, Some(Kind::File { .. }))) => {
            // Open, it outlives its name, which the new file takes.
            let own = File::open(staging.real_path(path)).map_err(unreadable)?;
            staging.add_file(path, attributes, &mut text.as_bytes().chain(own), unreadable)?;
        }
        _ => {
            tracing::warn!(
                "the image's variables are not set: its /etc/environment is no file, or not in a folder"
            );
            return Ok(());
        }
    }

    let Some(script) = variables.iter().rev().find_map(|variable| script(variable.strip_prefix("PATH=")?))
    else {
        return Ok(());
    };
    add_to_profile(staging, b"image-path.sh", &script)
}

/// Lets login shells start in the folder that a configuration names, where the image has `/etc/profile.d`. What a shell
/// or an editor does on its own way to a folder stays as it is: only one that is at home goes there.
pub(super) fn place_folder(staging: &mut Staging, folder: &str) -> Result<(), ImportError> {
    let is_plain = folder.starts_with('/') && folder != "/" && !folder.contains(char::is_control);
    if is_plain { add_to_profile(staging, b"image-folder.sh", &folder_script(folder)) } else { Ok(()) }
}

/// Adds a script that login shells read, where the image has a place for it and nothing of that name.
fn add_to_profile(staging: &mut Staging, name: &[u8], script: &str) -> Result<(), ImportError> {
    let profile = path_in(staging, b"etc/profile.d", name).filter(|path| {
        staging.kind(path).is_none()
            && path.parent().is_some_and(|folder| staging.kind(&folder) == Some(&Kind::Folder))
    });
    let Some(profile) = profile else { return Ok(()) };
    let unreadable = |source| ImportError::Unreadable { path: "etc/profile.d of the image".into(), source };
    let attributes = Attributes { mode: 0o644, ..Attributes::default() };
    staging.add_file(&profile, attributes, &mut script.as_bytes(), unreadable)
}

/// Goes to a folder that is there, from home.
fn folder_script(folder: &str) -> String {
    let quoted = folder.replace('\'', r"'\''");
    format!(
        "# Where the image's own processes start.\n\
         if [ \"$PWD\" = \"$HOME\" ] && [ -d '{quoted}' ]; then cd '{quoted}'; fi\n"
    )
}

/// Where a file of a folder is when the links to the folder are followed.
fn path_in(staging: &Staging, folder: &[u8], name: &[u8]) -> Option<EntryPath> {
    let folder = staging.follow(&EntryPath::parse(folder).ok()?).ok()?;
    folder.join(name).ok()
}

/// Sets `PATH` in a shell.
fn script(search_path: &str) -> Option<String> {
    line(&format!("PATH={search_path}"))?;
    let quoted = search_path.replace('\'', r"'\''");
    Some(format!("# The image's own PATH; /etc/profile has set another.\nexport PATH='{quoted}'\n"))
}

/// A variable as `/etc/environment` has it. What is no variable of a shell, or has more than one line, has no place there.
fn line(variable: &str) -> Option<String> {
    let (name, value) = variable.split_once('=')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.starts_with(|first: char| !first.is_ascii_digit());
    let is_one_line = !value.contains(['\n', '\r', '\0']);
    (is_name && is_one_line).then(|| format!("{name}=\"{value}\"\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_of_one_line_are_written() {
        assert_eq!(line("PATH=/usr/local/bin:/bin").as_deref(), Some("PATH=\"/usr/local/bin:/bin\"\n"));
        assert_eq!(line("EMPTY=").as_deref(), Some("EMPTY=\"\"\n"));
        assert_eq!(line("QUOTED=\"a\"=b").as_deref(), Some("QUOTED=\"\"a\"=b\"\n"));
        for none in ["", "NAME", "=value", "1ST=x", "A B=x", "TWO=a\nLD_PRELOAD=b", "NUL=\0"] {
            assert_eq!(line(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_shell_at_home_goes_to_the_folder() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("it's $HERE");
        std::fs::create_dir(&folder).unwrap();
        let script = format!("{}pwd", folder_script(folder.to_str().unwrap()));
        let goes = |home: &str, to: &str| {
            let mut shell = std::process::Command::new("/bin/sh");
            let output = shell.args(["-c", &script]).current_dir("/").env("HOME", home).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), to);
        };
        goes("/", folder.to_str().unwrap());
        goes("/root", "/");
        std::fs::remove_dir(&folder).unwrap();
        goes("/", "/");
    }

    #[test]
    fn a_path_is_quoted_for_the_shell() {
        let script = script("/opt/a b/$HOME/it's:/bin").unwrap();
        let command = format!("{script}printf %s \"$PATH\"");
        let output = std::process::Command::new("/bin/sh").args(["-c", &command]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "/opt/a b/$HOME/it's:/bin");
    }
}
