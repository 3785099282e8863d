//! The user whom the SSH server logs in, as the image's own files describe them.
//!
//! `/etc/passwd`, `/etc/group`, `/etc/login.defs` and `/etc/environment` are read once, when the VM starts. Nothing
//! else is asked: no NSS, no PAM, because a statically linked program cannot load the image's libraries and an image
//! may have none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// `PATH` of the superuser where `/etc/login.defs` does not say otherwise: Debian's `ENV_SUPATH`.
pub(crate) const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// `PATH` of everybody else where `/etc/login.defs` does not say otherwise: Debian's `ENV_PATH`.
const USER_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";
/// The shell of a user whose entry names none; `passwd(5)`.
const DEFAULT_SHELL: &str = "/bin/sh";

/// One account of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Login name, the only one that the server accepts.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Id of the primary group.
    pub gid: u32,
    /// Ids of all groups, the primary one first.
    pub groups: Vec<u32>,
    /// Home folder; it need not exist.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
    /// Value of `PATH` in a new shell.
    pub search_path: String,
    /// Further variables of a new shell, in an order in which later ones win.
    pub environment: Vec<(String, String)>,
}

/// The user cannot be logged in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// A file of the image cannot be read.
    #[error("cannot read {path} of the image: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// The image has no such user.
    #[error("the image's /etc/passwd has no user `{0}`: add the user to the image, or log in as `root`")]
    NoSuchUser(String),
}

impl Login {
    /// Looks a user up in the image mounted on `root`. `root` exists even in an image without `/etc/passwd`.
    ///
    /// # Errors
    ///
    /// A file that is there and cannot be read, and a user that is not in the image.
    pub fn of_image(root: &Path, user: &str) -> Result<Self, LoginError> {
        let read = |file: &str| read_if_present(&root.join(file));
        let passwd = read("etc/passwd")?;
        let group = read("etc/group")?;
        let defaults = read("etc/login.defs")?;
        let mut login = Self::parse(user, &passwd, &group, &defaults)
            .ok_or_else(|| LoginError::NoSuchUser(user.to_owned()))?;
        login.set_environment(&read("etc/environment")?);
        Ok(login)
    }

    /// Takes the variables of `/etc/environment` over, as far as they do not say who the user is.
    fn set_environment(&mut self, text: &str) {
        for (name, value) in text.lines().filter_map(environment_entry) {
            match name {
                "HOME" | "USER" | "LOGNAME" | "SHELL" => {}
                "PATH" if value.is_empty() => {}
                "PATH" => value.clone_into(&mut self.search_path),
                _ => self.environment.push((name.to_owned(), value.to_owned())),
            }
        }
    }

    /// Looks a user up in the text of `/etc/passwd`, `/etc/group` and `/etc/login.defs`; `None` where the
    /// image has no such user. Lines that do not have the form of their file are passed over, as the C
    /// library does.
    #[must_use]
    pub fn parse(user: &str, passwd: &str, group: &str, defaults: &str) -> Option<Self> {
        let mut login =
            passwd.lines().find_map(|line| passwd_entry(line, user)).or_else(|| bare_root(user))?;
        login.groups = vec![login.gid];
        for gid in group.lines().filter_map(|line| group_with_member(line, user)) {
            if !login.groups.contains(&gid) {
                login.groups.push(gid);
            }
        }
        let (key, fallback) =
            if login.uid == 0 { ("ENV_SUPATH", ROOT_PATH) } else { ("ENV_PATH", USER_PATH) };
        login.search_path = default_path(defaults, key).unwrap_or_else(|| fallback.to_owned());
        Some(login)
    }
}

/// `NAME=value`, which may begin with `export` and have quotes around the value: `pam_env(8)`, of `envfile`.
fn environment_entry(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let (name, value) = line.split_once('=')?;
    if name.is_empty()
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        || value.contains('\0')
    {
        return None;
    }
    let unquoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    Some((name, unquoted.unwrap_or(value)))
}

/// The text of a file, with what is not UTF-8 replaced; empty where the file does not exist.
fn read_if_present(path: &Path) -> Result<String, LoginError> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(LoginError::Unreadable { path: path.to_owned(), source }),
    }
}

/// `name:password:uid:gid:comment:home:shell`, see `passwd(5)`.
fn passwd_entry(line: &str, user: &str) -> Option<Login> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    if name != user || name.is_empty() {
        return None;
    }
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1)?;
    let shell = fields.next().unwrap_or("").trim_end();
    Some(Login {
        name: name.to_owned(),
        uid,
        gid,
        groups: Vec::new(),
        home: PathBuf::from(if home.is_empty() { "/" } else { home }),
        shell: PathBuf::from(if shell.is_empty() { DEFAULT_SHELL } else { shell }),
        search_path: String::new(),
        environment: Vec::new(),
    })
}

