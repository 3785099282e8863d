//! How a kernel of our own comes into the store, with a stand-in for Linux's source whose `make` takes no time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dozlab_boot::{BuildError, Fragment, KernelBuilder, KernelError, KernelKind, KernelStore};

/// Grants every wish of the fragment, and takes a program of this machine for the kernel.
const MAKEFILE: &str = "\
allnoconfig:
\tcp $(KCONFIG_ALLCONFIG) $(O)/.config
vmlinux:
\t@echo '  CC      init/main.o'
\t! grep -q CONFIG_BROKEN $(O)/.config
\tmkdir -p $(O)/include/config
\techo 6.1.5-test$(LOCALVERSION) > $(O)/include/config/kernel.release
\tcp /bin/true $(O)/vmlinux
";

struct Place {
    folder: tempfile::TempDir,
    store: KernelStore,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = KernelStore::new(folder.path().join("kernels"));
        Self { folder, store }
    }

    fn builder(&self, fragment: &str) -> KernelBuilder {
        let package = self.folder.path().join("linux-source.deb");
        if !package.exists() {
            make_package(self.folder.path(), &package);
        }
        let fragment = Fragment::parse(fragment.to_owned()).unwrap();
        KernelBuilder::new(self.work()).source(Some(package)).fragment(fragment)
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// What is in the work folder besides its lock.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.work()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name != "lock").collect();
        names.sort();
        names
    }
}

fn make_package(folder: &Path, package: &Path) {
    let source = folder.join("linux-source-6.1");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("Makefile"), MAKEFILE).unwrap();
    let tree = folder.join("package");
    fs::create_dir_all(tree.join("usr/src")).unwrap();
    fs::create_dir(tree.join("DEBIAN")).unwrap();
    let control = "Package: linux-source-6.1\nVersion: 6.1.5-1\nArchitecture: all\n\
        Maintainer: Nobody <nobody@example.org>\nDescription: a stand-in for Linux's source\n";
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    let archive = tree.join("usr/src/linux-source-6.1.tar.xz");
    run(Command::new("tar").arg("-cJf").arg(archive).arg("-C").arg(folder).arg("linux-source-6.1"));
    run(Command::new("dpkg-deb").args(["--build", "--root-owner-group"]).arg(tree).arg(package));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_kernel_is_built_once_and_nothing_is_left_of_its_building() {
    let place = Place::new();
    let told = std::cell::RefCell::new(Vec::new());
    let tell = |step: &str| told.borrow_mut().push(step.to_owned());

    let built = place.builder("CONFIG_A=y\n").build(&place.store, &tell).await.unwrap();

    assert!(built.anew);
    assert!(told.borrow().contains(&"compiling Linux: 1 objects in 0 s, now init/main.o".to_owned()));
    let kernel = built.kernel;
    assert!(kernel.release.starts_with("6.1.5-test-"), "{}", kernel.release);
    assert_eq!((kernel.kind, kernel.modules_disk()), (KernelKind::Slim, None));
    assert_eq!(kernel.source, "linux-source-6.1 6.1.5-1");
    assert!(fs::read(kernel.vmlinux()).unwrap().starts_with(b"\x7fELF"));
    assert_eq!(fs::read_to_string(kernel.folder.join("config")).unwrap(), "CONFIG_A=y\n");
    assert_eq!(place.store.current().unwrap(), kernel);
    assert_eq!(place.left(), [""; 0]);

    told.borrow_mut().clear();
    let known = place.builder("CONFIG_A=y\n").build(&place.store, &tell).await.unwrap();
    assert!(!known.anew);
    assert_eq!(known.kernel, kernel);
    assert_eq!(*told.borrow(), [""; 0]);

    let other = place.builder("CONFIG_B=y\n").build(&place.store, &tell).await.unwrap();
    assert!(other.anew);
    assert_ne!(other.kernel.release, kernel.release);
    assert_eq!(place.store.list().unwrap().len(), 2);
}

#[tokio::test]
async fn a_build_that_fails_puts_nothing_into_the_store_and_goes_on_where_it_was() {
    let place = Place::new();
    let error = place.builder("CONFIG_BROKEN=y\n").build(&place.store, &|_| {}).await.unwrap_err();
    assert!(matches!(error, KernelError::Build(BuildError::Make { .. })), "{error}");
    assert!(matches!(place.store.current(), Err(KernelError::None { .. })));
    assert_eq!(place.left(), ["objects-6.1.5-1", "source-6.1.5-1"]);

    place
        .builder("CONFIG_A=y\n")
        .keep(true)
        .build(&place.store, &|step| {
            assert!(!step.contains("unpacking"), "{step}");
        })
        .await
        .unwrap();
    assert_eq!(place.left(), ["objects-6.1.5-1", "source-6.1.5-1"]);
}

#[tokio::test]
async fn a_package_without_a_source_is_refused() {
    let place = Place::new();
    let package = place.folder.path().join("other.deb");
    let tree = place.folder.path().join("other");
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    let control = "Package: other\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n\
        Description: another package\n";
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    run(Command::new("dpkg-deb").args(["--build", "--root-owner-group"]).arg(tree).arg(&package));
    let builder = KernelBuilder::new(place.work()).source(Some(package));
    let error = builder.build(&place.store, &|_| {}).await.unwrap_err();
    assert!(matches!(error, KernelError::Build(BuildError::NotASource { .. })), "{error}");
    assert_eq!(place.left(), [""; 0]);
}

#[tokio::test]
async fn two_do_not_build_in_one_folder() {
    let place = Place::new();
    fs::create_dir_all(place.work()).unwrap();
    let lock = fs::File::create(place.work().join("lock")).unwrap();
    lock.lock().unwrap();
    let error = place.builder("CONFIG_A=y\n").build(&place.store, &|_| {}).await.unwrap_err();
    assert!(matches!(error, KernelError::Build(BuildError::Busy { .. })), "{error}");
    lock.unlock().unwrap();
    place.builder("CONFIG_A=y\n").build(&place.store, &|_| {}).await.unwrap();
}
