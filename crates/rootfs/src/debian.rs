//! Builds images of Debian suites, by `mmdebstrap`.
//!
//! An image is a definition: a list of packages, files that are laid over the tree, and a script that does
//! the rest. `mmdebstrap` makes a tar of it in a minute or two, which is then imported like any other tar.
//! Nothing is configured on this machine: as root it works in mount and process namespaces of its own, as an
//! ordinary user in a user namespace, for which the user needs subordinate ids (`/etc/subuid`) and the
//! package `uidmap`.
//!
//! A build that is dropped ends `mmdebstrap` in order. Where this program is killed, root's build dies with
//! it, and its tree is swept with the store's temporary folders; an ordinary user's `mmdebstrap` is told to
//! end, and removes its tree itself once it has the packages in place.
//!
//! The definition of the `vm` image is in this crate's folder `images/vm`, and embedded in the program.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dozlab_process::{Signal, Tool, ToolError, bind_to_parent, last_lines};
use rustix::process::{Pid, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::import::{ImportError, ImportOptions};
use crate::progress::Progress;
use crate::space;
use crate::store::{BadName, ImageName, ImageRecord, Store, StoreError};

mod packages;

use packages::PackageCount;

const MMDEBSTRAP: Tool = Tool { program: "mmdebstrap", package: "mmdebstrap" };
/// Not `mmdebstrap`'s own namespaces: as root it mounts in ours, and leaves the mounts when it is killed.
const UNSHARE: Tool = Tool { program: "unshare", package: "util-linux" };
const NEWUIDMAP: Tool = Tool { program: "newuidmap", package: "uidmap" };

/// Debian 12, the stable release that the `vm` image is made of.
const DEFAULT_SUITE: &str = "bookworm";
/// What a build needs for its tree and its tar beside it, for the packages of the `vm` image.
const USUAL_SPACE: u64 = 2 << 30;
/// How long `mmdebstrap` gets to clean up after SIGTERM; it takes about two seconds.
const GRACE: Duration = Duration::from_secs(10);

/// What an image of a Debian suite is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Packages beside Debian's `minbase`: one a line, `#` begins a comment.
    pub packages: &'static str,
    /// Files laid over the tree: path inside it, and contents. Owned by root, mode 0644.
    pub files: &'static [(&'static str, &'static str)],
    /// A shell script, run outside the tree with the tree as its first argument; the folder of `files` is
    /// `files` beside it.
    pub customize: &'static str,
}

/// The general Linux lab: a shell with what a learner expects in it, and systemd.
pub const VM: Definition = Definition {
    packages: include_str!("../images/vm/packages"),
    files: &[
        ("etc/apt/apt.conf.d/90lab", include_str!("../images/vm/files/etc/apt/apt.conf.d/90lab")),
        ("etc/default/locale", include_str!("../images/vm/files/etc/default/locale")),
        ("etc/motd", include_str!("../images/vm/files/etc/motd")),
        ("etc/profile.d/lab-locale.sh", include_str!("../images/vm/files/etc/profile.d/lab-locale.sh")),
        ("etc/ssh/sshd_config.d/lab.conf", include_str!("../images/vm/files/etc/ssh/sshd_config.d/lab.conf")),
        ("etc/sudoers.d/lab", include_str!("../images/vm/files/etc/sudoers.d/lab")),
        (
            "etc/systemd/journald.conf.d/lab.conf",
            include_str!("../images/vm/files/etc/systemd/journald.conf.d/lab.conf"),
        ),
        (
            "etc/systemd/system/ssh.service.d/lab.conf",
            include_str!("../images/vm/files/etc/systemd/system/ssh.service.d/lab.conf"),
        ),
    ],
    customize: include_str!("../images/vm/customize"),
};

/// What may be chosen about a build.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// The Debian suite. Default: `bookworm`.
    pub suite: String,
    /// The mirror, a URL or a line of `sources.list`. Default: `mmdebstrap`'s own choice for the suite, with the
    /// suite's updates and security updates; apt's configuration on this machine does not matter.
    pub mirror: Option<String>,
    /// How the tar is imported.
    pub import: ImportOptions,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self { suite: DEFAULT_SUITE.to_owned(), mirror: None, import: ImportOptions::default() }
    }
}

