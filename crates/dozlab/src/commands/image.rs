//! `dozlab image`.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use dozlab_fetch::{Fetcher, Location, Policy, Secrets};
use dozlab_oci::{ImageReference, ReferenceError};
use dozlab_rootfs::build::{self, BuildOptions, Built, Definition, Published};
use dozlab_rootfs::import::{ImportOptions, RemoteImage};
use dozlab_rootfs::store::{ImageName, RemovedBlob};
use dozlab_rootfs::{ImageRecord, Store};
use serde_json::json;

use super::{Outcome, folders, until_interrupted, variable};
use crate::cli::{Format, Image};
use crate::output::{self, ago, bytes, line, table};
use crate::progress::Screen;

pub(super) async fn run(command: Image) -> Outcome {
    let store = Store::open(&folders()?.images())?;
    let screen = Screen::new();
    until_interrupted(&screen, async {
        match command {
            Image::Import { source, name, plain_http, output } => {
                let mut options = ImportOptions::from_env(variable);
                options.pull.plain_http = plain_http;
                let progress = Arc::new(screen.clone());
                let record = match oci_reference(&source)? {
                    None if is_url(&source) => {
                        fetch(&store, &source.to_string_lossy(), name, options, progress).await
                    }
                    Some(reference) => {
                        let name = name.unwrap_or_else(|| reference.short_name());
                        Ok(store.import_oci(&name, &reference, options, progress).await?)
                    }
                    None => {
                        let name = name.unwrap_or_else(|| name_of(Path::new(&source)));
                        Ok(store.import(&name, Path::new(&source), options, progress).await?)
                    }
                };
                screen.clear();
                show(&record?, output.output);
            }
            Image::Build { definition, name, mirror, source, out, output } => {
                let definition = Definition::find(&definition)?;
                let name = name.unwrap_or_else(|| definition.name.clone());
                let options = BuildOptions {
                    mirror,
                    sources: source.into_iter().collect(),
                    import: ImportOptions::from_env(variable),
                };
                let progress = Arc::new(screen.clone());
                let built = build::build(&store, &name, &definition, options, progress.clone()).await?;
                let published = match out {
                    Some(folder) => Some(built.publish(&store, &folder, progress).await?),
                    None => None,
                };
                screen.clear();
                show_built(&built, published.as_ref(), output.output);
            }
            Image::Ls(flags) => list(&store, flags.output)?,
            Image::Inspect { name, output } => inspect(&store, &name, output.output)?,
            Image::Verify { names, output } => return verify(&store, names, &screen, output.output).await,
            Image::Prune { keep, output } => prune(&store, keep, output.output)?,
            Image::Rm { name, output } => show_removed(&name, &store.remove(&name)?.blob, output.output),
        }
        Ok(ExitCode::SUCCESS)
    })
    .await
}

/// The OCI image that is meant; `None` for a path.
fn oci_reference(source: &OsStr) -> Result<Option<ImageReference>, ReferenceError> {
    source.to_str().filter(|text| ImageReference::is_one(text)).map(str::parse).transpose()
}

fn is_url(source: &OsStr) -> bool {
    source.to_str().is_some_and(|text| text.contains("://"))
}

/// An image from a URL, with the secrets that `init-rootfs` would send.
async fn fetch(
    store: &Store,
    url: &str,
    name: Option<String>,
    options: ImportOptions,
    progress: Arc<Screen>,
) -> Result<ImageRecord, Box<dyn std::error::Error>> {
    let location = Location::parse(url)?;
    let name = name.unwrap_or_else(|| ImageName::stem(&location.file_name()).to_owned());
    let fetcher = Fetcher::new(Secrets::from_env(variable)?, Policy::default())?;
    let remote = RemoteImage { location: &location, sha256: None, name: Some(&name) };
    Ok(store.fetch(&fetcher, remote, options, progress).await?.record().clone())
}

/// A file's name without the endings that say what kind of file it is.
fn name_of(source: &Path) -> String {
    ImageName::stem(&source.file_name().unwrap_or_default().to_string_lossy()).to_owned()
}

fn show(record: &ImageRecord, format: Format) {
    output::print(format, record, || {
        line(&format!("{}  {}  {}", record.name, bytes(record.stored), record.digest));
    });
}

fn show_built(built: &Built, published: Option<&Published>, format: Format) {
    let Some(published) = published else { return show(&built.record, format) };
    let result = json!({ "image": built.record, "published": published });
    output::print(format, &result, || {
        show(&built.record, format);
        line(&format!("{}  {}  {}", published.image.display(), bytes(published.size), published.digest));
        for path in [&published.digest_file, &published.provenance, &published.software] {
            line(&path.display().to_string());
        }
    });
}

