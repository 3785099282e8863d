//! Which kernel modules the guest must load before it can see its disk and its network, and in which order.
//!
//! The names are what a microVM needs; the files and the order come from the kernel package's own `modules.dep`, so a
//! kernel that has one of them built in, or that splits it differently, needs nothing changed here.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the guest needs at its start: the virtio transport, disk and network, what tells it that the host wants it to
/// power off, and what lays a session's disk over its image.
const NEEDED: [&str; 6] = ["virtio_mmio", "virtio_blk", "virtio_net", "button", "evdev", OVERLAY];
/// The module for overlays.
pub(crate) const OVERLAY: &str = "overlay";

/// The files of the needed modules below `modules` (a `lib/modules/RELEASE` folder), each after those it depends on.
/// A module that the kernel does not have as a file is built in, or not needed by that kernel.
pub(crate) fn in_load_order(modules: &Path) -> io::Result<Vec<PathBuf>> {
    let text = fs::read_to_string(modules.join("modules.dep"))?;
    Ok(load_order_of(&text, &NEEDED).into_iter().map(|path| modules.join(path)).collect())
}

/// The paths of modules in the text of a `modules.dep`, each after those it depends on.
pub(crate) fn load_order_of<'a>(modules_dep: &'a str, names: &[&str]) -> Vec<&'a str> {
    let dependencies = Dependencies::parse(modules_dep);
    let mut order = Vec::new();
    for path in names.iter().filter_map(|name| dependencies.find(name)) {
        dependencies.append(path, &mut order);
    }
    order
}

/// Whether the file is that of the module. Kernel modules are named with `_` and filed with `-` or `_`.
pub(crate) fn is_called(path: &str, name: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_") == name
}

/// The lines of `modules.dep`: `kernel/a/b.ko: kernel/c/d.ko kernel/e/f.ko`.
struct Dependencies<'a>(HashMap<&'a str, Vec<&'a str>>);

impl<'a> Dependencies<'a> {
    fn parse(text: &'a str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Self(lines.map(|(path, needs)| (path, needs.split_ascii_whitespace().collect())).collect())
    }

    fn find(&self, name: &str) -> Option<&'a str> {
        self.0.keys().copied().find(|path| is_called(path, name))
    }

    fn append(&self, path: &'a str, order: &mut Vec<&'a str>) {
        if order.contains(&path) {
            return;
        }
        // `modules.dep` lists the whole closure, nearest first; the deepest must be loaded first.
        for needed in self.0.get(path).into_iter().flatten().rev() {
            self.append(needed, order);
        }
        if !order.contains(&path) {
            order.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_module_comes_after_what_it_needs_and_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let text = "kernel/virtio/virtio-mmio.ko: kernel/virtio/virtio_ring.ko kernel/virtio/virtio.ko\n\
            kernel/virtio/virtio_ring.ko: kernel/virtio/virtio.ko\n\
            kernel/virtio/virtio.ko:\n\
            kernel/net/virtio_net.ko: kernel/net/net_failover.ko kernel/net/failover.ko kernel/virtio/virtio_ring.ko \
            kernel/virtio/virtio.ko\n\
            kernel/net/net_failover.ko: kernel/net/failover.ko\n\
            kernel/net/failover.ko:\n\
            kernel/sound/other.ko:\n";
        fs::write(folder.path().join("modules.dep"), text).unwrap();

        let order = in_load_order(folder.path()).unwrap();

        let names: Vec<_> = order.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["virtio", "virtio_ring", "virtio-mmio", "failover", "net_failover", "virtio_net"]);
    }
}