/// No image was built, and the store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The name cannot be one of an image.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// A program is missing, or could not be run.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// An ordinary user has no subordinate ids.
    #[error(
        "user `{user}` has no subordinate ids in /etc/subuid, which a build without root needs: \
         run `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}` as root, \
         or build as root"
    )]
    NoSubordinateIds {
        /// The user's name, or its number.
        user: String,
    },
    /// `mmdebstrap` failed.
    #[error("mmdebstrap could not build a tree of Debian {suite} ({status}); its last words:\n{output}")]
    Mmdebstrap {
        /// The suite.
        suite: String,
        /// Its exit status.
        status: ExitStatus,
        /// The last lines it printed.
        output: String,
    },
    /// A file of the build cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The tree could not be made an image.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The store could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Builds `definition` and gives the image `name`. Takes one to two minutes for [`VM`], and a mirror that can
/// be reached.
///
/// # Errors
/// See [`BuildError`]. The store is then as it was.
pub async fn build(
    store: &Store,
    name: &str,
    definition: &Definition,
    options: BuildOptions,
    progress: Arc<dyn Progress>,
) -> Result<ImageRecord, BuildError> {
    name.parse::<ImageName>()?;
    let is_root = rustix::process::geteuid().is_root();
    let mut command = if is_root { contained_mmdebstrap()? } else { MMDEBSTRAP.command()? };
    if !is_root {
        check_subordinate_ids()?;
        // Not SIGKILL, after which it would leave its tree.
        bind_to_parent(&mut command, Signal::TERM);
    }
    let workspace = store.workspace()?;
    space::ensure(workspace.path(), USUAL_SPACE).map_err(ImportError::from)?;
    let tar = workspace.join("tree.tar");
    let tar_file =
        File::create_new(&tar).map_err(|source| BuildError::Write { path: tar.clone(), source })?;
    // In a user namespace `mmdebstrap` is another user, who cannot enter the store.
    let temporary = if is_root { workspace.path().to_owned() } else { std::env::temp_dir() };
    let scratch = Scratch::create(definition, &temporary)?;

    command.args(["--variant=minbase", "--format=tar", "--verbose"]);
    command.arg(if is_root { "--mode=root" } else { "--mode=unshare" });
    // Manuals in English and no translations: the image's locale is C.UTF-8. dpkg keeps to it afterwards too.
    for option in [
        "path-exclude=/usr/share/locale/*",
        "path-include=/usr/share/locale/locale.alias",
        "path-exclude=/usr/share/man/*",
        "path-include=/usr/share/man/man[1-9]/*",
    ] {
        command.arg(format!("--dpkgopt={option}"));
    }
    command.arg(format!("--include={}", package_names(definition.packages).join(",")));
    command.arg(format!("--customize-hook='{}' \"$1\"", scratch.script().display()));
    command.arg(&options.suite).arg("-").args(options.mirror.as_deref());
    command.env("LC_ALL", "C").env("TMPDIR", scratch.folder.path());
    if let Some(seconds) = options.import.source_date_epoch {
        command.env("SOURCE_DATE_EPOCH", seconds.to_string());
    }
    command.stdout(tar_file).stderr(Stdio::piped());
    run(command, &options.suite, &*progress).await?;
    drop(scratch);

    let description = Some(format!("Debian {}", options.suite));
    let import = ImportOptions { description, ..options.import };
    Ok(store.import(name, &tar, import, progress).await?)
}

/// `mmdebstrap` in a mount and a process namespace, which end with the process that we start, however that
/// ends.
fn contained_mmdebstrap() -> Result<Command, ToolError> {
    let Tool { program, package } = MMDEBSTRAP;
    let mmdebstrap = MMDEBSTRAP.find().ok_or(ToolError::Missing { program, package })?;
    let mut command = UNSHARE.command()?;
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]).arg(mmdebstrap);
    Ok(command)
}

async fn run(mut command: Command, suite: &str, progress: &dyn Progress) -> Result<(), BuildError> {
    let cannot_run = |source| ToolError::Run { program: MMDEBSTRAP.program, source };
    // Ended by its guard, in order: SIGKILL would leave its temporary tree.
    command.kill_on_drop(false);
    let mut bootstrap = EndedInOrder(command.spawn().map_err(cannot_run)?);
    let printed = bootstrap.0.stderr.take().expect("standard error was asked to be a pipe");
    let last = follow(printed, progress).await.map_err(cannot_run)?;
    let status = bootstrap.0.wait().await.map_err(cannot_run)?;
    if !status.success() {
        return Err(BuildError::Mmdebstrap { suite: suite.to_owned(), status, output: last });
    }
    Ok(())
}