fn list(store: &Store, format: Format) -> Result<(), Box<dyn std::error::Error>> {
    let images = store.list()?;
    output::print(format, &images, || {
        let rows: Vec<_> = images
            .iter()
            .map(|image| {
                vec![
                    image.name.to_string(),
                    bytes(image.stored),
                    image.user.clone(),
                    ago(image.created * 1000),
                    image.os_name.clone().unwrap_or_default(),
                ]
            })
            .collect();
        table(&["NAME", "ON DISK", "USER", "AGE", "SYSTEM"], &rows);
    });
    Ok(())
}

fn inspect(store: &Store, name: &str, format: Format) -> Result<(), Box<dyn std::error::Error>> {
    let found = store.inspect(name)?;
    output::print(format, &found, || {
        let record = &found.record;
        let mut users = Vec::new();
        if found.linked > 0 {
            users.push(format!("{} by a hard link", found.linked));
        }
        users.extend(found.leased.iter().map(|link| link.display().to_string()));
        if found.is_held {
            users.push("somebody reads it now".to_owned());
        }
        let rows = [
            ("names", found.names.join(", ")),
            ("digest", record.digest.to_string()),
            ("size", format!("{}, {} on disk", bytes(record.size), bytes(record.stored))),
            ("made from", record.source.clone()),
            ("system", record.os_name.clone().unwrap_or_default()),
            ("user", record.user.clone()),
            ("init", if record.has_init { "its own" } else { "none, ours" }.to_owned()),
            ("made", ago(record.created * 1000)),
            ("last used", ago(found.last_used * 1000)),
            ("kept grown to", found.grown.iter().map(|size| bytes(*size)).collect::<Vec<_>>().join(", ")),
            ("in use", users.join(", ")),
            ("file", found.path.display().to_string()),
        ];
        for (label, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
            line(&format!("{label:14}{value}"));
        }
    });
    Ok(())
}

fn show_removed(name: &str, blob: &RemovedBlob, format: Format) {
    let (freed, names, in_use, what) = match blob {
        RemovedBlob::Freed(count) => (*count, &[][..], false, format!("{} are free again", bytes(*count))),
        RemovedBlob::StillNamed(names) => {
            (0, &names[..], false, format!("the image is still called {}", names.join(", ")))
        }
        RemovedBlob::InUse => (0, &[][..], true, "the image goes when nobody reads it any more".to_owned()),
    };
    let result = json!({ "removed": name, "freed": freed, "stillCalled": names, "inUse": in_use });
    output::print(format, &result, || line(&format!("removed {name}; {what}")));
}

async fn verify(store: &Store, names: Vec<String>, screen: &Screen, format: Format) -> Outcome {
    let all = || store.list().map(|records| records.iter().map(|record| record.name.to_string()).collect());
    let names = if names.is_empty() { all()? } else { names };
    let mut outcome = ExitCode::SUCCESS;
    let mut results = Vec::new();
    for name in names {
        let verified = store.verify(&name, Arc::new(screen.clone())).await?;
        screen.clear();
        if !verified.is_sound() {
            outcome = ExitCode::FAILURE;
        }
        if format == Format::Json {
            results.push(json!({
                "name": name,
                "sound": verified.is_sound(),
                "digest": verified.record.digest,
                "found": verified.found,
                "removedGrown": verified.removed_grown,
            }));
            continue;
        }
        if verified.is_sound() {
            line(&format!("{name}: sound"));
        } else {
            line(&format!(
                "{name}: damaged, its digest is {}: `dozlab image rm {name}`, then import or build it again",
                verified.found
            ));
        }
        if verified.removed_grown > 0 {
            line(&format!("{name}: {} damaged grown copies removed", verified.removed_grown));
        }
    }
    if format == Format::Json {
        output::json(&results);
    }
    Ok(outcome)
}

fn prune(store: &Store, keep: u64, format: Format) -> Result<(), Box<dyn std::error::Error>> {
    let pruned = store.prune(keep)?;
    output::print(format, &pruned, || {
        for name in &pruned.images {
            line(&format!("removed {name}"));
        }
        if pruned.grown > 0 {
            line(&format!(
                "removed {} grown images, which are made again when they are needed",
                pruned.grown
            ));
        }
        for name in &pruned.in_use {
            line(&format!("kept {name}: it is in use"));
        }
        line(&format!("{} are free again, the store takes {}", bytes(pruned.freed), bytes(pruned.kept)));
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_images_name_comes_from_its_file() {
        for (file, name) in [("a/rootfs.tar.zst", "rootfs"), ("lab.ext4", "lab"), ("folder", "folder")] {
            assert_eq!(name_of(Path::new(file)), name);
        }
    }
}
