//! Trees of Debian packages, by `mmdebstrap`.
//!
//! Nothing is configured on this machine: as root it works in mount and process namespaces of its own, as an
//! ordinary user in a user namespace, for which the user needs subordinate ids (`/etc/subuid`) and the
//! package `uidmap`.
//!
//! A build that is dropped ends `mmdebstrap` in order. Where this program is killed, root's build dies with
//! it, and its tree is swept with the store's temporary folders; an ordinary user's `mmdebstrap` is told to
//! end, and removes its tree itself once it has the packages in place.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use dozlab_process::{Signal, Tool, ToolError, bind_to_parent, last_lines};
use rustix::process::{Pid, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::definition::{ImageToml, Suite};
use super::namespaces::{check_subordinate_ids, is_root, unshared};
use super::scratch::Scratch;
use super::software::parse_stanzas;
use super::{BuildError, MadeTree};
use crate::progress::Progress;

mod count;

use count::PackageCount;

pub(super) const MMDEBSTRAP: Tool = Tool { program: "mmdebstrap", package: "mmdebstrap" };
/// How long `mmdebstrap` gets to clean up after SIGTERM; it takes about two seconds.
const GRACE: Duration = Duration::from_secs(10);

/// How packages become a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// Installed, beside Debian's `minbase` set.
    Minbase,
    /// Unpacked alone.
    Extract,
}

/// Makes the tree, furnishes it, and writes it to `tar`.
pub(super) async fn make_tree(
    (suite, variant): (&Suite, Variant),
    image: &ImageToml,
    mirror: Option<&str>,
    scratch: &Scratch,
    tar: &Path,
    progress: &dyn Progress,
) -> Result<MadeTree, BuildError> {
    let mut command = if is_root() {
        // Not mmdebstrap's own namespaces: as root it mounts in ours, and leaves the mounts when it is
        // killed.
        let Tool { program, package } = MMDEBSTRAP;
        unshared(&MMDEBSTRAP.find().ok_or(ToolError::Missing { program, package })?)?
    } else {
        let mut command = MMDEBSTRAP.command()?;
        check_subordinate_ids()?;
        // Not SIGKILL, after which it would leave its tree.
        bind_to_parent(&mut command, Signal::TERM);
        command
    };
    let hook = match variant {
        Variant::Minbase => {
            command.arg("--variant=minbase");
            "customize"
        }
        Variant::Extract => {
            // Its cleaning would run apt, whose folders `before-furnish` has removed.
            command.args(["--variant=extract", "--skip=cleanup/apt", "--skip=cleanup/mmdebstrap"]);
            "extract"
        }
    };
    command.args(["--format=tar", "--verbose"]);
    command.arg(if is_root() { "--mode=root" } else { "--mode=unshare" });
    for pattern in &image.exclude {
        command.arg(format!("--dpkgopt=path-exclude={}", pattern.as_str()));
    }
    for pattern in &image.keep {
        command.arg(format!("--dpkgopt=path-include={}", pattern.as_str()));
    }
    let packages: Vec<&str> = image.packages.iter().map(|package| package.as_str()).collect();
    if !packages.is_empty() {
        command.arg(format!("--include={}", packages.join(",")));
    }
    scratch.add_script("before-furnish", include_str!("debian/before-furnish"))?;
    for script in ["before-furnish", "furnish"] {
        command.arg(format!("--{hook}-hook='{}' \"$1\"", scratch.path().join(script).display()));
    }
    command.arg(suite.as_str()).arg("-").args(mirror);
    scratch.set_environment(&mut command);
    let tar_file =
        File::create_new(tar).map_err(|source| BuildError::Write { path: tar.to_owned(), source })?;
    command.stdout(tar_file).stderr(Stdio::piped());
    run(command, suite, progress).await?;
    Ok(MadeTree {
        base: format!("Debian {}", suite.as_str()),
        base_digests: read_indices(&scratch.found("indices")?),
        packages: parse_stanzas(&scratch.found("packages")?),
    })
}

/// The signed indices and their digests, from lines of `sha256sum`:
/// `DIGEST  ./deb.example.org_debian_dists_bookworm_InRelease`. The mirror's part of the name is left out.
fn read_indices(lines: &str) -> Vec<(String, String)> {
    let index = |line: &str| {
        let (digest, file) = line.split_once("  ")?;
        let (_, dists) = file.split_once("_dists_")?;
        Some((format!("debian/dists/{}", dists.replace('_', "/")), digest.to_owned()))
    };
    let mut indices: Vec<_> = lines.lines().filter_map(index).collect();
    indices.sort();
    indices
}

async fn run(mut command: Command, suite: &Suite, progress: &dyn Progress) -> Result<(), BuildError> {
    let cannot_run = |source| ToolError::Run { program: MMDEBSTRAP.program, source };
    // Ended by its guard, in order: SIGKILL would leave its temporary tree.
    command.kill_on_drop(false);
    let mut bootstrap = EndedInOrder(command.spawn().map_err(cannot_run)?);
    let printed = bootstrap.0.stderr.take().expect("standard error was asked to be a pipe");
    let last = follow(printed, progress).await.map_err(cannot_run)?;
    let status = bootstrap.0.wait().await.map_err(cannot_run)?;
    if !status.success() {
        return Err(BuildError::Mmdebstrap { suite: suite.as_str().to_owned(), status, output: last });
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
