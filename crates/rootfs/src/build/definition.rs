//! What an image is made of: the file `image.toml`, and what lies beside it.
//!
//! ```toml
//! description = "one line for a person"
//! base = { debian = "bookworm" }            # see `Base`
//! packages = ["bash", "vim"]                # beside Debian's minbase set
//! exclude = ["/usr/share/locale/*"]         # dpkg leaves these paths out, now and later ...
//! keep = ["/usr/share/locale/locale.alias"] # ... but for these
//! commands = ["useradd --create-home lab"]  # by /bin/sh -eu, as root, in the tree, after the files
//! network = false                           # whether commands may reach the network; the default
//! user = "lab"                              # who a learner logs in as; default: uid 1000, else root
//! size = "1G"                               # of the file system; default: what it needs, and 128 MiB
//! date = 2026-11-01                         # newest time in the image; SOURCE_DATE_EPOCH goes before it
//!
//! [[files]]                                 # in this order, the later on top; see `FileEntry`
//! from = "files"
//! to = "/"
//!
//! [sources.tools]                           # programs that are fetched when it is built; see `Source`
//! url = "https://example.org/release/v1"
//! files = ["tool"]
//! to = "/usr/local/bin"
//! ```
//!
//! A key that is not known, or a value that cannot be, is refused with its line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dozlab_session::name::LoginUser;
use dozlab_session::size::ByteSize;
use serde::{Deserialize, Deserializer, de};

use super::folder::{DefinitionFolder, embedded_names};

mod values;

pub use values::{BesidePath, FileMode, FileName, OciText, PackageName, PathPattern, Suite, TargetPath};

/// The definition's file in its folder.
pub(super) const FILE: &str = "image.toml";

/// A definition that was read, and the folder that it lies in.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Its name: the folder's.
    pub name: String,
    /// What `image.toml` says.
    pub image: ImageToml,
    /// The text of `image.toml`.
    pub(super) text: String,
    pub(super) folder: DefinitionFolder,
}

/// There is no such definition, or it makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// A name that none of the definitions in this program has.
    #[error(
        "there is no definition of an image `{name}`: there are {}, or give the path of a folder with an \
         {FILE}, `./{name}`",
        embedded_names().join(", ")
    )]
    Unknown {
        /// The name.
        name: String,
    },
    /// The definition, or a file that it names, cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// `image.toml` is not what this module's documentation describes.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and key.
        reason: String,
    },
}

impl Definition {
    /// The definition with this name among those in the program (`vm`, `k8s`, `minimal`), or, where
    /// `reference` has a slash or is `.`, that in a folder.
    ///
    /// # Errors
    /// [`DefinitionError`].
    pub fn find(reference: &str) -> Result<Self, DefinitionError> {
        if reference.contains('/') || reference == "." {
            return Self::open(DefinitionFolder::OnDisk(reference.into()));
        }
        let folder = DefinitionFolder::embedded(reference)
            .ok_or_else(|| DefinitionError::Unknown { name: reference.to_owned() })?;
        Self::open(folder)
    }

    /// Whether the program has a definition with this name.
    #[must_use]
    pub fn is_embedded(name: &str) -> bool {
        DefinitionFolder::embedded(name).is_some()
    }

    fn open(folder: DefinitionFolder) -> Result<Self, DefinitionError> {
        let path = folder.display(Path::new(FILE));
        let malformed = |reason| DefinitionError::Malformed { path: path.clone(), reason };
        let bytes = folder.read(Path::new(FILE))?;
        let text = String::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8 text".to_owned()))?;
        let image: ImageToml =
            toml::from_str(&text).map_err(|error| malformed(error.to_string().trim_end().to_owned()))?;
        image.check().map_err(malformed)?;
        let name = folder.name()?;
        Ok(Self { name, image, text, folder })
    }
}

/// The keys of `image.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageToml {
    /// One line for a person.
    pub description: String,
    /// What everything else is laid upon.
    pub base: Base,
    /// Debian packages, with what they depend on; nothing that is only recommended. Default: none.
    #[serde(default)]
    pub packages: Vec<PackageName>,
    /// Paths, with wildcards, that `dpkg` does not install; it keeps to that in the image. Default: none.
    #[serde(default)]
    pub exclude: Vec<PathPattern>,
    /// Of those, the ones that it does install. Default: none.
    #[serde(default)]
    pub keep: Vec<PathPattern>,
    /// What is laid over the tree, in this order. Default: nothing.
    #[serde(default)]
    pub files: Vec<FileEntry>,
    /// Programs that are fetched, or copied from a folder that is given at build time. Default: none.
    #[serde(default)]
    pub sources: BTreeMap<String, Source>,
    /// Shell commands, run as root inside the tree when all files are there. Default: none.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Whether the commands may reach the network. Default: no.
    #[serde(default)]
    pub network: bool,
    /// Who a learner logs in as; the image must have that user. Default: uid 1000 where there is one, else
    /// `root`.
    pub user: Option<LoginUser>,
    /// Size of the file system in bytes, `1G` in the file. Default: its contents and a quarter, and 128 MiB.
    #[serde(default, deserialize_with = "disk_size")]
    pub size: Option<ByteSize>,
    /// The newest time that anything in the image has, midnight UTC of a day. Default: the newest in the
    /// tree, which for Debian is the time of the build.
    pub date: Option<toml::value::Datetime>,
}

