//! One HTTP request: redirects followed, the answer's status judged, nothing secret passed on or shown.

use std::error::Error;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, LOCATION, RANGE};
use reqwest::{Response, StatusCode, redirect};
use tokio::time::timeout;
use url::Url;

use crate::error::{Failure, FetchError};
use crate::location::without_secrets;
use crate::remote::Remote;
use crate::retry::retry_after;
use crate::settings::Policy;

/// Redirects that are followed for one request.
const MOST_REDIRECTS: usize = 10;

/// The client of all requests.
///
/// # Errors
/// [`FetchError::Client`].
pub(crate) fn client(policy: &Policy) -> Result<reqwest::Client, FetchError> {
    // An error means that somebody has installed one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("dozlab/", env!("CARGO_PKG_VERSION")))
        // Followed here, so that secrets stay with the server they are for.
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .http1_only()
        .connect_timeout(policy.connect)
        .build()
        .map_err(|error| FetchError::Client { reason: chain(&error) })
}

/// A remote file, as HTTP has it.
pub(crate) struct Resource<'a> {
    pub(crate) client: &'a reqwest::Client,
    pub(crate) policy: &'a Policy,
    pub(crate) remote: &'a Remote,
    /// For messages.
    pub(crate) location: String,
    /// Where redirects led last, so that not each range follows them anew. Forgotten when a request fails.
    pub(crate) resolved: Mutex<Option<Url>>,
}

impl Resource<'_> {
    /// Asks for the file, or a range of it. The answer is 200, 206, 304 or 416.
    pub(crate) async fn get(
        &self,
        range: Option<&Range<u64>>,
        conditions: &HeaderMap,
    ) -> Result<Response, Failure> {
        let outcome = self.follow(range, conditions).await;
        if outcome.is_err() {
            *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        outcome
    }

    async fn follow(&self, range: Option<&Range<u64>>, conditions: &HeaderMap) -> Result<Response, Failure> {
        let target = self.remote.target().await?;
        let origin = target.url.origin();
        let known = self.resolved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut url = known.unwrap_or(target.url);
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            request = request.headers(conditions.clone());
            if let Some(range) = range {
                request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
            }
            let is_origin = url.origin() == origin;
            if is_origin {
                request = request.headers(target.secrets.clone());
            }
            let response =
                self.within_stall(request.send()).await?.map_err(|error| self.request_failed(error))?;
            let status = response.status();
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return self.judge(response, is_origin, url);
            }
            url = self.redirected(&url, &response)?;
        }
        Err(self.protocol(format!("more than {MOST_REDIRECTS} redirects, perhaps in a circle")).into())
    }

    fn redirected(&self, from: &Url, response: &Response) -> Result<Url, FetchError> {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let url = location.and_then(|location| from.join(location).ok());
        let url =
            url.ok_or_else(|| self.protocol(format!("it redirects ({}) to nowhere", response.status())))?;
        let is_downgrade = from.scheme() == "https" && url.scheme() != "https";
        if is_downgrade || !matches!(url.scheme(), "http" | "https") {
            let to = without_secrets(&url);
            return Err(self.protocol(format!("it redirects to {to}, which is less safe than https")));
        }
        Ok(url)
    }

    fn judge(&self, response: Response, is_origin: bool, url: Url) -> Result<Response, Failure> {
        let status = response.status();
        match status.as_u16() {
            200 | 206 | 304 | 416 => {
                *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) = Some(url);
                Ok(response)
            }
            412 => Err(Failure::Changed),
            408 | 425 | 429 | 500 | 502 | 503 | 504 => {
                let wait = retry_after(response.headers(), SystemTime::now());
                Err(Failure::Transient { reason: format!("the server answered {status}"), wait })
            }
            // What a redirect leads to may have expired: the way there is asked for again.
            401 | 403 | 404 | 410 if !is_origin => {
                Err(Failure::transient(format!("{} answered {status}", without_secrets(&url))))
            }
            code => Err(FetchError::Refused { location: self.location.clone(), status: code }.into()),
        }
    }

    /// The next bytes of an answer; `None` at its end.
    pub(crate) async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, Failure> {
        let chunk = self.within_stall(response.chunk()).await?;
        chunk.map_err(|error| {
            Failure::transient(format!("the connection broke: {}", chain(&error.without_url())))
        })
    }

    async fn within_stall<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let stall: Duration = self.policy.stall;
        timeout(stall, work)
            .await
            .map_err(|_| Failure::transient(format!("nothing arrived for {:.1} s", stall.as_secs_f64())))
    }

    fn request_failed(&self, error: reqwest::Error) -> Failure {
        let error = error.without_url();
        let is_hopeless = error.is_builder() || has_tls_error(&error);
        let reason = chain(&error);
        if is_hopeless { self.protocol(reason).into() } else { Failure::transient(reason) }
    }

    pub(crate) fn protocol(&self, reason: String) -> FetchError {
        FetchError::Protocol { location: self.location.clone(), reason }
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !said.contains(&more) {
            said = format!("{said}: {more}");
        }
        cause = error.source();
    }
    said
}

/// A certificate does not become better with time.
fn has_tls_error(error: &(dyn Error + 'static)) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref::<rustls::Error>() {
            return true;
        }
        // An `io::Error` passes over what it wraps when asked for its source.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}
