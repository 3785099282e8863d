//! Kernel modules that lie in the initramfs, and the device with all the others.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

/// Folder of the modules inside the initramfs. Its file `order` names the files to load, one a line, in
/// order.
const FOLDER: &str = "/dozlab/modules";
/// Modules that are loaded when the SSH server listens, in this order, whether or not `order` names them:
/// they make the power button work, and nobody presses it before.
const LATE: [&str; 2] = ["button.ko", "evdev.ko"];
/// The module that is loaded only where the root is an overlay.
const OVERLAY: &str = "overlay.ko";

/// A module, or the list of modules, cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the kernel refuses the module {name}: {source}; is it of kernel {kernel}?", kernel = release())]
    Refused { name: String, source: io::Error },
}

/// The modules device is not mounted.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount the modules of {device} on {target}: {source}", target = target.display())]
pub(crate) struct ModulesDeviceError {
    device: String,
    target: PathBuf,
    source: io::Error,
}

/// The release of the running kernel.
pub(crate) fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The files named by the text of `order`. Empty lines and comments are passed over, and so is what is loaded
/// late, or only on demand.
fn parse_order(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|name| {
        let later = LATE.contains(name) || *name == OVERLAY;
        !name.is_empty() && !name.starts_with('#') && !name.contains('/') && !later
    })
}

/// Loads the modules that stand between us and the disk. Returns how many were loaded, and what went wrong: a
/// kernel may do without a module, and whether it can shows when the disk appears.
pub(crate) fn load_ordered() -> (usize, Vec<ModuleError>) {
    let path = Path::new(FOLDER).join("order");
    let order = match fs::read_to_string(&path) {
        Ok(order) => order,
        // A kernel with everything built in needs no modules.
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return (0, vec![ModuleError::Unreadable { path, source }]),
    };
    let (mut loaded, mut failures) = (0, Vec::new());
    for name in parse_order(&order) {
        match open(name).and_then(|file| load(name, &file)) {
            Ok(()) => loaded += 1,
            Err(error) => failures.push(error),
        }
    }
    (loaded, failures)
}

/// Loads the module for overlays, where the kernel does not have it built in.
pub(crate) fn load_overlay() -> Result<(), ModuleError> {
    if !Path::new(FOLDER).join(OVERLAY).exists() {
        return Ok(());
    }
    load(OVERLAY, &open(OVERLAY)?)
}

fn open(name: &str) -> Result<File, ModuleError> {
    let path = Path::new(FOLDER).join(name);
    File::open(&path).map_err(|source| ModuleError::Unreadable { path, source })
}

fn load(name: &str, file: &File) -> Result<(), ModuleError> {
    match rustix::system::finit_module(file, c"", 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(ModuleError::Refused { name: name.to_owned(), source: error.into() }),
    }
}

/// Modules to load later, opened while the initramfs can still be seen.
pub(crate) struct LateModules(Vec<(&'static str, File)>);

impl LateModules {
    /// Opens those that are there.
    pub(crate) fn open() -> Self {
        Self(LATE.into_iter().filter_map(|name| Some((name, open(name).ok()?))).collect())
    }

    /// Loads them.
    pub(crate) fn load(&self) -> Result<(), ModuleError> {
        self.0.iter().try_for_each(|(name, file)| load(name, file))
    }
}

/// Mounts the device with all modules where `modprobe` looks for them.
pub(crate) fn mount_device(device: &str) -> Result<(), ModulesDeviceError> {
    let target = Path::new("/lib/modules").join(release());
    let failure = |source| ModulesDeviceError { device: device.to_owned(), target: target.clone(), source };
    fs::create_dir_all(&target).map_err(failure)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount(device, &target, c"ext4", flags, None).map_err(|error| failure(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_kept_and_late_modules_are_left_out() {
        let order =
            "virtio.ko\n\n# the disk\n virtio_blk.ko \nbutton.ko\noverlay.ko\n../evil.ko\nvirtio_net.ko";
        let names: Vec<&str> = parse_order(order).collect();
        assert_eq!(names, ["virtio.ko", "virtio_blk.ko", "virtio_net.ko"]);
    }
}
