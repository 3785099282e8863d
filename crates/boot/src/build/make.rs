//! Linux's own `make`, outside the source's tree, ended in order.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use dozlab_process::{BoundChild, Signal, Tool, ToolError, last_lines};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{BuildError, file};

pub(super) const MAKE: Tool = Tool { program: "make", package: "make" };

/// How long `make` may take to end its compilers and remove what they were writing.
const GRACE: Duration = Duration::from_secs(5);

/// How often is told how far it is.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Variables by which a surrounding `make`, or somebody who builds other kernels, would change ours.
const MEDDLING: [&str; 14] = [
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
    "MAKEOVERRIDES",
    "ARCH",
    "CROSS_COMPILE",
    "CC",
    "LD",
    "LLVM",
    "KCFLAGS",
    "KCONFIG_CONFIG",
    "KBUILD_OUTPUT",
    "LOCALVERSION",
    "O",
];

/// A source and the folder that is built in.
pub(super) struct Tree<'a> {
    pub(super) source: &'a Path,
    pub(super) objects: &'a Path,
}

impl Tree<'_> {
    /// Configures it: everything is off but what the fragment in this file asks for.
    pub(super) async fn configure(&self, fragment: &Path) -> Result<(), BuildError> {
        let mut allconfig = OsString::from("KCONFIG_ALLCONFIG=");
        allconfig.push(fragment);
        self.make(&["allnoconfig".into(), allconfig], &|_| {}).await
    }

    /// Compiles the kernel, an ELF file, with a release that ends in `suffix`, and returns where it is.
    pub(super) async fn compile(
        &self,
        jobs: usize,
        suffix: &str,
        progress: &dyn Fn(&str),
    ) -> Result<PathBuf, BuildError> {
        let arguments =
            ["vmlinux".into(), format!("-j{jobs}").into(), format!("LOCALVERSION={suffix}").into()];
        let started = Instant::now();
        let compiled = std::cell::Cell::new(0);
        let told = std::cell::Cell::new(None::<Instant>);
        let tell = |line: &str| {
            let Some(object) = compiled_object(line) else { return };
            compiled.set(compiled.get() + 1);
            if told.get().is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                told.set(Some(Instant::now()));
                let (count, seconds) = (compiled.get(), started.elapsed().as_secs());
                progress(&format!("compiling Linux: {count} objects in {seconds} s, now {object}"));
            }
        };
        self.make(&arguments, &tell).await?;
        Ok(self.objects.join("vmlinux"))
    }

    /// Runs `make` to its end. Each line that it prints is shown to `see`; all of them are kept in `make.log`.
    async fn make(&self, arguments: &[OsString], see: &dyn Fn(&str)) -> Result<(), BuildError> {
        let log_path = self.objects.join("make.log");
        let mut log = File::create(&log_path).map_err(file("create", &log_path))?;
        let errors = log.try_clone().map_err(file("write", &log_path))?;
        let mut command = MAKE.command()?;
        command.arg("-C").arg(self.source).args(arguments);
        let mut objects = OsString::from("O=");
        objects.push(self.objects);
        command.arg(objects).arg("ARCH=x86_64");
        for variable in MEDDLING {
            command.env_remove(variable);
        }
        // The same source and fragment are the same kernel, whoever builds it and how often.
        command.env("KBUILD_BUILD_USER", "dozlab").env("KBUILD_BUILD_HOST", "dozlab");
        command.env("KBUILD_BUILD_VERSION", "1").env("LC_ALL", "C");
        command.stdout(Stdio::piped()).stderr(errors);
        let run = |source| ToolError::Run { program: MAKE.program, source };
        let mut running = Running(BoundChild::spawn(&mut command, Signal::TERM).map_err(run)?);
        let output = running.0.inner().stdout.take().expect("standard output was asked to be a pipe");
        let mut lines = BufReader::new(output).lines();
        while let Some(line) = lines.next_line().await.map_err(run)? {
            writeln!(log, "{line}").map_err(file("write", &log_path))?;
            see(&line);
        }
        let status = running.0.wait().await.map_err(run)?;
        if status.success() {
            return Ok(());
        }
        let said = fs::read(&log_path).map_err(file("read", &log_path))?;
        Err(BuildError::Make {
            target: arguments[0].to_string_lossy().into_owned(),
            message: last_lines(&said, 8),
            log: log_path,
        })
    }
}

/// The file that a line of `make`'s output is about, where it tells of compiling: `  CC      init/main.o`.
fn compiled_object(line: &str) -> Option<&str> {
    let (action, object) = line.trim_start().split_once(' ')?;
    matches!(action, "CC" | "AS").then(|| object.trim())
}

/// A `make` that is asked to end before it is killed: it removes what its compilers have half written, so that the
/// next build goes on where this one was.
struct Running(BoundChild);

impl Drop for Running {
    fn drop(&mut self) {
        let identity = self.0.identity();
        if self.0.inner().id().is_none() || identity.signal(Signal::TERM).is_err() {
            return;
        }
        let deadline = Instant::now() + GRACE;
        while matches!(self.0.inner().try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source tree whose only file is this makefile.
    fn tree(makefile: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("Makefile"), makefile).unwrap();
        let objects = folder.path().join("objects");
        fs::create_dir(&objects).unwrap();
        (folder, objects)
    }

    #[test]
    fn objects_are_what_is_compiled_and_assembled() {
        assert_eq!(compiled_object("  CC      init/main.o"), Some("init/main.o"));
        assert_eq!(compiled_object("  AS      arch/x86/entry/entry_64.o"), Some("arch/x86/entry/entry_64.o"));
        assert_eq!(compiled_object("  HOSTCC  scripts/kconfig/conf.o"), None);
        assert_eq!(compiled_object("make[1]: Entering directory"), None);
    }

    #[tokio::test]
    async fn a_build_that_fails_says_why_and_where_to_read_more() {
        let (source, objects) =
            tree("vmlinux:\n\t@echo '  CC      init/main.o'\n\t@echo main.c: no such header >&2; exit 1\n");
        let tree = Tree { source: source.path(), objects: &objects };
        let seen = std::cell::RefCell::new(Vec::new());
        let error = tree.compile(1, "", &|text| seen.borrow_mut().push(text.to_owned())).await.unwrap_err();
        let BuildError::Make { target, message, log } = error else { panic!("{error}") };
        assert_eq!(target, "vmlinux");
        assert!(message.contains("main.c: no such header"), "{message}");
        assert!(fs::read_to_string(log).unwrap().contains("init/main.o"));
        assert_eq!(*seen.borrow(), ["compiling Linux: 1 objects in 0 s, now init/main.o"]);
    }

    #[tokio::test]
    async fn an_interrupted_build_leaves_no_half_written_object_and_no_compiler() {
        let (source, objects) = tree(
            "vmlinux: main.o\nmain.o:\n\techo half > $(O)/main.o; cp $(O)/main.o main.o; echo $$$$; sleep 300\n",
        );
        let tree = Tree { source: source.path(), objects: &objects };
        let compiler = std::cell::Cell::new(None);
        let see = |line: &str| {
            if let Ok(pid) = line.parse::<u32>() {
                compiler.set(dozlab_process::Identity::of(pid));
            }
        };
        let target = ["vmlinux".into()];
        let building = tree.make(&target, &see);
        let reached = async {
            while compiler.get().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            built = building => panic!("{built:?}"),
            () = reached => {}
        }
        assert!(!source.path().join("main.o").exists());
        assert!(!compiler.get().unwrap().is_running());
    }
}
