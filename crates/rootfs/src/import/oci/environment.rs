//! The variables that an image's configuration sets for its processes, for the logins of the lab that is made of it.
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

/// Bytes of `/etc/environment` that are kept; more is none that somebody wrote.
const LONGEST: u64 = 64 << 10;

/// Writes `NAME=value` lines of a configuration into the tree's `/etc/environment`. A place that cannot be written is
/// left as it is, with a warning: the image is a good one without its variables.
pub(super) fn place(staging: &mut Staging, variables: &[String]) -> Result<(), ImportError> {
    let mut text: String = variables.iter().filter_map(|variable| line(variable)).collect();
    if text.is_empty() {
        return Ok(());
    }
    let Some(path) = writable_path(staging) else {
        tracing::warn!(
            "the image's variables are not set: its /etc/environment is no file, or not in a folder"
        );
        return Ok(());
    };
    if staging.kind(&path).is_some() {
        let real = staging.real_path(&path);
        let unreadable = |source| ImportError::Unreadable { path: real.clone(), source };
        let own = File::open(&real).map_err(unreadable)?;
        own.take(LONGEST).read_to_string(&mut text).map_err(unreadable)?;
    }
    let attributes = Attributes { mode: 0o644, ..Attributes::default() };
    let no_body = |source| ImportError::Unreadable { path: "the image's configuration".into(), source };
    staging.add_file(&path, attributes.clone(), &mut text.as_bytes(), no_body)?;

    let search_path = variables.iter().rev().find_map(|variable| variable.strip_prefix("PATH="));
    let (Some(script), Some(profile)) = (search_path.and_then(script), profile_path(staging)) else {
        return Ok(());
    };
    staging.add_file(&profile, attributes, &mut script.as_bytes(), no_body)
}

/// Where the file is when the links to its folder are followed.
fn writable_path(staging: &Staging) -> Option<EntryPath> {
    let folder = staging.follow(&EntryPath::parse(b"etc").ok()?).ok()?;
    let path = folder.join(b"environment").ok()?;
    matches!(staging.kind(&path), None | Some(Kind::File { .. })).then_some(path)
}

/// Where login shells find a script, in an image whose profile looks there.
fn profile_path(staging: &Staging) -> Option<EntryPath> {
    let folder = staging.follow(&EntryPath::parse(b"etc/profile.d").ok()?).ok()?;
    let path = folder.join(b"image-path.sh").ok()?;
    let is_free = staging.kind(&path).is_none();
    (is_free && staging.kind(&folder) == Some(&Kind::Folder)).then_some(path)
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
    fn a_path_is_quoted_for_the_shell() {
        let script = script("/opt/a b/$HOME/it's:/bin").unwrap();
        let command = format!("{script}printf %s \"$PATH\"");
        let output = std::process::Command::new("/bin/sh").args(["-c", &command]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "/opt/a b/$HOME/it's:/bin");
    }
}
