//! An image from where it lives into the store, once for however many ask.
//!
//! Who asks first fetches, under a lock; the others wait and find it. A place is remembered with what the server tells
//! its versions apart by, so the next time the server is only asked whether that is still the version; or not at all
//! where the caller knows the digest of what is there. A server that cannot be reached does not keep a session from an
//! image that the store has.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use dozlab_fetch::{Expected, Fetched, Fetcher, Location, Validator};
use dozlab_oci::ImageReference;
use sha2::{Digest as _, Sha256};

use super::{Import, ImportError, ImportOptions};
use crate::e2fsprogs::{Check, check};
use crate::inspect::LoginUser;
use crate::progress::{Progress, Stage, begin, finish};
use crate::receive::{Kind, Receipt, receive};
use crate::store::sources::{SourceKey, SourceRecord, now};
use crate::store::{Digest, HeldImage, ImageName, Store};

/// What to fetch into the store.
#[derive(Clone, Copy, Debug)]
pub struct RemoteImage<'a> {
    /// Where it lives.
    pub location: &'a Location,
    /// SHA-256 of the bytes there, compressed as they are.
    pub sha256: Option<[u8; 32]>,
    /// The name to give it. Default: its file's name and some digits of its digest.
    pub name: Option<&'a str>,
}

impl Store {
    /// The image that lives at a place, fetched if the store does not have its present version.
    ///
    /// # Errors
    /// See [`ImportError`]. The store is then as it was.
    pub async fn fetch(
        &self,
        fetcher: &Fetcher,
        remote: RemoteImage<'_>,
        options: ImportOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<HeldImage, ImportError> {
        let name: Option<ImageName> = remote.name.map(str::parse).transpose()?;
        let asked = now();
        let location = remote.location.to_string();
        let by_url = SourceKey::url(&remote.location.fingerprint());
        let wanted = remote.sha256.map(|digest| Digest::from_bytes(&digest));
        let by_digest = wanted.as_ref().map(|digest| SourceKey::sha256(digest.digits()));
        if let (Some(digest), Some(key)) = (&wanted, &by_digest)
            && let Some(image) = self.with_bytes(digest, key)?
        {
            return self.named(image, name);
        }
        let _url_lock = self.lock_source(&by_url, &location).await?;
        let _digest_lock = match &by_digest {
            Some(key) => Some(self.lock_source(key, &location).await?),
            None => None,
        };
        // While it was waited for, another process may have fetched it.
        if let (Some(digest), Some(key)) = (&wanted, &by_digest)
            && let Some(image) = self.with_bytes(digest, key)?
        {
            return self.named(image, name);
        }
        let known = self.source(&by_url)?.filter(|(record, _)| {
            wanted.as_ref().is_none_or(|digest| Some(digest.digits()) == record.transferred_sha256.as_deref())
        });
        let known = match known {
            Some((record, image)) if record.checked >= asked => return self.named(image, name),
            other => other,
        };

        let validator = known.as_ref().map(|(record, _)| record.validator.clone());
        let known_version = validator.filter(|known| known.is_telling());
        let expected = Expected { known: known_version, sha256: remote.sha256, digests: true };
        let options = ImportOptions { description: Some(location.clone()), ..options };
        let download =
            Download { store: self, fetcher, remote, expected, name: name.clone(), options, progress };
        match (download.run().await, known) {
            (Ok(Some((record, transferred, image))), _) => {
                self.remember_source(&by_url, &record)?;
                self.remember_source(&SourceKey::sha256(&transferred), &record)?;
                Ok(image)
            }
            (Ok(None), Some((record, image))) => {
                tracing::info!(%location, "the server still has the version that the store has");
                self.remember_source(&by_url, &SourceRecord { checked: now(), ..record })?;
                self.named(image, name)
            }
            (Err(error), Some((_, image))) if error.is_unreachable() => {
                tracing::warn!(%location, %error, "using the version that the store has, which may be an old one");
                self.named(image, name)
            }
            (Err(error), _) => Err(error),
            // "Not modified" is only an answer to a version that was named.
            (Ok(None), None) => Err(ImportError::NotAFileSystem {
                path: location.into(),
                found: "was said to be unchanged, but was never fetched",
            }),
        }
    }

    /// The image of an OCI reference. One with a digest is pulled once; a tag is asked for each time.
    ///
    /// # Errors
    /// See [`ImportError`]. The store is then as it was.
    pub async fn fetch_oci(
        &self,
        reference: &ImageReference,
        options: ImportOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<HeldImage, ImportError> {
        let asked = now();
        let location = reference.to_string();
        let reference_digest = Digest::from_bytes(&Sha256::digest(&location).into());
        let key = SourceKey::oci(reference_digest.digits());
        let _lock = self.lock_source(&key, &location).await?;
        if let Some((record, image)) = self.source(&key)?
            && (is_pinned(reference) || record.checked >= asked)
        {
            return Ok(image);
        }
        let name = ImageName::suggested(&reference.short_name(), &reference_digest.digits()[..12]);
        let record = self.import_oci(name.as_str(), reference, options, progress).await?;
        let image = self.hold(record.name.as_str())?;
        let known = SourceRecord {
            location,
            digest: record.digest,
            transferred_sha256: None,
            validator: Validator::default(),
            checked: now(),
        };
        self.remember_source(&key, &known)?;
        Ok(image)
    }

    /// The image that bytes with this digest became: themselves, or what they were unpacked to.
    fn with_bytes(&self, digest: &Digest, key: &SourceKey) -> Result<Option<HeldImage>, ImportError> {
        if let Some((_, image)) = self.source(key)? {
            return Ok(Some(image));
        }
        Ok(self.hold_digest(digest)?)
    }

    /// Gives an image of the store another name.
    fn named(&self, image: HeldImage, name: Option<ImageName>) -> Result<HeldImage, ImportError> {
        let Some(name) = name.filter(|name| *name != image.record().name) else { return Ok(image) };
        let mut record = image.record().clone();
        record.name = name;
        self.publish(image.path(), &record)?;
        Ok(self.hold(record.name.as_str())?)
    }
}

/// One fetch into the store. The source's lock is held.
struct Download<'a> {
    store: &'a Store,
    fetcher: &'a Fetcher,
    remote: RemoteImage<'a>,
    expected: Expected,
    name: Option<ImageName>,
    options: ImportOptions,
    progress: Arc<dyn Progress>,
}

impl Download<'_> {
    /// What is known of it now, the SHA-256 of what was transferred, and the image. `None` where the server still has
    /// what is known.
    async fn run(self) -> Result<Option<(SourceRecord, String, HeldImage)>, ImportError> {
        let mut import =
            Import::new(self.store, &PathBuf::new(), self.options.clone(), Arc::clone(&self.progress))?;
        let path = import.workspace.join("fetched");
        let file = File::create_new(&path).map_err(|error| ImportError::write(&path, 0, error))?;
        let receipt = Receipt { target: &file, folder: import.workspace.path(), most: None };
        let (location, progress) = (self.remote.location, Arc::clone(&self.progress));
        let received = receive(self.fetcher, location, &self.expected, receipt, progress).await?;
        let Some((kind, fetched)) = received else { return Ok(None) };
        let digests = fetched.digests.expect("they were asked for");
        let transferred = Digest::from_bytes(&digests.transferred);
        let name = self.name.clone().unwrap_or_else(|| name_of(location, &transferred));
        let record = match kind {
            Kind::Tar => {
                let (options, progress) = (self.options.clone(), Arc::clone(&self.progress));
                self.store.import(name.as_str(), &path, options, progress).await?
            }
            Kind::Ext4 => {
                import.source.clone_from(&path);
                let import = Arc::new(import);
                begin(&*self.progress, Stage::Check, "");
                check(&path, Check::ReadOnly, None).await?;
                finish(&*self.progress, Stage::Check);
                let contents = import.inspect(&path, LoginUser::First).await?;
                let known = Some((Digest::from_bytes(&digests.content), fetched.length));
                self.store.keep(name, &import, path, contents, known).await?
            }
        };
        let image = self.store.hold(record.name.as_str())?;
        let digits = transferred.digits().to_owned();
        Ok(Some((self.source_record(record.digest, &digits, fetched), digits, image)))
    }

    fn source_record(&self, digest: Digest, transferred: &str, fetched: Fetched) -> SourceRecord {
        SourceRecord {
            location: self.remote.location.to_string(),
            digest,
            transferred_sha256: Some(transferred.to_owned()),
            validator: fetched.validator,
            checked: now(),
        }
    }
}

/// Whether a reference always means the same image.
fn is_pinned(reference: &ImageReference) -> bool {
    matches!(reference, ImageReference::Registry(reference) if reference.digest().is_some())
}

/// A name that two versions of one file do not share.
fn name_of(location: &Location, transferred: &Digest) -> ImageName {
    ImageName::suggested(&location.file_name(), &transferred.digits()[..12])
}
