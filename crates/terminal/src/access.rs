//! Who may use this session: whoever knows its secret, from a page that belongs to it.
//!
//! The secret arrives as `Authorization: Bearer SECRET`, or as a cookie that was exchanged for it. The cookie
//! holds a value derived from the secret, never the secret itself, and derived in the same way by every
//! process that knows the secret, so a restart of the terminal logs nobody out. Browsers send cookies along
//! with requests that foreign pages make; so whatever changes something, and the WebSocket, also looks at
//! `Origin`.
//!
//! `X-Forwarded-Host` is not believed: whoever can reach the terminal directly can send any. Behind a proxy
//! that changes the `Host` header, the public origin belongs in `ALLOWED_ORIGINS`.

use std::fmt;

use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// A text that must not be seen: it has no `Display`, and its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text, for the one place that has to send it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether the other text is the same, in a time that does not depend on where they differ.
    fn matches(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// The scheme, host and port of a page, as in the `Origin` header (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// Reads `https://labs.example.org` or `http://127.0.0.1:8081`; `None` for anything else, the opaque
    /// `null` too.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let uri = text.parse::<Uri>().ok()?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return None;
        }
        Self::of(uri.scheme_str()?, uri.authority()?)
    }

    fn of(scheme: &str, authority: &Authority) -> Option<Self> {
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return None;
        }
        Some(Self {
            scheme: scheme.to_owned(),
            host: authority.host().to_ascii_lowercase(),
            port: authority.port_u16().unwrap_or(default_port),
        })
    }

    /// Whether a request with this `Host` header went to the origin itself. The scheme is taken from the
    /// origin: the terminal does not know whether a proxy in front of it speaks TLS.
    fn serves(&self, host: &str) -> bool {
        let authority = host.parse::<Authority>().ok();
        authority.and_then(|authority| Self::of(&self.scheme, &authority)).is_some_and(|own| own == *self)
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Neither the cookie nor the bearer token is this session's.
    #[error("the session's secret is missing or wrong: open the lab by its link")]
    WrongSecret,
    /// The request comes from a page that is not ours.
    #[error("requests from this origin are not allowed")]
    ForeignOrigin,
}

/// Decides about requests.
pub(crate) struct Access {
    token: Secret,
    cookie_name: String,
    cookie_value: Secret,
    allowed_origins: Vec<Origin>,
}

impl Access {
    /// Access to the session by its secret, from our own origin and the ones given.
    pub(crate) fn new(session_id: &str, token: Secret, allowed_origins: Vec<Origin>) -> Self {
        let cookie_value = Secret(login_value(session_id, &token));
        Self { token, cookie_name: format!("dozlab-{session_id}"), cookie_value, allowed_origins }
    }

    /// Whether the text is the session's secret.
    pub(crate) fn is_token(&self, text: &str) -> bool {
        self.token.matches(text)
    }

    /// Lets a request pass that carries the secret or the cookie.
    pub(crate) fn check_secret(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.has_bearer_token(headers) || self.has_cookie(headers) {
            return Ok(());
        }
        Err(Refusal::WrongSecret)
    }

    /// Lets a request pass that no foreign page made. Programs that are no browsers send no `Origin`.
    pub(crate) fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().ok().and_then(Origin::parse).ok_or(Refusal::ForeignOrigin)?;
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if origin.serves(host) || self.allowed_origins.contains(&origin) {
            return Ok(());
        }
        Err(Refusal::ForeignOrigin)
    }

    /// The `Set-Cookie` value that logs a browser in. Its name holds the session's id, because several
    /// sessions share the host name `127.0.0.1` and cookies do not know ports.
    pub(crate) fn login_cookie(&self, headers: &HeaderMap) -> String {
        let (name, value) = (&self.cookie_name, self.cookie_value.reveal());
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{}", secure_attribute(headers))
    }

    /// The `Set-Cookie` value that logs a browser out.
    pub(crate) fn logout_cookie(&self, headers: &HeaderMap) -> String {
        let secure = secure_attribute(headers);
        format!("{}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0{secure}", self.cookie_name)
    }

    fn has_bearer_token(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let Some((scheme, token)) = value.split_once(' ') else { return false };
        scheme.eq_ignore_ascii_case("bearer") && self.is_token(token.trim())
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
        lines
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(name, value)| name == self.cookie_name && self.cookie_value.matches(value))
    }
}

/// Whether the browser came by TLS, as the proxy in front of us says. A false claim only costs the claimant
/// the cookie.
pub(crate) fn came_by_https(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"))
}

fn secure_attribute(headers: &HeaderMap) -> &'static str {
    if came_by_https(headers) { "; Secure" } else { "" }
}

/// HMAC-SHA-256 over the session's id, keyed with the secret: nobody gets back from it to the secret, and a
/// session that was given the same secret has another value.
fn login_value(session_id: &str, token: &Secret) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(token.reveal().as_bytes())
        .expect("HMAC takes a key of any length (RFC 2104)");
    mac.update(b"dozlab terminal login\0");
    mac.update(session_id.as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests;
