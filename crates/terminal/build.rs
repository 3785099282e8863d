//! Builds the page: copies `web/` into the build's own folder, installs its dependencies there from the lock
//! file, and bundles it. Nothing is written into the source tree. The crate includes what comes out.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::{env, fs, io};

/// Folders of `web/` that are not sources.
const NOT_SOURCES: [&str; 2] = ["node_modules", "dist"];

fn main() {
    let web = Path::new("web");
    let out_dir = env::var_os("OUT_DIR").expect("cargo tells build scripts their folder");
    let build = PathBuf::from(out_dir).join("web");
    if let Err(message) = build_page(web, &build) {
        // What cargo shows of a build script that fails begins with this line.
        println!("cargo::error={message}");
        exit(1);
    }
}

fn build_page(web: &Path, build: &Path) -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    let sources = sources(web).map_err(|error| format!("cannot list {}: {error}", web.display()))?;
    let mut tag = DefaultHasher::new();
    remove_stale(build, &sources)?;
    for source in &sources {
        println!("cargo::rerun-if-changed={}", web.join(source).display());
        let content = copy(&web.join(source), &build.join(source))?;
        (source, content).hash(&mut tag);
    }
    // A folder is watched for files that are added to it.
    println!("cargo::rerun-if-changed={}", web.join("src").display());
    println!("cargo::rustc-env=DOZLAB_PAGE_TAG={:016x}", tag.finish());
    install(build)?;
    npm(build, &["run", "build"])
}

/// The files of a folder, relative to it, in order.
fn sources(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(relative) = folders.pop() {
        for entry in fs::read_dir(folder.join(&relative))? {
            let entry = entry?;
            if NOT_SOURCES.iter().any(|name| entry.file_name() == OsStr::new(name)) {
                continue;
            }
            let path = relative.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A source that was deleted must not linger in the copy, where the type checker would find it.
fn remove_stale(build: &Path, sources: &[PathBuf]) -> Result<(), String> {
    fs::create_dir_all(build).map_err(|error| format!("cannot make {}: {error}", build.display()))?;
    let copied = self::sources(build).map_err(|error| format!("cannot list {}: {error}", build.display()))?;
    for stale in
        copied.iter().filter(|path| !sources.contains(path) && path.as_path() != Path::new(INSTALLED))
    {
        let path = build.join(stale);
        fs::remove_file(&path).map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Copies a file if the copy is another one; returns its content.
fn copy(from: &Path, to: &Path) -> Result<Vec<u8>, String> {
    let content = fs::read(from).map_err(|error| format!("cannot read {}: {error}", from.display()))?;
    if fs::read(to).is_ok_and(|copied| copied == content) {
        return Ok(content);
    }
    let folder = to.parent().expect("a copy lies in the build's folder");
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(to, &content));
    written.map_err(|error| format!("cannot write {}: {error}", to.display()))?;
    Ok(content)
}

/// Holds the lock file whose packages are installed.
const INSTALLED: &str = "installed-lock.json";

/// Installs exactly what the lock file says, unless that was done before. No package's own scripts run.
fn install(build: &Path) -> Result<(), String> {
    let lock = build.join("package-lock.json");
    let wanted = fs::read(&lock).map_err(|error| format!("cannot read {}: {error}", lock.display()))?;
    let installed = build.join(INSTALLED);
    if fs::read(&installed).is_ok_and(|lock| lock == wanted) {
        return Ok(());
    }
    npm(build, &["ci", "--ignore-scripts", "--no-audit", "--no-fund"])?;
    fs::write(&installed, wanted).map_err(|error| format!("cannot write {}: {error}", installed.display()))
}

fn npm(folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let command = format!("npm {}", arguments.join(" "));
    let output = match Command::new("npm").args(arguments).current_dir(folder).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err("npm is needed to build the terminal's page: install nodejs and npm".to_owned());
        }
        Err(error) => return Err(format!("cannot run `{command}`: {error}")),
    };
    if output.status.success() {
        return Ok(());
    }
    eprintln!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("`{command}` in {} failed with {}; its output follows", folder.display(), output.status))
}
