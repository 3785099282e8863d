//! `dozlab image`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Subcommand;
use dozlab_session::size::{ByteSize, SizeError};

use super::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Make an image of an ext4 file, a folder, a tar (.tar, .tar.gz, .tar.xz, .tar.zst), or an OCI image
    #[command(after_help = IMPORT)]
    Import {
        /// The file or folder, or http(s)://…, s3://…, gs://…, oci://HOST/NAME:TAG, docker://NAME:TAG, oci:FOLDER,
        /// oci-archive:FILE, docker-archive:FILE
        source: OsString,
        /// The image's name [default: the file's or repository's, without endings]
        #[arg(long)]
        name: Option<String>,
        /// Speak to the registry without TLS (on a loopback address that is so anyway)
        #[arg(long)]
        plain_http: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Build an image
    #[command(after_help = BUILD)]
    Build {
        /// Which: a name, or the path of a folder with an image.toml
        definition: String,
        /// The image's name [default: the definition's]
        #[arg(long)]
        name: Option<String>,
        /// The Debian mirror
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
        /// Take the programs of the definition's source NAME from a folder
        #[arg(long, value_name = "NAME=FOLDER", value_parser = source_folder)]
        source: Vec<(String, PathBuf)>,
        /// Write the compressed image, its digest, provenance and list of software into this folder too
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// List the images
    #[command(after_help = LS)]
    Ls(Output),
    /// Show what is known of an image, and who uses it
    #[command(after_help = INSPECT)]
    Inspect {
        /// Its name, or the beginning of its digest
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// Read images again and compare them with their digests
    ///
    /// Exits with 1 if one is damaged.
    #[command(after_help = VERIFY)]
    Verify {
        /// Their names [default: all]
        names: Vec<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Remove images that were not used for longest, until the store is small enough
    ///
    /// An image that a lab uses stays, and so does what somebody is reading.
    #[command(after_help = PRUNE)]
    Prune {
        /// How much the store may take: 20G, 0
        #[arg(long, value_name = "SIZE", value_parser = store_size)]
        keep: u64,
        #[command(flatten)]
        output: Output,
    },
    /// Remove an image
    #[command(after_help = RM)]
    Rm {
        /// Its name
        name: String,
        #[command(flatten)]
        output: Output,
    },
}

fn source_folder(text: &str) -> Result<(String, PathBuf), String> {
    let (name, folder) = text.split_once('=').ok_or("it must be NAME=FOLDER")?;
    Ok((name.to_owned(), folder.into()))
}

fn store_size(text: &str) -> Result<u64, SizeError> {
    if text == "0" { Ok(0) } else { ByteSize::from_disk_size(text).map(ByteSize::as_bytes) }
}

const IMPORT: &str = "\
Examples:
  dozlab image import rootfs.tar.zst --name mine && dozlab up mine
  dozlab image import ./tree
  dozlab image import https://images.example.org/lab.ext4
  dozlab image import docker://debian:trixie-slim
  docker save mine --output mine.tar && dozlab image import docker-archive:mine.tar";

const LS: &str = "\
Examples:
  dozlab image ls
  dozlab image ls --output json | jq -r '.[].name'";

const INSPECT: &str = "\
Examples:
  dozlab image inspect vm
  dozlab image inspect vm --output json | jq -r .digest";

const VERIFY: &str = "\
Examples:
  dozlab image verify
  dozlab image verify vm --output json | jq -e 'all(.sound)'";

const PRUNE: &str = "\
Examples:
  dozlab image prune --keep 20G
  dozlab image prune --keep 0        all that no lab uses";

const RM: &str = "\
Examples:
  dozlab image rm mine
  dozlab image rm mine --output json | jq .freed";

const BUILD: &str = "\
Definitions that come with this program:
  vm        the general Linux lab
  k8s       Kubernetes on one node; takes its programs from upstream, or from --source kubernetes=FOLDER
  minimal   busybox and nothing else

SOURCE_DATE_EPOCH, in seconds, is the newest time that anything in the image has.

Examples:
  dozlab image build vm
  dozlab image build ./images/mine --name mine --out release";
