//! The environment of a new process: what the login gives it, the image's own, and the few variables a client may set.

use std::ffi::OsString;
use std::path::Path;

use crate::login::Login;

/// As many variables as one client may set on one channel.
const MAX_VARIABLES: usize = 64;

/// Variables that the client asked for, as far as they are allowed.
#[derive(Debug, Default)]
pub(super) struct ClientVariables(Vec<(String, String)>);

impl ClientVariables {
    /// Keeps a variable if clients may set it. Only the language and the terminal's abilities may come from
    /// outside: anything else (`LD_PRELOAD`, `PATH`, `BASH_ENV`) changes what a command means.
    pub(super) fn set(&mut self, name: &str, value: &str) -> bool {
        let allowed = matches!(name, "LANG" | "TERM" | "COLORTERM") || is_locale_category(name);
        if !allowed || value.contains('\0') || self.0.len() >= MAX_VARIABLES {
            return false;
        }
        self.0.push((name.to_owned(), value.to_owned()));
        true
    }
}

fn is_locale_category(name: &str) -> bool {
    name.strip_prefix("LC_")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
}

/// All variables of a new process, in an order in which later ones win.
pub(super) fn variables(
    login: &Login,
    extra_path: Option<&Path>,
    client: &ClientVariables,
    term: Option<&str>,
) -> Vec<(String, OsString)> {
    let mut path = OsString::from(&login.search_path);
    if let Some(extra) = extra_path {
        path.push(":");
        path.push(extra);
    }
    let mut variables = vec![
        ("HOME".to_owned(), login.home.clone().into_os_string()),
        ("USER".to_owned(), OsString::from(&login.name)),
        ("LOGNAME".to_owned(), OsString::from(&login.name)),
        ("SHELL".to_owned(), login.shell.clone().into_os_string()),
        ("PATH".to_owned(), path),
        ("LANG".to_owned(), OsString::from("C.UTF-8")),
    ];
    variables.extend(login.environment.iter().map(|(name, value)| (name.clone(), OsString::from(value))));
    variables.extend(client.0.iter().map(|(name, value)| (name.clone(), OsString::from(value))));
    if let Some(term) = term.filter(|term| !term.is_empty() && !term.contains('\0')) {
        variables.push(("TERM".to_owned(), OsString::from(term)));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_language_and_terminal_come_from_the_client() {
        let mut client = ClientVariables::default();
        for name in ["LANG", "LC_ALL", "LC_TIME", "TERM", "COLORTERM"] {
            assert!(client.set(name, "x"), "{name}");
        }
        for name in ["PATH", "LD_PRELOAD", "LC_", "LC_all", "LANGUAGE", "BASH_ENV", ""] {
            assert!(!client.set(name, "x"), "{name}");
        }
        assert!(!client.set("LANG", "a\0b"));
    }

    #[test]
    fn a_client_cannot_set_variables_without_end() {
        let mut client = ClientVariables::default();
        assert_eq!((0..1000).filter(|_| client.set("LC_ALL", "x")).count(), MAX_VARIABLES);
    }

    #[test]
    fn the_terminal_of_the_pty_wins_and_the_extra_folder_comes_last() {
        let mut login = Login::parse("root", "", "", "").expect("root always exists");
        login.environment = [("TERM", "image"), ("GOPATH", "/go")].map(|(n, v)| (n.into(), v.into())).into();
        let mut client = ClientVariables::default();
        client.set("TERM", "dumb");
        let variables = variables(&login, Some(Path::new("/run/dozlab/bin")), &client, Some("xterm"));
        let last =
            |name: &str| variables.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        assert_eq!(last("TERM"), Some("xterm".into()));
        assert_eq!(last("GOPATH"), Some("/go".into()));
        assert_eq!(last("HOME"), Some("/root".into()));
        assert!(last("PATH").is_some_and(|path| path.to_string_lossy().ends_with(":/bin:/run/dozlab/bin")));
    }
}
