//! The crate's operations as a program, for its tests (which kill it, and run it as another user) and for
//! measuring.
//!
//! ```text
//! rootfs import STORE NAME SOURCE
//! rootfs build STORE DEFINITION
//! rootfs prepare IMAGE DISK BYTES
//! rootfs session STORE NAME DISK BYTES
//! rootfs overlay STORE NAME BASE DISK BYTES
//! rootfs init              with the variables of `dozlab init-rootfs`; prints the memory that it took at most
//! ```
//!
//! Each stage is a line on standard error when it begins and, for `prepare`, its time at the end.

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use dozlab_rootfs::build::{self, BuildOptions, Definition};
use dozlab_rootfs::disk::Cloning;
use dozlab_rootfs::import::ImportOptions;
use dozlab_rootfs::init_rootfs::InitRootfs;
use dozlab_rootfs::{Progress, Stage, Store, Update, disk};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Default)]
struct StageLines(Mutex<Option<Stage>>);

impl Progress for StageLines {
    fn update(&self, update: Update<'_>) {
        let mut last = self.0.lock().expect("no other holder panics");
        if *last != Some(update.stage) {
            eprintln!("stage: {}", update.stage);
            *last = Some(update.stage);
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // Before anything is started: from here on, a SIGTERM is an orderly end.
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = tokio::select! {
        result = run(&arguments) => result,
        _ = terminate.recv() => Err("interrupted".into()),
    };
    match result {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[&str]) -> Result<String, Box<dyn std::error::Error>> {
    let progress = Arc::new(StageLines::default());
    let import = ImportOptions::from_env(|name| std::env::var(name).ok());
    match arguments {
        ["import", store, name, source] => {
            let store = Store::open(Path::new(store))?;
            Ok(format!("{:#?}", store.import(name, Path::new(source), import, progress).await?))
        }
        ["build", store, definition] => {
            let store = Store::open(Path::new(store))?;
            let definition = Definition::find(definition)?;
            let options = BuildOptions { import, ..BuildOptions::default() };
            let built = build::build(&store, &definition.name, &definition, options, progress).await?;
            Ok(format!("{:#?}", built.record))
        }
        ["prepare", image, target, size] => {
            let prepared = disk::prepare_file(
                Path::new(image),
                Path::new(target),
                size.parse()?,
                Cloning::Auto,
                &[],
                progress,
            )
            .await?;
            Ok(format!("{prepared:#?}"))
        }
        ["init"] => {
            let init = InitRootfs::from_env(|name| std::env::var(name).ok())?;
            let prepared = init.run(progress).await?;
            let status = std::fs::read_to_string("/proc/self/status")?;
            let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
            Ok(format!("{prepared:#?}\n{peak}"))
        }
        ["session", store, name, target, size] => {
            let image = Store::open(Path::new(store))?.hold(name)?;
            let size = size.parse()?;
            let prepared =
                disk::prepare(&image, Path::new(target), size, Cloning::Auto, &[], progress).await?;
            Ok(format!("{prepared:#?}"))
        }
        ["overlay", store, name, base, target, size] => {
            let image = Store::open(Path::new(store))?.hold(name)?;
            let (base, target) = (Path::new(base), Path::new(target));
            let prepared = disk::prepare_overlay(&image, base, target, size.parse()?, &[], progress).await?;
            Ok(format!("{prepared:#?}"))
        }
        _ => Err(
            "usage: rootfs import STORE NAME SOURCE | build STORE DEFINITION | prepare IMAGE DISK BYTES | \
                  session STORE NAME DISK BYTES | overlay STORE NAME BASE DISK BYTES | init"
                .into(),
        ),
    }
}
