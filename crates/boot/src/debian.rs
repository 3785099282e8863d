//! Gets Debian's cloud kernel as a package file, with apt and without root.
//!
//! apt is given folders of its own for its lists and its cache, so that it neither needs the system's nor changes
//! them; sources and keys are the system's.

use std::path::{Path, PathBuf};

use dozlab_process::{Tool, ToolError};

use crate::KernelError;

/// The package that always depends on Debian's newest kernel for virtual machines.
const PACKAGE: &str = "linux-image-cloud-amd64";

const APT_GET: Tool = Tool { program: "apt-get", package: "apt" };
const APT_CACHE: Tool = Tool { program: "apt-cache", package: "apt" };

/// Downloads the newest cloud kernel's package into `folder` and returns its path.
///
/// # Errors
/// [`KernelError::Download`], with apt's own words.
pub(crate) async fn download_kernel_package(
    folder: &Path,
    progress: &dyn Fn(&str),
) -> Result<PathBuf, KernelError> {
    download(folder, progress).await.map_err(|source| KernelError::Download { source })
}

async fn download(folder: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf, ToolError> {
    let io = |source| ToolError::Run { program: "apt-get", source };
    let state = folder.join("apt");
    for needed in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(state.join(needed)).map_err(io)?;
    }
    let options = [
        format!("-oDir::State::Lists={}", state.join("lists").display()),
        format!("-oDir::Cache={}", state.join("cache").display()),
        "-oDebug::NoLocking=1".to_owned(),
        "-oAPT::Sandbox::User=".to_owned(),
        // Lists are kept compressed and only for this one look-up.
        "-oAcquire::Languages=none".to_owned(),
        // Hooks of the system's configuration are meant for the system's lists, and may need root.
        "-oAPT::Update::Post-Invoke::=true".to_owned(),
    ];
    let with = |arguments: &[&str]| -> Vec<String> {
        options.iter().cloned().chain(arguments.iter().map(|argument| (*argument).to_owned())).collect()
    };
    progress("reading Debian's package lists");
    APT_GET.run(with(&["-qq", "update"])).await?;
    let shown = APT_CACHE.run(with(&["depends", "--no-recommends", "--no-suggests", PACKAGE])).await?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let image = shown
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .filter(|name| name.starts_with("linux-image-"))
        .unwrap_or(PACKAGE);
    progress(&format!("downloading {image}"));
    let mut command = APT_GET.command()?;
    command.args(with(&["-qq", "download", image])).current_dir(folder);
    let output = command.output().await.map_err(io)?;
    let package = std::fs::read_dir(folder).map_err(io)?.filter_map(Result::ok).map(|entry| entry.path());
    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    match package.into_iter().find(is_package) {
        Some(path) if output.status.success() => Ok(path),
        _ => Err(ToolError::Failed {
            command: format!("apt-get download {image}"),
            status: output.status,
            message: dozlab_process::last_lines(&output.stderr, 6),
        }),
    }
}
