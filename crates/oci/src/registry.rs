//! Registries: find an image by tag or digest, then download it into a layout.
//!
//! Finding reads the manifest, for this machine's platform where there are several, so that its size is known
//! before anything is stored. Downloading writes blobs to disk as they arrive, hashed on the way; a connection that
//! breaks is taken up where it broke.
//!
//! The protocol is carried by `oci-client`. Its errors may quote URLs with signatures in their query and are not
//! passed on as they are.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde::Deserialize;

use crate::credentials::{CredentialError, CredentialFiles};
use crate::image::{self, Image};
use crate::layout::{self, Layout, LayoutError};

mod download;
mod retry;

use retry::{Attempts, Failure};

/// What we understand, as the header `Accept` has it.
const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// Levels of indexes, as in a layout.
const DEEPEST_INDEX: usize = 4;
const CONNECT_TIME: Duration = Duration::from_secs(20);
/// Longest silence of a registry.
const READ_TIME: Duration = Duration::from_secs(60);

/// How registries are talked to.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// Whether the registry is spoken to without TLS. A registry on a loopback address always is. Default: no.
    pub plain_http: bool,
    /// Where credentials are looked for. Default: nowhere.
    pub credentials: CredentialFiles,
}

/// The image was not pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Credentials are there but cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The registry wants to know who asks, or does not let them.
    #[error(
        "{registry} does not let us pull {image}: {reason}; `docker login` or `podman login` there, and look whether the name is right"
    )]
    Unauthorized {
        /// The registry.
        registry: String,
        /// The image.
        image: String,
        /// What it said.
        reason: String,
    },
    /// The registry has no such image.
    #[error("the registry has no image {image}: {reason}")]
    NotFound {
        /// The image.
        image: String,
        /// What it said.
        reason: String,
    },
    /// The registry cannot be reached, or does not do what it should.
    #[error("cannot pull {image}: {reason}")]
    Registry {
        /// The image.
        image: String,
        /// What went wrong, after the last attempt.
        reason: String,
    },
    /// What arrived is not what was asked for.
    #[error("{image} was changed on its way or in the registry: {reason}")]
    Tampered {
        /// The image.
        image: String,
        /// How it is known.
        reason: String,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The image is none that can be used here.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// An image in a registry, whose manifest was read.
pub struct RemoteImage {
    client: Client,
    reference: Reference,
    manifest: ImageManifest,
    bytes: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Versioned {
    #[serde(default)]
    media_type: Option<MediaType>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
}

impl RemoteImage {
    /// Finds the image that a reference names, for this machine's platform.
    ///
    /// # Errors
    /// See [`PullError`].
    pub async fn find(reference: &Reference, options: &PullOptions) -> Result<Self, PullError> {
        let auth = options.credentials.find(reference).await?;
        let client = client(reference, options)?;
        log_in(&client, reference, &auth).await?;
        let mut reference = reference.clone();
        for _ in 0..DEEPEST_INDEX {
            let bytes = manifest(&client, &reference, &auth).await?;
            let path = PathBuf::from(reference.whole());
            let versioned: Versioned = layout::parse(&bytes, "manifest", &path)?;
            let is_index = match &versioned.media_type {
                Some(media_type) => image::is_index(media_type),
                None => versioned.manifests.is_some(),
            };
            if is_index {
                let index: ImageIndex = layout::parse(&bytes, "index", &path)?;
                let chosen = image::for_this_machine(&index)?;
                reference = reference.clone_with_digest(chosen.digest().to_string());
                continue;
            }
            if let Some(other) = versioned.media_type.filter(|media_type| !image::is_manifest(media_type)) {
                return Err(LayoutError::Unsupported(format!("its manifest is a {other}")).into());
            }
            let manifest: ImageManifest = layout::parse(&bytes, "manifest", &path)?;
            image::check(&manifest)?;
            return Ok(Self { client, reference, manifest, bytes });
        }
        Err(LayoutError::Unsupported(format!("its indexes are nested deeper than {DEEPEST_INDEX} levels"))
            .into())
    }

    /// Bytes to download.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.blobs().iter().map(|blob| blob.size()).fold(0, u64::saturating_add)
    }

    /// Downloads the image into a layout in `folder`. `progress` is called with the number of bytes that have been
    /// transferred so far, which is more than the size where a registry had to begin again.
    ///
    /// # Errors
    /// See [`PullError`]. The folder then holds what arrived before.
    pub async fn download(
        &self,
        folder: &Path,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Image, PullError> {
        let layout = Layout::create(folder)?;
        download::blobs(self, &layout, progress).await?;
        let media_type = self.manifest.media_type().clone().unwrap_or(MediaType::ImageManifest);
        let manifest = layout.write_document(media_type, &self.bytes)?;
        layout.complete(manifest)?;
        Ok(layout.image(None)?)
    }

    /// Configuration and layers, each once.
    fn blobs(&self) -> Vec<&Descriptor> {
        let mut blobs: Vec<&Descriptor> = Vec::new();
        for blob in std::iter::once(self.manifest.config()).chain(self.manifest.layers()) {
            if !blobs.iter().any(|other| other.digest() == blob.digest()) {
                blobs.push(blob);
            }
        }
        blobs
    }
}

fn client(reference: &Reference, options: &PullOptions) -> Result<Client, PullError> {
    // `ring` is our one provider of cryptography; a process has one default.
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error means that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let registry = reference.resolve_registry();
    let is_plain = options.plain_http || is_loopback(registry);
    let config = ClientConfig {
        protocol: if is_plain {
            ClientProtocol::HttpsExcept(vec![registry.to_owned()])
        } else {
            ClientProtocol::Https
        },
        connect_timeout: Some(CONNECT_TIME),
        read_timeout: Some(READ_TIME),
        user_agent: concat!("dozlab/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    Client::try_from(config)
        .map_err(|error| PullError::Registry { image: reference.whole(), reason: Failure::of(error).reason })
}

fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

async fn log_in(client: &Client, reference: &Reference, auth: &RegistryAuth) -> Result<(), PullError> {
    let mut attempts = Attempts::new();
    loop {
        match client.auth(reference, auth, RegistryOperation::Pull).await {
            Ok(_) => return Ok(()),
            Err(error) => attempts.after(Failure::of(error), reference).await?,
        }
    }
}

/// Reads a manifest or index; its digest is compared with the reference's by `oci-client`.
async fn manifest(client: &Client, reference: &Reference, auth: &RegistryAuth) -> Result<Vec<u8>, PullError> {
    let mut attempts = Attempts::new();
    loop {
        match client.pull_manifest_raw(reference, auth, &ACCEPTED).await {
            Ok((bytes, _)) => return Ok(bytes.to_vec()),
            Err(OciDistributionError::DigestError(error)) => {
                return Err(PullError::Tampered { image: reference.whole(), reason: error.to_string() });
            }
            Err(error) => attempts.after(Failure::of(error), reference).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_spoken_to_without_tls() {
        for (registry, plain) in [
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.1.2.3", true),
            ("localhost.example.org:5000", false),
            ("10.0.0.1:5000", false),
            ("ghcr.io", false),
        ] {
            assert_eq!(is_loopback(registry), plain, "{registry}");
        }
    }
}
