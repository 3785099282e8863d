//! Fetches the programs of a definition's sources.
//!
//! By default from the address in the definition, each with the digest that lies beside it, `NAME.sha256`.
//! That guards against a broken transfer, not against the server; what was used is in the provenance. A
//! folder that is given at build time is believed as it is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dozlab_fetch::{
    Expected, FetchError, Fetcher, Location, Observer, Outcome, Policy, Secrets, Start, Unwanted,
};

use super::BuildError;
use super::definition::{Definition, Source};
use super::overlay::Program;
use crate::progress::{Progress, Stage, Unit, Update};

/// Folders to take the programs of sources from instead of the definition's addresses, by the sources' names.
pub type SourceFolders = BTreeMap<String, PathBuf>;

/// Fetches all into `folder`.
pub(super) async fn fetch(
    definition: &Definition,
    folders: &SourceFolders,
    folder: &Path,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<Program>, BuildError> {
    let sources = &definition.image.sources;
    if let Some(unknown) = folders.keys().find(|name| !sources.contains_key(*name)) {
        let available = sources.keys().cloned().collect();
        return Err(BuildError::UnknownSource { name: unknown.clone(), available });
    }
    let fetcher = Fetcher::new(Secrets::default(), Policy::default())?;
    let mut programs = Vec::new();
    for (name, source) in sources {
        for file in &source.files {
            let path = folder.join(format!("{name}-{}", file.as_str()));
            let (location, sha256) = match folders.get(name) {
                Some(folder) => (in_folder(folder, file.as_str())?, None),
                None => from_address(&fetcher, source, file.as_str(), &path, progress).await?,
            };
            let sha256 = transfer(&fetcher, &location, sha256, &path, file.as_str(), progress).await?;
            programs.push(Program { path, to: source.to.clone(), name: file.as_str().to_owned(), sha256 });
        }
    }
    Ok(programs)
}

fn in_folder(folder: &Path, name: &str) -> Result<Location, BuildError> {
    let path = folder.join(name);
    let absolute = path.canonicalize().map_err(|source| BuildError::SourceUnreadable { path, source })?;
    Ok(Location::File(absolute))
}

/// Where the program lies at its source's address, and the digest that it must have.
async fn from_address(
    fetcher: &Fetcher,
    source: &Source,
    name: &str,
    scratch: &Path,
    progress: &Arc<dyn Progress>,
) -> Result<(Location, Option<[u8; 32]>), BuildError> {
    let url = format!("{}/{name}", source.url.trim_end_matches('/'));
    let beside = format!("{url}.sha256");
    transfer(fetcher, &Location::parse(&beside)?, None, scratch, name, progress).await?;
    let text = fs::read_to_string(scratch)
        .map_err(|source| BuildError::SourceUnreadable { path: scratch.to_owned(), source })?;
    let digest = parse_digest(&text).ok_or(BuildError::NoDigest { location: beside })?;
    Ok((Location::parse(&url)?, Some(digest)))
}

/// Returns the SHA-256 of what was fetched, in hexadecimal.
async fn transfer(
    fetcher: &Fetcher,
    location: &Location,
    sha256: Option<[u8; 32]>,
    target: &Path,
    name: &str,
    progress: &Arc<dyn Progress>,
) -> Result<String, BuildError> {
    let file =
        File::create(target).map_err(|source| BuildError::Write { path: target.to_owned(), source })?;
    let watch = Watch { name: name.to_owned(), progress: Arc::clone(progress) };
    let expected = Expected { known: None, sha256, digests: true };
    match fetcher.fetch(location, &expected, &file, Arc::new(watch)).await? {
        Outcome::Fetched(fetched) => {
            let digests = fetched.digests.expect("they were asked for");
            Ok(digests.content.iter().map(|byte| format!("{byte:02x}")).collect())
        }
        // No version was known.
        Outcome::NotModified => Err(FetchError::Unwanted { location: location.to_string() }.into()),
    }
}

/// The digest in a file that holds it alone, or before the file's name as `sha256sum` prints it.
fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let digits = text.split_whitespace().next().filter(|digits| digits.len() == 64 && digits.is_ascii())?;
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(digest)
}

struct Watch {
    name: String,
    progress: Arc<dyn Progress>,
}

impl Observer for Watch {
    fn begins(&self, _: &Start<'_>) -> Result<(), Unwanted> {
        Ok(())
    }

    fn received(&self, bytes: u64, total: Option<u64>) {
        self.progress.update(Update {
            stage: Stage::FetchSources,
            done: bytes,
            total,
            unit: Unit::Bytes,
            message: &self.name,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_alone_or_before_a_name() {
        let digits = "00ff".repeat(16);
        for text in [digits.clone(), format!("{digits}\n"), format!("{digits}  kubelet\n")] {
            assert_eq!(parse_digest(&text).map(|digest| digest[..3].to_vec()), Some(vec![0, 0xff, 0]));
        }
        for text in ["", "<html>not found</html>", &digits[1..]] {
            assert_eq!(parse_digest(text), None);
        }
    }
}
