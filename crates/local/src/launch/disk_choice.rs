//! How a new session's disk comes from its image, on this machine.

use dozlab_boot::Kernel;
use dozlab_rootfs::Store;
use dozlab_rootfs::disk::{Strategy, Suited, suited};

use super::LaunchError;
use crate::folders::Folders;
use crate::session_folder::file_error;

/// What was asked for, if the kernel can do it; else what suits, if the kernel can do it; else a copy.
pub(super) async fn choose(
    asked: Option<Strategy>,
    kernel: &Kernel,
    folders: &Folders,
) -> Result<Strategy, LaunchError> {
    let wanted = match asked {
        Some(asked) => asked,
        None => on_this_machine(folders)?.strategy,
    };
    if wanted != Strategy::Overlay || kernel.provide_overlay().await? {
        return Ok(wanted);
    }
    match asked {
        Some(_) => Err(LaunchError::NoOverlay { release: kernel.release.clone() }),
        None => Ok(Strategy::Copy),
    }
}

/// What suits the folders that images and sessions are in, and why.
pub(crate) fn on_this_machine(folders: &Folders) -> Result<Suited, LaunchError> {
    let sessions = folders.sessions();
    std::fs::create_dir_all(&sessions).map_err(file_error("create", &sessions))?;
    Ok(suited(&Store::open(&folders.images())?, &sessions))
}
