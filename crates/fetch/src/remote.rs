//! Turns a location into an HTTP request: a URL and the headers that authorise it.
//!
//! S3 requests are signed into the URL, and Google's carry a bearer token. Both come from `object_store`, which finds
//! the credentials where the clouds' own tools do: in `AWS_*` and `GOOGLE_*` variables, in the files that those
//! name, or from the metadata service. The transfer itself is then the same as any other.

use std::time::Duration;

use object_store::RetryConfig;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::path::Path as ObjectPath;
use object_store::signer::Signer;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use url::Url;

use crate::error::{Failure, FetchError};
use crate::location::Location;
use crate::settings::{Secrets, bearer};

/// How long a signed URL holds. Each attempt gets a new one.
const SIGNED_FOR: Duration = Duration::from_secs(15 * 60);

/// Google Cloud Storage's XML interface.
const GOOGLE_BASE_URL: &str = "https://storage.googleapis.com";

/// Where to send a request, and what only that server may see.
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(crate) secrets: HeaderMap,
}

/// A remote file.
pub(crate) enum Remote {
    Http { url: Url, secrets: HeaderMap },
    S3 { store: Box<AmazonS3>, key: ObjectPath, is_public: bool, location: String },
    Gs { store: Box<GoogleCloudStorage>, url: Url, is_public: bool, location: String },
}

impl Remote {
    pub(crate) fn new(location: &Location, secrets: &Secrets) -> Result<Self, FetchError> {
        let shown = location.to_string();
        let unusable = |error: object_store::Error| FetchError::Credentials {
            location: shown.clone(),
            reason: error.to_string(),
        };
        let protocol = |reason: String| FetchError::Protocol { location: shown.clone(), reason };
        // Attempts are counted in one place, ours.
        let once = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        match location {
            Location::File(_) => Err(protocol("it is a local file".into())),
            Location::Http(url) => Ok(Self::Http { url: url.clone(), secrets: secrets.headers.clone() }),
            Location::S3 { bucket, key } => {
                let is_public = is_set("AWS_SKIP_SIGNATURE");
                let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(once);
                if is_public {
                    // A signature is made, and then taken off again.
                    builder = builder.with_access_key_id("none").with_secret_access_key("none");
                }
                let key = ObjectPath::parse(key).map_err(|error| protocol(error.to_string()))?;
                let store = Box::new(builder.build().map_err(unusable)?);
                Ok(Self::S3 { store, key, is_public, location: shown })
            }
            Location::Gs { bucket, key } => {
                let base = std::env::var("GOOGLE_BASE_URL").unwrap_or_else(|_| GOOGLE_BASE_URL.to_owned());
                let mut url =
                    Url::parse(&base).map_err(|error| protocol(format!("GOOGLE_BASE_URL: {error}")))?;
                url.path_segments_mut()
                    .map_err(|()| protocol("GOOGLE_BASE_URL has no host".into()))?
                    .pop_if_empty()
                    .push(bucket)
                    .extend(key.split('/'));
                let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(once);
                let store = Box::new(builder.build().map_err(unusable)?);
                let is_public = is_set("GOOGLE_SKIP_SIGNATURE");
                Ok(Self::Gs { store, url, is_public, location: shown })
            }
        }
    }

    /// The request to make now.
    pub(crate) async fn target(&self) -> Result<Target, Failure> {
        match self {
            Self::Http { url, secrets } => Ok(Target { url: url.clone(), secrets: secrets.clone() }),
            Self::S3 { store, key, is_public, location } => {
                let signed = store.signed_url(Method::GET, key, SIGNED_FOR).await;
                let mut url = signed.map_err(|error| no_credentials(location, &error))?;
                if *is_public {
                    url.set_query(None);
                }
                Ok(Target { url, secrets: HeaderMap::new() })
            }
            Self::Gs { store, url, is_public, location } => {
                let mut secrets = HeaderMap::new();
                if !is_public {
                    let credential = store.credentials().get_credential().await;
                    let credential = credential.map_err(|error| no_credentials(location, &error))?;
                    // It is empty where the service account says `disable_oauth`, as an emulator's does.
                    if let Some(value) = bearer(&credential.bearer) {
                        secrets.insert(AUTHORIZATION, value);
                    }
                }
                Ok(Target { url: url.clone(), secrets })
            }
        }
    }
}

/// Getting credentials is a request of its own that may fail for a moment; it says so only in words.
fn no_credentials(location: &str, error: &object_store::Error) -> Failure {
    if let object_store::Error::Generic { .. } = error {
        return Failure::transient(format!("no credentials for it: {error}"));
    }
    Failure::Final(FetchError::Credentials { location: location.to_owned(), reason: error.to_string() })
}

fn is_set(variable: &str) -> bool {
    std::env::var(variable)
        .is_ok_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes"))
}
