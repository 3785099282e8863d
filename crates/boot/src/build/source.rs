//! Linux's source, unpacked once from Debian's package.
//!
//! The package holds one compressed tar of 1.5 GB. It is unpacked beside its place and renamed into it, so a source
//! that can be seen is whole.

use std::fs;
use std::path::{Path, PathBuf};

use dozlab_process::Tool;

use super::{BuildError, file};
use crate::debian::Apt;

/// Debian's package with the source that [`Fragment::slim`](super::Fragment::slim) is written for.
pub(super) const PACKAGE: &str = "linux-source-6.1";

const DPKG_DEB: Tool = Tool { program: "dpkg-deb", package: "dpkg" };
const TAR: Tool = Tool { program: "tar", package: "tar" };
pub(super) const XZ: Tool = Tool { program: "xz", package: "xz-utils" };

/// A source package, at hand or still to be downloaded.
pub(super) enum Package<'a> {
    /// This file.
    File(&'a Path),
    /// Debian's newest.
    Newest(Apt<'a>),
}

impl<'a> Package<'a> {
    /// The given file, or else Debian's newest, of which only the lists are downloaded, into `folder`.
    pub(super) async fn find(
        given: Option<&'a Path>,
        folder: &'a Path,
        progress: &dyn Fn(&str),
    ) -> Result<Self, BuildError> {
        match given {
            Some(given) => Ok(Self::File(given)),
            None => Apt::update(folder, progress).await.map(Self::Newest).map_err(download),
        }
    }

    /// The source's version, as Debian counts: `6.1.192-2`.
    pub(super) async fn version(&self) -> Result<String, BuildError> {
        let path = match self {
            Self::Newest(apt) => return apt.version(PACKAGE).await.map_err(download),
            Self::File(path) => path,
        };
        let field = DPKG_DEB.run(["--field".as_ref(), path.as_os_str(), "Version".as_ref()]).await?;
        Ok(String::from_utf8_lossy(&field.stdout).trim().to_owned())
    }

    /// Unpacks the source into `place`, where nothing may be yet.
    pub(super) async fn unpack(&self, place: &Path, progress: &dyn Fn(&str)) -> Result<(), BuildError> {
        let parent = place.parent().unwrap_or(place);
        let work = tempfile::Builder::new().prefix(".source-").tempdir_in(parent);
        let work = work.map_err(file("create a folder in", parent))?;
        let package = match self {
            Self::File(path) => (*path).to_owned(),
            Self::Newest(apt) => apt.download(PACKAGE, progress).await.map_err(download)?,
        };
        progress("unpacking Linux's source");
        let files = work.path().join("package");
        DPKG_DEB.run(["--extract".as_ref(), package.as_os_str(), files.as_os_str()]).await?;
        let archive =
            archive_in(&files).ok_or_else(|| BuildError::NotASource { package: package.clone() })?;
        let tree = work.path().join("tree");
        fs::create_dir(&tree).map_err(file("create", &tree))?;
        let into = ["--strip-components=1".as_ref(), "-C".as_ref(), tree.as_os_str()];
        let from = ["--use-compress-program=xz".as_ref(), "-xf".as_ref(), archive.as_os_str()];
        TAR.run(from.into_iter().chain(into)).await?;
        if matches!(self, Self::Newest(_)) {
            fs::remove_file(&package).map_err(file("remove", &package))?;
        }
        fs::rename(&tree, place).map_err(file("create", place))
    }
}

fn download(source: dozlab_process::ToolError) -> BuildError {
    BuildError::Download { source }
}

/// `usr/src/linux-source-6.1.tar.xz`, whatever its version.
fn archive_in(files: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(files.join("usr/src")).ok()?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|path| path.to_string_lossy().ends_with(".tar.xz"))
}
