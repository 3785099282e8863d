//! `reboot`, `poweroff`, `halt` and `shutdown` for images that have none: this program under those names.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::{Action, PowerError};

/// The names under which this program switches the machine off.
pub(crate) const NAMES: [&str; 4] = ["reboot", "poweroff", "halt", "shutdown"];
/// Where the commands are kept, in memory, for as long as the machine runs.
pub(crate) const FOLDER: &str = "/run/dozlab/bin";

/// What the caller wants.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    action: Action,
    /// Without asking process 1.
    forced: bool,
}

/// The command was not understood or did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("unknown option `{option}`\nusage: {usage}")]
    Usage { option: String, usage: String },
    #[error(transparent)]
    Power(#[from] PowerError),
}

/// Runs the command of that name.
pub(crate) fn run(name: &str, arguments: &[String]) -> Result<(), CommandError> {
    let Request { action, forced } = parse(name, arguments)?;
    if forced {
        super::at_once(action)?;
    } else {
        super::request(action)?;
    }
    Ok(())
}

fn parse(name: &str, arguments: &[String]) -> Result<Request, CommandError> {
    let mut request = Request { action: default_action(name), forced: false };
    for argument in arguments {
        match argument.as_str() {
            "-f" | "--force" => request.forced = true,
            "-r" | "--reboot" => request.action = Action::Restart,
            "-p" | "-P" | "--poweroff" => request.action = Action::PowerOff,
            "-H" | "--halt" => request.action = Action::Halt,
            // `shutdown -h` switches off; the others have no such option.
            "-h" if name == "shutdown" => request.action = Action::PowerOff,
            "now" | "+0" if name == "shutdown" => {}
            _ => return Err(CommandError::Usage { option: argument.clone(), usage: usage(name) }),
        }
    }
    Ok(request)
}

fn default_action(name: &str) -> Action {
    match name {
        "reboot" => Action::Restart,
        "halt" => Action::Halt,
        _ => Action::PowerOff,
    }
}

fn usage(name: &str) -> String {
    match name {
        "shutdown" => "shutdown [-r | -h | -P | -H] [now]".to_owned(),
        _ => format!("{name} [-f]"),
    }
}

/// Provides the commands that no folder of `search_path` has, as links to the running program `program`.
/// Returns the folder, if there are any.
pub(crate) fn provide(search_path: &str, program: &Path, folder: &Path) -> io::Result<Option<PathBuf>> {
    let is_there = |name: &str| {
        search_path.split(':').any(|folder| {
            let found = fs::metadata(Path::new(folder).join(name));
            found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
    };
    let missing: Vec<&str> = NAMES.into_iter().filter(|name| !is_there(name)).collect();
    if missing.is_empty() {
        return Ok(None);
    }
    fs::create_dir_all(folder)?;
    for name in missing {
        let link = folder.join(name);
        // One of a server that ran before leads nowhere now.
        let _ = fs::remove_file(&link);
        symlink(program, link)?;
    }
    Ok(Some(folder.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str, arguments: &[&str]) -> Result<Request, CommandError> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        parse(name, &arguments)
    }

    #[test]
    fn each_name_does_what_it_says() {
        let actions = NAMES.map(|name| parsed(name, &[]).expect("no options are needed").action);
        assert_eq!(actions, [Action::Restart, Action::PowerOff, Action::Halt, Action::PowerOff]);
        let request = parsed("shutdown", &["-r", "now"]).expect("that is how it is called");
        assert_eq!(request, Request { action: Action::Restart, forced: false });
        assert!(parsed("reboot", &["-f"]).expect("that is how it is called").forced);
    }

    #[test]
    fn what_is_not_understood_does_nothing() {
        for (name, argument) in
            [("shutdown", "+5"), ("shutdown", "23:00"), ("reboot", "now"), ("halt", "--help")]
        {
            let error = parsed(name, &[argument]).expect_err("that is not understood");
            assert!(error.to_string().contains("usage: "), "{error}");
        }
    }

    #[test]
    fn only_missing_commands_are_provided() {
        let image = tempfile::tempdir().expect("a temporary folder");
        let (bin, ours) = (image.path().join("bin"), image.path().join("ours"));
        fs::create_dir(&bin).expect("a folder");
        let program = |name: &str| {
            fs::write(bin.join(name), "").expect("a file");
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).expect("a mode");
        };
        program("reboot");
        let path = format!("/nonexistent:{}", bin.display());
        assert_eq!(
            provide(&path, Path::new("/proc/1/exe"), &ours).expect("links are made"),
            Some(ours.clone())
        );
        assert!(
            fs::symlink_metadata(ours.join("halt")).is_ok()
                && fs::symlink_metadata(ours.join("reboot")).is_err()
        );
        NAMES.into_iter().for_each(program);
        assert_eq!(provide(&path, Path::new("/proc/1/exe"), &ours).expect("nothing is to do"), None);
    }
}
