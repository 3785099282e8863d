//! Gets Debian's packages as files, with apt and without root.
//!
//! apt is given folders of its own for its lists and its cache, so that it neither needs the system's nor changes
//! them; sources and keys are the system's.

use std::path::{Path, PathBuf};

use dozlab_process::{Tool, ToolError};

/// The package that always depends on Debian's newest kernel for virtual machines.
const CLOUD_KERNEL: &str = "linux-image-cloud-amd64";

const APT_GET: Tool = Tool { program: "apt-get", package: "apt" };
const APT_CACHE: Tool = Tool { program: "apt-cache", package: "apt" };

/// apt with fresh lists, in a folder of its own.
pub(crate) struct Apt<'a> {
    folder: &'a Path,
    options: Vec<String>,
}

impl<'a> Apt<'a> {
    /// Reads the package lists. What is downloaded, lists too, goes into `folder`.
    ///
    /// # Errors
    /// [`ToolError`], with apt's own words.
    pub(crate) async fn update(folder: &'a Path, progress: &dyn Fn(&str)) -> Result<Self, ToolError> {
        let state = folder.join("apt");
        for needed in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(state.join(needed)).map_err(io)?;
        }
        let options = vec![
            format!("-oDir::State::Lists={}", state.join("lists").display()),
            format!("-oDir::Cache={}", state.join("cache").display()),
            "-oDebug::NoLocking=1".to_owned(),
            "-oAPT::Sandbox::User=".to_owned(),
            // Lists are kept compressed and only for this one look-up.
            "-oAcquire::Languages=none".to_owned(),
            // Hooks of the system's configuration are meant for the system's lists, and may need root.
            "-oAPT::Update::Post-Invoke::=true".to_owned(),
        ];
        let apt = Self { folder, options };
        progress("reading Debian's package lists");
        APT_GET.run(apt.with(&["-qq", "update"])).await?;
        Ok(apt)
    }

    fn with(&self, arguments: &[&str]) -> Vec<String> {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        self.options.iter().cloned().chain(arguments).collect()
    }

    /// The name of the newest cloud kernel's package.
    pub(crate) async fn newest_kernel(&self) -> Result<String, ToolError> {
        let depends = ["depends", "--no-recommends", "--no-suggests", CLOUD_KERNEL];
        let shown = APT_CACHE.run(self.with(&depends)).await?;
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let mut depends = shown.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let image = depends.find(|name| name.starts_with("linux-image-")).unwrap_or(CLOUD_KERNEL);
        Ok(image.to_owned())
    }

    /// The version of a package that would be downloaded.
    pub(crate) async fn version(&self, package: &str) -> Result<String, ToolError> {
        let output = APT_CACHE.run(self.with(&["show", "--no-all-versions", package])).await?;
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = shown.lines().find_map(|line| line.strip_prefix("Version: "));
        version.map(|version| version.trim().to_owned()).ok_or_else(|| ToolError::Failed {
            command: format!("apt-cache show {package}"),
            status: output.status,
            message: "it names no version".into(),
        })
    }

    /// Downloads a package and returns its file.
    pub(crate) async fn download(
        &self,
        package: &str,
        progress: &dyn Fn(&str),
    ) -> Result<PathBuf, ToolError> {
        progress(&format!("downloading {package}"));
        let mut command = APT_GET.command()?;
        command.args(self.with(&["-qq", "download", package])).current_dir(self.folder);
        let output = command.output().await.map_err(io)?;
        let files =
            std::fs::read_dir(self.folder).map_err(io)?.filter_map(Result::ok).map(|entry| entry.path());
        let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
        match files.into_iter().find(is_package) {
            Some(path) if output.status.success() => Ok(path),
            _ => Err(ToolError::Failed {
                command: format!("apt-get download {package}"),
                status: output.status,
                message: dozlab_process::last_lines(&output.stderr, 6),
            }),
        }
    }
}

fn io(source: std::io::Error) -> ToolError {
    ToolError::Run { program: "apt-get", source }
}