/// What an image begins with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// A Debian suite's `minbase` set with the packages installed: `{ debian = "bookworm" }`.
    Debian(Suite),
    /// Nothing but the files of the packages, unpacked and not installed: `{ debian-extract = "bookworm" }`.
    DebianExtract(Suite),
    /// An OCI image: `{ oci = "docker://alpine:3.20" }`, `{ oci = "docker-archive:base.tar" }`, as `dozlab
    /// image import` takes it. A relative path begins at the definition's folder.
    Oci(OciText),
}

/// Something that is laid over the tree.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "FileKeys")]
pub struct FileEntry {
    /// Where it goes. What is there already gives way, but for folders.
    pub to: TargetPath,
    /// What it is.
    pub body: FileBody,
    /// Owner and group. Default: root.
    pub owner: (u32, u32),
    /// The mode of files. Default: 0644, whatever the file here has. Folders have 0755, links none.
    pub mode: Option<FileMode>,
}

/// What a file entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileBody {
    /// `from`: a file, or a folder with all below it, beside `image.toml`.
    From(BesidePath),
    /// `text`: these characters.
    Text(String),
    /// `link`: a symbolic link to this.
    Link(String),
    /// `folder = true`: a folder, with `mode` if there is one.
    Folder,
}

impl FileEntry {
    /// Where its bytes lie beside `image.toml`.
    pub(super) fn from(&self) -> Option<PathBuf> {
        match &self.body {
            FileBody::From(path) => Some(path.as_path().to_owned()),
            FileBody::Text(_) | FileBody::Link(_) | FileBody::Folder => None,
        }
    }
}

/// The keys of a `[[files]]` table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKeys {
    to: TargetPath,
    from: Option<BesidePath>,
    text: Option<String>,
    link: Option<String>,
    #[serde(default)]
    folder: bool,
    #[serde(default)]
    owner: u32,
    #[serde(default)]
    group: u32,
    mode: Option<FileMode>,
}

/// Programs that come from upstream and not from Debian.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The address that the names are appended to, with `NAME.sha256` beside each: its digest in hexadecimal.
    pub url: String,
    /// The names.
    pub files: Vec<FileName>,
    /// The folder that they are put into, mode 0755, owned by root.
    pub to: TargetPath,
}

impl ImageToml {
    /// What one key says of another.
    fn check(&self) -> Result<(), String> {
        let date = self.date.as_ref();
        if date.is_some_and(|date| date.date.is_none() || date.time.is_some() || date.offset.is_some()) {
            return Err("`date` must be a day without a time: 2026-11-01".to_owned());
        }
        let wants_packages = !self.packages.is_empty() || !self.exclude.is_empty() || !self.keep.is_empty();
        if matches!(self.base, Base::Oci(_)) && wants_packages {
            return Err(
                "`packages`, `exclude` and `keep` need a base of Debian: with `base = { oci = … }`, let \
                        `commands` run the image's own package manager, with `network = true`"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// `date` in seconds since the epoch.
    pub(super) fn source_date(&self) -> Option<i64> {
        let date = self.date?.date?;
        let day = chrono::NaiveDate::from_ymd_opt(date.year.into(), date.month.into(), date.day.into())?;
        Some(day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp())
    }
}

fn disk_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ByteSize>, D::Error> {
    let text = String::deserialize(deserializer)?;
    ByteSize::from_disk_size(&text).map(Some).map_err(de::Error::custom)
}

impl TryFrom<FileKeys> for FileEntry {
    type Error = String;

    fn try_from(keys: FileKeys) -> Result<Self, String> {
        let bodies = [
            keys.from.map(FileBody::From),
            keys.text.map(FileBody::Text),
            keys.link.map(FileBody::Link),
            keys.folder.then_some(FileBody::Folder),
        ];
        let mut bodies = bodies.into_iter().flatten();
        let (Some(body), None) = (bodies.next(), bodies.next()) else {
            return Err("one of `from`, `text`, `link` and `folder = true` must say what it holds".to_owned());
        };
        if matches!(body, FileBody::Link(_)) && keys.mode.is_some() {
            return Err("a link has no `mode`".to_owned());
        }
        Ok(Self { to: keys.to, body, owner: (keys.owner, keys.group), mode: keys.mode })
    }
}

#[cfg(test)]
mod tests;
