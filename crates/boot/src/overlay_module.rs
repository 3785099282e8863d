//! Sees to it that the guest can mount an overlay before it has its root.
//!
//! A kernel that an earlier version prepared has no module for that among those of its initramfs. Its disk of modules has
//! it, and is an ext4 file like any other: the module is taken from there.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use dozlab_process::Tool;

use crate::modules::{self, OVERLAY};
use crate::{Kernel, KernelError};

const DEBUGFS: Tool = Tool { program: "debugfs", package: "e2fsprogs" };

impl Kernel {
    /// Sees to it that the initramfs of this kernel holds what an overlay as the root needs. Returns whether the guest
    /// can mount one; a kernel without a disk of modules has it built in, or not at all.
    ///
    /// # Errors
    /// [`KernelError`]: the module is there and cannot be had.
    pub async fn provide_overlay(&self) -> Result<bool, KernelError> {
        let early = self.early_modules();
        let order_file = early.join("order");
        let order = fs::read_to_string(&order_file).map_err(file("read", &order_file))?;
        let Some(disk) = self.modules_disk() else { return Ok(true) };
        let has = |list: &str| list.lines().any(|line| modules::is_called(line, OVERLAY));
        if has(&order) || has(&read(&disk, "/modules.builtin").await?) {
            return Ok(true);
        }
        let dependencies = read(&disk, "/modules.dep").await?;
        let mut extended = order.clone();
        for path in modules::load_order_of(&dependencies, &[OVERLAY]) {
            let name = path.rsplit('/').next().unwrap_or(path);
            if order.lines().any(|known| known == name) {
                continue;
            }
            // Two processes may be at it: each dumps a file of its own and moves it into place.
            let partial = tempfile::Builder::new().prefix(".dump-").tempfile_in(&early);
            let partial = partial.map_err(file("create a file in", &early))?;
            let command = format!("dump \"/{path}\" \"{}\"", partial.path().display());
            DEBUGFS.run(["-R".as_ref(), command.as_ref(), disk.as_os_str()]).await?;
            let place = early.join(name);
            partial.persist(&place).map_err(|error| file("write", &place)(error.error))?;
            extended.push_str(name);
            extended.push('\n');
        }
        if extended == order {
            return Ok(false);
        }
        let partial = tempfile::Builder::new().prefix(".order-").tempfile_in(&early);
        let partial = partial.map_err(file("create a file in", &early))?;
        fs::write(partial.path(), &extended).map_err(file("write", partial.path()))?;
        partial.persist(&order_file).map_err(|error| file("write", &order_file)(error.error))?;
        Ok(true)
    }
}

/// The text of a file on the disk of modules; empty where it is not there.
async fn read(disk: &Path, path: &str) -> Result<String, KernelError> {
    let command = OsString::from(format!("cat \"{path}\""));
    let output = DEBUGFS.run([OsString::from("-R"), command, disk.into()]).await?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> KernelError + 'a {
    move |source| KernelError::File { action, path: path.to_owned(), source }
}
