//! The root as two disks: the image, which many sessions read, and the session's own disk laid over it.
//!
//! ```text
//!   /            overlay: upper/ of the session's disk, over the image
//!   /rom         the image as it is, read-only
//!   /rom/overlay the session's disk, writable: upper/, work/, own/
//! ```
//!
//! These are the places that existing images know. The image has no folder `overlay` to mount a disk on and cannot be
//! given one, so `/rom` is itself a read-only overlay, of the image and a folder that has it.
//!
//! Overlays cannot be stacked at will: container engines lay their own over `/var/lib/docker` and the like, and
//! overlayfs does not take an overlay as its upper layer. So those folders come straight from the session's disk.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};

use super::root_disk::{NEW_ROOT, RootDiskError, mount_ext4};

/// Where the session's disk is seen once the root is in place.
pub(crate) const DISK: &str = "/rom/overlay";
/// Where the two are mounted while the root is put together, in the initramfs.
const BASE: &str = "/base";
const UPPER_DISK: &str = "/disk";
/// A folder of the initramfs that has nothing but the place for [`DISK`].
const PLACES: &str = "/places";
/// A file of the disk that holds some space back: the kernel writes to the disk to mount an overlay, and mounts it
/// read-only where the disk is full. The file makes way for that and comes back after.
const RESERVE: &str = "reserve";
/// Bytes of it. The kernel makes a folder or two.
const RESERVED: u64 = 256 << 10;
/// Folders whose programs mount overlays of their own: Docker, containerd, Podman and Buildah, k3s.
const OWN: [&str; 4] = ["/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/var/lib/rancher"];

/// Lays the disk `overlay` over the image `base`, and mounts the result as the new root.
pub(crate) fn mount(base: &str, overlay: &str) -> Result<(), RootDiskError> {
    let failed = |what| {
        move |source: io::Error| RootDiskError::Overlay {
            base: base.to_owned(),
            overlay: overlay.to_owned(),
            what,
            source,
        }
    };
    let make = |folder: &str| fs::create_dir_all(folder).map_err(failed("cannot make a folder"));
    make(BASE)?;
    make(UPPER_DISK)?;
    make(&format!("{PLACES}/overlay"))?;
    mount_ext4(base, BASE, MountFlags::RDONLY)?;
    mount_ext4(overlay, UPPER_DISK, MountFlags::empty())?;
    prepare_layers(Path::new(BASE), Path::new(UPPER_DISK)).map_err(failed("cannot make its layers"))?;

    give_reserve_back(Path::new(UPPER_DISK)).map_err(failed("cannot free its reserve"))?;
    // `redirect_dir`: without it a folder of the image cannot be renamed, which programs do not expect.
    let root =
        format!("lowerdir={BASE},upperdir={UPPER_DISK}/upper,workdir={UPPER_DISK}/work,redirect_dir=on");
    mount_overlay(NEW_ROOT, MountFlags::empty(), &root).map_err(failed(
        "the kernel refuses to mount the overlay (one prepared by an older version of Dozlab lacks the module: \
         run `dozlab kernel import`)",
    ))?;
    // The machine needs none of these to run.
    let _ = take_reserve(Path::new(UPPER_DISK));
    let _ = show_layers();
    Ok(())
}

fn mount_overlay(target: &str, flags: MountFlags, options: &str) -> io::Result<()> {
    let options = std::ffi::CString::new(options)?;
    Ok(rustix::mount::mount("overlay", target, "overlay", flags, Some(options.as_c_str()))?)
}

/// Makes the layers where the disk lacks them. What the root folder itself is like comes from the upper layer, so that
/// is made like the image's, once.
fn prepare_layers(base: &Path, disk: &Path) -> io::Result<()> {
    let (upper, work) = (disk.join("upper"), disk.join("work"));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    // The kernel makes this folder when it first mounts the overlay.
    if !work.join("work").exists() {
        let root = fs::metadata(base)?;
        std::os::unix::fs::chown(&upper, Some(root.uid()), Some(root.gid()))?;
        fs::set_permissions(&upper, root.permissions())?;
    }
    Ok(())
}

/// Frees the space that was held back. What is freed can be used once it is written through; a disk with other space
/// need not wait for that.
fn give_reserve_back(disk: &Path) -> io::Result<()> {
    match fs::remove_file(disk.join(RESERVE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if free_bytes(disk)? < 4 * RESERVED {
        // The kernel's own folder of last time takes a block, and is made anew.
        let _ = fs::remove_dir_all(disk.join("work/work"));
        rustix::fs::syncfs(fs::File::open(disk)?)?;
    }
    Ok(())
}

/// Holds space back for the next boot: as much as there is, where that is little.
fn take_reserve(disk: &Path) -> io::Result<()> {
    let length = free_bytes(disk)?.min(RESERVED);
    let file = fs::File::create(disk.join(RESERVE))?;
    Ok(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length)?)
}

fn free_bytes(disk: &Path) -> io::Result<u64> {
    let statistics = rustix::fs::statvfs(disk)?;
    Ok(statistics.f_bavail.saturating_mul(statistics.f_frsize))
}

/// Moves the image and the disk to where they can be seen in the new root.
fn show_layers() -> io::Result<()> {
    let rom = format!("{NEW_ROOT}/rom");
    fs::create_dir_all(&rom)?;
    mount_overlay(&rom, MountFlags::RDONLY, &format!("lowerdir={PLACES}:{BASE}"))?;
    rustix::mount::mount_move(UPPER_DISK, format!("{NEW_ROOT}{DISK}"))?;
    Ok(rustix::mount::unmount(BASE, UnmountFlags::DETACH)?)
}

/// Mounts folders of the session's disk on those that cannot be on an overlay, where the image has nothing in them.
/// Returns what went wrong, or is worth knowing.
pub(crate) fn give_own_folders() -> Vec<String> {
    let mut remarks = Vec::new();
    for folder in OWN {
        match give_own_folder(Path::new(folder)) {
            Ok(true) => {}
            Ok(false) => remarks.push(format!(
                "{folder} has content of the image and stays on the overlay: its overlays do not work, a disk made by \
                 `--disk-mode copy` or `reflink` has them"
            )),
            Err(error) => remarks.push(format!("{folder} stays on the overlay: {error}")),
        }
    }
    remarks
}

/// Whether the folder is on the session's disk now.
fn give_own_folder(folder: &Path) -> io::Result<bool> {
    let parent = folder.parent().unwrap_or(Path::new("/"));
    if !parent.is_dir() {
        // An image without such a folder has no such program either.
        return Ok(true);
    }
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Ok(false),
        Ok(false) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(folder)?,
        Err(error) => return Err(error),
    }
    let own = Path::new(DISK).join("own").join(folder.strip_prefix("/").unwrap_or(folder));
    if !own.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&own)?;
        let like = fs::metadata(folder)?;
        std::os::unix::fs::chown(&own, Some(like.uid()), Some(like.gid()))?;
        fs::set_permissions(&own, fs::Permissions::from_mode(like.permissions().mode() & 0o7777))?;
    }
    rustix::mount::mount_bind(&own, folder)?;
    Ok(true)
}