/// Reads what `mmdebstrap` prints, to its end; returns the last lines.
async fn follow(printed: impl AsyncRead + Unpin, progress: &dyn Progress) -> io::Result<String> {
    const KEPT: usize = 4 << 10;
    let mut count = PackageCount::default();
    let mut last = Vec::new();
    let mut reader = BufReader::new(printed);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await? > 0 {
        count.read_line(String::from_utf8_lossy(&line).trim_end(), progress);
        last.append(&mut line);
        last.drain(..last.len().saturating_sub(KEPT));
    }
    Ok(last_lines(&last, 8))
}

/// Ends `mmdebstrap` with all it started when dropped, and gives it time to remove its temporary tree.
struct EndedInOrder(Child);

impl Drop for EndedInOrder {
    fn drop(&mut self) {
        let group = self.0.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        // Without a pid it has been waited for.
        let Some(group) = group else { return };
        let _ = kill_process_group(group, Signal::TERM);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// The script, its files, and `mmdebstrap`'s temporary tree. Open to all who can enter its parent; nothing in
/// it is secret.
struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    fn create(definition: &Definition, parent: &Path) -> Result<Self, BuildError> {
        let folder = tempfile::Builder::new().prefix("dozlab-build-").tempdir_in(parent);
        let folder = folder.map_err(|source| BuildError::Write { path: parent.to_owned(), source })?;
        let scratch = Self { folder };
        scratch
            .write(definition)
            .map_err(|source| BuildError::Write { path: scratch.folder.path().into(), source })?;
        Ok(scratch)
    }

    fn write(&self, definition: &Definition) -> io::Result<()> {
        // World-writable with the sticky bit, like /tmp itself: the other user makes its tree here.
        fs::set_permissions(self.folder.path(), Permissions::from_mode(0o1777))?;
        let files = self.folder.path().join("files");
        fs::create_dir(&files)?;
        fs::set_permissions(&files, Permissions::from_mode(0o755))?;
        for (path, contents) in definition.files {
            let path = files.join(path);
            let parent = path.parent().expect("it is below `files`");
            fs::create_dir_all(parent)?;
            for folder in parent.ancestors().take_while(|folder| *folder != files) {
                fs::set_permissions(folder, Permissions::from_mode(0o755))?;
            }
            write_with_mode(&path, contents, 0o644)?;
        }
        write_with_mode(&self.script(), definition.customize, 0o755)
    }

    fn script(&self) -> PathBuf {
        self.folder.path().join("customize")
    }
}

fn write_with_mode(path: &Path, contents: &str, mode: u32) -> io::Result<()> {
    fs::write(path, contents)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn package_names(list: &str) -> Vec<&str> {
    list.lines()
        .filter_map(|line| line.split('#').next())
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect()
}

fn check_subordinate_ids() -> Result<(), BuildError> {
    if NEWUIDMAP.find().is_none() {
        return Err(ToolError::Missing { program: NEWUIDMAP.program, package: NEWUIDMAP.package }.into());
    }
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = user_name(&passwd, &uid).unwrap_or(&uid);
    let subuid = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let has_ids =
        subuid.lines().any(|line| line.split(':').next().is_some_and(|owner| owner == user || owner == uid));
    if !has_ids {
        return Err(BuildError::NoSubordinateIds { user: user.to_owned() });
    }
    Ok(())
}

fn user_name<'a>(passwd: &'a str, uid: &str) -> Option<&'a str> {
    passwd.lines().find(|line| line.split(':').nth(2) == Some(uid))?.split(':').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_packages_is_read_without_its_comments() {
        assert_eq!(package_names("# shell\nbash\n\nvim   # an editor\n"), ["bash", "vim"]);
        let names = package_names(VM.packages);
        for wanted in
            ["bash", "vim", "curl", "git", "less", "man-db", "python3", "iproute2", "sudo", "systemd-sysv"]
        {
            assert!(names.contains(&wanted), "{wanted} is not in the vm image");
        }
    }

    #[test]
    fn every_file_of_the_vm_image_is_embedded() {
        fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, found);
                } else {
                    found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/vm/files");
        let mut found = Vec::new();
        walk(&root, &root, &mut found);
        found.sort();
        let embedded: Vec<_> = VM.files.iter().map(|(path, _)| *path).collect();
        assert_eq!(found, embedded);
    }
}
