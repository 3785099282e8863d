//! The way to the editor: logs the learner in to code-server without showing its password.
//!
//! `/editor` (a page) exchanges the secret in its fragment for our cookie and goes on to `/editor/open`,
//! which logs in at the editor with the session's password, hands the editor's cookie to the browser, and
//! sends it to the editor. Cookies do not know ports, so a cookie set by us reaches the editor on the same
//! host name.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER, SET_COOKIE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::access::came_by_https;
use crate::config::EditorConfig;
use crate::lab::Lab;
use crate::page::EDITOR_STARTING_PAGE;
use crate::routes::{Authorized, error, with_cookies};

/// How long the editor may take to answer a login: it hashes the password, on a machine that may be busy
/// starting a VM.
const LOGIN_DEADLINE: Duration = Duration::from_secs(10);

/// The editor of the session.
pub(crate) struct Editor {
    config: EditorConfig,
}

/// Why the learner cannot be logged in.
#[derive(Debug, thiserror::Error)]
enum LoginError {
    #[error("{url} does not answer yet: {source}")]
    Unreachable { url: Uri, source: io::Error },
    #[error("{url} did not answer within {} seconds", LOGIN_DEADLINE.as_secs())]
    Timeout { url: Uri },
    #[error("the login at {url} failed: {source}")]
    Http { url: Uri, source: hyper::Error },
    #[error("{url} answered the login with {status} instead of a redirect; is its password the session's?")]
    Refused { url: Uri, status: StatusCode },
}

impl Editor {
    /// The way to this editor.
    pub(crate) fn new(config: EditorConfig) -> Self {
        Self { config }
    }

    /// Logs in; returns the `Set-Cookie` values of the editor. `host` is the editor's address for the
    /// browser, from which the editor derives its cookie's domain.
    async fn log_in(&self, host: &Authority) -> Result<Vec<HeaderValue>, LoginError> {
        let url = &self.config.url;
        let attempt = self.request_login(host);
        timeout(LOGIN_DEADLINE, attempt)
            .await
            .unwrap_or_else(|_| Err(LoginError::Timeout { url: url.clone() }))
    }

    async fn request_login(&self, host: &Authority) -> Result<Vec<HeaderValue>, LoginError> {
        let url = &self.config.url;
        let address = (url.host().unwrap_or_default().trim_matches(['[', ']']), port(url));
        let socket = TcpStream::connect(address)
            .await
            .map_err(|source| LoginError::Unreachable { url: url.clone(), source })?;
        let failed = |source| LoginError::Http { url: url.clone(), source };
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(failed)?;
        let mut response = pin!(sender.send_request(self.login_request(host)));
        let response = tokio::select! {
            biased;
            response = &mut response => response,
            // An editor that closes the connection at once may have answered before.
            _ = connection => response.await,
        };
        let response = response.map_err(failed)?;
        if !response.status().is_redirection() {
            return Err(LoginError::Refused { url: url.clone(), status: response.status() });
        }
        Ok(response.headers().get_all(SET_COOKIE).iter().cloned().collect())
    }

    /// What code-server's login page sends (its form has the one field that matters, `password`).
    fn login_request(&self, host: &Authority) -> Request<Body> {
        let password = self.config.password.reveal();
        let form = form_urlencoded::Serializer::new(String::new()).append_pair("password", password).finish();
        let path = format!("{}/login", self.config.url.path().trim_end_matches('/'));
        let host =
            HeaderValue::from_str(host.as_str()).expect("an authority is a valid header value (RFC 3986)");
        let mut request =
            Request::post(path).body(Body::from(form)).expect("the path of a URL is a valid path");
        request.headers_mut().insert(HOST, host);
        request
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        request
    }

    /// Why the editor will not come, where that is known.
    fn failure(&self) -> Option<String> {
        let reason = std::fs::read_to_string(self.config.failure_file.as_ref()?).ok()?;
        Some(reason.trim_end().to_owned())
    }

    /// The editor's address as the browser sees it; `None` if the request names no host.
    fn public_url(&self, request: &HeaderMap) -> Option<Uri> {
        if let Some(url) = &self.config.public_url {
            return Some(url.clone());
        }
        let host = request.get(HOST)?.to_str().ok()?.parse::<Authority>().ok()?;
        let scheme = if came_by_https(request) { "https" } else { "http" };
        let (host, port, path) = (host.host(), port(&self.config.url), self.config.url.path());
        format!("{scheme}://{host}:{port}{path}").parse().ok()
    }
}

fn port(url: &Uri) -> u16 {
    url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 })
}

/// The editor's cookie for the browser: same name, value and path, out of reach for scripts, for this host
/// only.
fn relayed_cookie(cookie: &HeaderValue, https: bool) -> Option<String> {
    let mut parts = cookie.to_str().ok()?.split(';').map(str::trim);
    let pair = parts.next().filter(|pair| pair.contains('='))?;
    let path =
        parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.eq_ignore_ascii_case("path"));
    let path = path.map_or("/", |(_, path)| path);
    let secure = if https { "; Secure" } else { "" };
    Some(format!("{pair}; Path={path}; HttpOnly; SameSite=Lax{secure}"))
}

/// `GET /editor/open`: to the editor, or a page that tries again while it starts.
pub(crate) async fn open(_: Authorized, State(lab): State<Arc<Lab>>, headers: HeaderMap) -> Response {
    let Some(editor) = &lab.editor else {
        return error(StatusCode::NOT_FOUND, "this session has no editor");
    };
    let Some(public_url) = editor.public_url(&headers) else {
        return error(StatusCode::BAD_REQUEST, "the request names no host");
    };
    let Some(authority) = public_url.authority() else {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "the editor's public address names no host");
    };
    match editor.log_in(authority).await {
        Ok(cookies) => {
            lab.activity.note();
            let https = came_by_https(&headers);
            let cookies = cookies.iter().filter_map(|cookie| relayed_cookie(cookie, https));
            with_cookies((StatusCode::SEE_OTHER, [(LOCATION, public_url.to_string())]), cookies)
        }
        Err(refused @ LoginError::Refused { .. }) => {
            warn!(error = %refused, "cannot log in to the editor");
            error(StatusCode::BAD_GATEWAY, &refused.to_string())
        }
        Err(starting) => {
            debug!(error = %starting, "the editor is not ready");
            if let Some(reason) = editor.failure() {
                return error(StatusCode::BAD_GATEWAY, &reason);
            }
            let page = EDITOR_STARTING_PAGE.answer(&HeaderMap::new());
            (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], page).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
