//! Downloads blobs, a few at a time, each to a file of its own.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt, TryStreamExt};
use oci_client::client::BlobResponse;
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use oci_spec::image::Descriptor;
use sha2::{Digest as _, Sha256};

use super::retry::{Attempts, Failure};
use super::{PullError, RemoteImage};
use crate::blob::from_hash;
use crate::layout::Layout;

/// Blobs under way at once.
const AT_ONCE: usize = 3;

pub(super) async fn blobs(
    image: &RemoteImage,
    layout: &Layout,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), PullError> {
    let arrived = AtomicU64::new(0);
    let report = |count: u64| progress(arrived.fetch_add(count, Ordering::Relaxed) + count);
    let downloads = image.blobs().into_iter().map(|blob| download(image, blob, layout, &report));
    futures_util::stream::iter(downloads).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(())
}

/// What has arrived of a blob.
struct Arriving<'a> {
    file: File,
    path: &'a Path,
    size: u64,
    arrived: u64,
    hasher: Sha256,
}

async fn download(
    image: &RemoteImage,
    blob: &Descriptor,
    layout: &Layout,
    report: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), PullError> {
    let path = layout.blob(blob.digest())?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| PullError::Write { path: path.clone(), source })?;
    let mut arriving = Arriving { file, path: &path, size: blob.size(), arrived: 0, hasher: Sha256::new() };
    let mut attempts = Attempts::new();
    loop {
        let before = arriving.arrived;
        let Err(failure) = arriving.attempt(image, blob, report).await? else { break };
        if arriving.arrived > before {
            attempts = Attempts::new();
        }
        attempts.after(failure, &image.reference).await?;
    }
    let actual = from_hash(&arriving.hasher.finalize().into());
    if actual != *blob.digest() {
        let reason = format!("the blob {} has the digest {actual}", blob.digest());
        return Err(PullError::Tampered { image: image.reference.whole(), reason });
    }
    Ok(())
}

impl Arriving<'_> {
    /// Takes what comes until the blob is complete; the inner error may pass, the outer one will not.
    async fn attempt(
        &mut self,
        image: &RemoteImage,
        blob: &Descriptor,
        report: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Result<(), Failure>, PullError> {
        if self.arrived == self.size && self.size > 0 {
            return Ok(Ok(()));
        }
        let wanted = OciDescriptor {
            digest: blob.digest().to_string(),
            // Layers that live elsewhere are asked for there without credentials.
            urls: blob.urls().clone(),
            ..OciDescriptor::default()
        };
        let mut stream = match self.open(image, &wanted).await {
            Ok(BlobResponse::Partial(stream)) => stream,
            Ok(BlobResponse::Full(stream)) => {
                self.start_again()?;
                stream
            }
            Err(error) => return Ok(Err(Failure::of(error))),
        };
        while let Some(piece) = stream.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                // `oci-client` compares digests at the end as well; ours says more.
                Err(_) if self.arrived == self.size => break,
                Err(error) => return Ok(Err(Failure::broken(error))),
            };
            self.take(&piece, image, blob)?;
            report(piece.len() as u64);
        }
        if self.arrived < self.size {
            return Ok(Err(Failure::cut_short(self.arrived, self.size)));
        }
        Ok(Ok(()))
    }

    async fn open(
        &self,
        image: &RemoteImage,
        wanted: &OciDescriptor,
    ) -> Result<BlobResponse, OciDistributionError> {
        if self.arrived == 0 {
            return image.client.pull_blob_stream(&image.reference, wanted).await.map(BlobResponse::Full);
        }
        image.client.pull_blob_stream_partial(&image.reference, wanted, self.arrived, None).await
    }

    /// The registry sends all of it again.
    fn start_again(&mut self) -> Result<(), PullError> {
        self.arrived = 0;
        self.hasher = Sha256::new();
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|source| PullError::Write { path: self.path.to_owned(), source })?;
        Ok(())
    }

    fn take(&mut self, piece: &[u8], image: &RemoteImage, blob: &Descriptor) -> Result<(), PullError> {
        self.arrived += piece.len() as u64;
        if self.arrived > self.size {
            let reason = format!("the blob {} has more than its {} bytes", blob.digest(), self.size);
            return Err(PullError::Tampered { image: image.reference.whole(), reason });
        }
        self.hasher.update(piece);
        self.file.write_all(piece).map_err(|source| PullError::Write { path: self.path.to_owned(), source })
    }
}
