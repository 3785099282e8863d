//! `dozlab kernel`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Kernel {
    /// Prepare Debian's newest kernel for virtual machines, or that of a package file
    #[command(after_help = IMPORT)]
    Import {
        /// A Debian kernel package (linux-image-…_amd64.deb)
        package: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Build the slim kernel from Debian's source of Linux: some 20 minutes on two processors, once
    ///
    /// What was built is kept by its source, configuration and way of building, and labs boot it from then on. An
    /// interrupted build goes on where it was.
    #[command(after_help = BUILD)]
    Build(Build),
    /// Choose the kernel that labs boot
    #[command(after_help = USE)]
    Use {
        /// slim, debian, a release from `dozlab kernel ls`, or auto: a slim one where there is one
        which: String,
        #[command(flatten)]
        output: Output,
    },
    /// List the kernels
    #[command(after_help = LS)]
    Ls(Output),
}

const IMPORT: &str = "\
Examples:
  dozlab kernel import
  dozlab kernel import linux-image-6.1.0-56-cloud-amd64_6.1.192-1_amd64.deb
  dozlab kernel import --output json | jq -r .release";

const BUILD: &str = "\
Examples:
  dozlab kernel build
  dozlab kernel build --config mine.config --check     only whether the source can be configured so
  dozlab kernel build --config mine.config --keep --jobs 8";

const USE: &str = "\
Examples:
  dozlab kernel use debian
  dozlab kernel use auto";

const LS: &str = "\
Examples:
  dozlab kernel ls
  dozlab kernel ls --output json | jq -r '.[].release'";

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// A source package (linux-source-…_all.deb) [default: Debian's newest is downloaded]
    pub(crate) package: Option<PathBuf>,
    /// Another configuration: lines as in `.config`, over everything off
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Compilers at a time [default: one a processor]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// Keep source and objects (4 GB), so that another configuration compiles only what it changes
    #[arg(long)]
    pub(crate) keep: bool,
    /// Only check that the source can be configured so
    #[arg(long)]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}