/// The superuser of an image that has no `/etc/passwd`, or one that leaves the superuser out.
fn bare_root(user: &str) -> Option<Login> {
    (user == "root").then(|| Login {
        name: user.to_owned(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        home: PathBuf::from("/root"),
        shell: PathBuf::from(DEFAULT_SHELL),
        search_path: String::new(),
        environment: Vec::new(),
    })
}

/// The id of the group in a line `name:password:gid:member,member`, where the user is one of the members.
fn group_with_member(line: &str, user: &str) -> Option<u32> {
    let mut fields = line.split(':');
    let gid = fields.nth(2)?.parse().ok()?;
    let members = fields.next()?;
    members.split(',').any(|member| member.trim() == user).then_some(gid)
}

/// The value of a line `ENV_PATH PATH=/bin:/usr/bin` of `login.defs(5)`; the `PATH=` is optional.
fn default_path(defaults: &str, key: &str) -> Option<String> {
    defaults.lines().find_map(|line| {
        let value = line.trim().strip_prefix(key)?;
        if !value.starts_with(char::is_whitespace) {
            return None;
        }
        let value = value.trim();
        let value = value.strip_prefix("PATH=").unwrap_or(value);
        (!value.is_empty()).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
                          broken line\n\
                          short:x:7\n\
                          lab:x:1000:1000:Lab,,,:/home/lab:/usr/bin/zsh\n\
                          bare:x:1001:100::/:\n";
    const GROUP: &str =
        "root:x:0:\nsudo:x:27:other,lab\nlab:x:1000:\nusers:x:100:lab\nlabs:x:2000:labrador\n";

    #[test]
    fn a_user_is_found_with_all_groups() {
        let login = Login::parse("lab", PASSWD, GROUP, "").expect("lab is in the file");
        assert_eq!((login.uid, login.gid), (1000, 1000));
        assert_eq!(login.groups, [1000, 27, 100]);
        assert_eq!(login.home, Path::new("/home/lab"));
        assert_eq!(login.shell, Path::new("/usr/bin/zsh"));
        assert_eq!(login.search_path, USER_PATH);
    }

    #[test]
    fn an_entry_without_a_shell_gets_the_default_one() {
        let login = Login::parse("bare", PASSWD, GROUP, "").expect("bare is in the file");
        assert_eq!(login.shell, Path::new("/bin/sh"));
        assert_eq!(login.groups, [100]);
    }

    #[test]
    fn root_exists_even_without_a_passwd_file() {
        let login = Login::parse("root", "", "", "").expect("root always exists");
        assert_eq!((login.uid, login.gid), (0, 0));
        assert_eq!(login.search_path, ROOT_PATH);
        assert_eq!(Login::parse("lab", "", "", ""), None);
    }

    #[test]
    fn an_incomplete_entry_is_no_user() {
        assert_eq!(Login::parse("short", PASSWD, GROUP, ""), None);
        assert_eq!(Login::parse("", ":x:0:0::/:/bin/sh", "", ""), None);
    }

    #[test]
    fn login_defs_sets_the_search_path() {
        let defaults = "# ENV_PATH PATH=/no\nENV_SUPATH\tPATH=/sbin:/bin\nENV_PATHS /no\nENV_PATH /opt/bin\n";
        let path = |user| Login::parse(user, PASSWD, GROUP, defaults).map(|login| login.search_path);
        assert_eq!(path("root").as_deref(), Some("/sbin:/bin"));
        assert_eq!(path("lab").as_deref(), Some("/opt/bin"));
    }

    #[test]
    fn the_images_environment_is_taken_over_save_for_who_the_user_is() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let etc = root.path().join("etc");
        fs::create_dir(&etc).expect("the folder is empty");
        let text = "# comment = no\nPATH=\"/opt/bin:/bin\"\nexport GOPATH=/go\nTWICE=\"\"a\"=b\"\nHOME=/no\nUSER=no\n\
                    no variable\nA B=x\n EMPTY=\nHALF='x\n";
        fs::write(etc.join("environment"), text).expect("the folder can be written");
        let login = Login::of_image(root.path(), "root").expect("root always exists");
        assert_eq!((login.home.as_path(), login.name.as_str()), (Path::new("/root"), "root"));
        assert_eq!(login.search_path, "/opt/bin:/bin");
        let pairs: Vec<_> =
            login.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("GOPATH", "/go"), ("TWICE", "\"a\"=b"), ("EMPTY", ""), ("HALF", "'x")]);
    }

    #[test]
    fn a_missing_user_is_reported_by_name() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let error = Login::of_image(root.path(), "lab").expect_err("an empty image has no user `lab`");
        assert!(error.to_string().contains("no user `lab`"), "{error}");
    }

    proptest! {
        #[test]
        fn parsing_never_panics(user in ".{0,8}", files in [".{0,80}", ".{0,80}", ".{0,80}"]) {
            let [passwd, group, defaults] = &files;
            if let Some(mut login) = Login::parse(&user, passwd, group, defaults) {
                login.set_environment(group);
            }
        }
    }
}
