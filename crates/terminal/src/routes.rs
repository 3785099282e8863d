//! The HTTP interface.
//!
//! The page and its files are everybody's: they hold nothing of the session. `/health`, `/ready` and
//! `/metrics` are for probes, which have no secret, and tell them nothing from inside the VM. Everything else asks for the session's secret first, by
//! [`Authorized`]. Neither query strings nor headers are ever logged.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::rejection::JsonRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE, UPGRADE, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use crate::access::Refusal;
use crate::dialler::Condition;
use crate::lab::Lab;
use crate::page;
use crate::protocol::{Protocol, terminal_size};
use crate::terminal::{self, MAX_MESSAGE};
use crate::{editor, ssh};

/// Largest body of a request, in bytes: a login holds one secret.
const MAX_BODY: usize = 4096;

/// How long a request may take, its body and a login at the editor included.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// How much a WebSocket reads at once, in bytes. The library's own default is eight times that, for each
/// terminal.
const WEBSOCKET_READ_BUFFER: usize = 16 * 1024;

/// How much a WebSocket gathers before it writes, in bytes.
const WEBSOCKET_WRITE_BUFFER: usize = 16 * 1024;

/// All routes of the terminal.
pub(crate) fn router(lab: Arc<Lab>) -> Router {
    Router::new()
        .merge(page::router())
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/session", get(session).post(log_in))
        .route("/session/logout", post(log_out))
        .route("/editor/open", get(editor::open))
        .route("/ws", terminals(|| Protocol::Native))
        .route("/terminal", terminals(Protocol::json))
        .route("/terminal/ws", terminals(Protocol::json))
        .fallback(async || error(StatusCode::NOT_FOUND, "there is nothing here"))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(within_deadline))
        .layer(map_response(async |mut response: Response| {
            let headers = response.headers_mut();
            headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
            headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
            headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
            response
        }))
        .with_state(lab)
}

/// A client that sends its request too slowly is let go. A WebSocket is answered at once, and lives on beyond
/// that.
async fn within_deadline(request: Request, next: Next) -> Response {
    let timed_out = |_| error(StatusCode::REQUEST_TIMEOUT, "the request took too long");
    timeout(REQUEST_DEADLINE, next.run(request)).await.unwrap_or_else(timed_out)
}

/// An answer that says what is wrong.
pub(crate) fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::WrongSecret => {
                let challenge = [(WWW_AUTHENTICATE, "Bearer realm=\"lab\"")];
                (challenge, error(StatusCode::UNAUTHORIZED, &self.to_string())).into_response()
            }
            Self::ForeignOrigin => error(StatusCode::FORBIDDEN, &self.to_string()),
        }
    }
}

/// Proof that the request carries the session's secret, and that no foreign page made it where that matters:
/// whatever is not a plain GET. It comes first among a handler's arguments, so that nothing else of the
/// request is looked at.
pub(crate) struct Authorized;

impl FromRequestParts<Arc<Lab>> for Authorized {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, lab: &Arc<Lab>) -> Result<Self, Refusal> {
        lab.access.check_secret(&parts.headers).inspect_err(|_| {
            lab.metrics.auth_failures.inc();
        })?;
        if parts.method != Method::GET || parts.headers.contains_key(UPGRADE) {
            lab.access.check_origin(&parts.headers)?;
        }
        Ok(Self)
    }
}

async fn health(State(lab): State<Arc<Lab>>) -> Response {
    let uptime = lab.started.elapsed().as_secs();
    let idle = lab.activity.idle_for().as_secs();
    Json(json!({ "status": "ok", "sessions": lab.metrics.open.get(), "uptime": uptime, "idleSeconds": idle }))
        .into_response()
}

/// The reason why a machine does not run may quote its console, and is for who has the secret.
async fn ready(State(lab): State<Arc<Lab>>, headers: HeaderMap) -> Response {
    let condition = lab.dialler.condition().borrow().clone();
    let status = if condition == Condition::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let authorized = lab.access.check_secret(&headers).is_ok();
    let message = if authorized { condition.message() } else { condition.sentence().to_owned() };
    (status, Json(json!({ "status": condition.word(), "message": message }))).into_response()
}

async fn metrics(State(lab): State<Arc<Lab>>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, content_type)], lab.metrics.text()).into_response()
}

/// What the page shows beside the terminal.
async fn session(_: Authorized, State(lab): State<Arc<Lab>>) -> Response {
    let expires_at = lab.expires_at.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let expires_at = expires_at.map(|since_epoch| since_epoch.as_secs());
    Json(json!({ "session": lab.session_id, "expiresAt": expires_at, "editor": lab.editor.is_some() }))
        .into_response()
}

#[derive(Deserialize)]
struct Login {
    token: String,
}

/// Exchanges the secret for a cookie.
async fn log_in(
    State(lab): State<Arc<Lab>>,
    headers: HeaderMap,
    login: Result<Json<Login>, JsonRejection>,
) -> Response {
    let Json(login) = match login {
        Ok(login) => login,
        Err(rejection) => return error(rejection.status(), "expected a JSON object with a token"),
    };
    if !lab.access.is_token(&login.token) {
        lab.metrics.auth_failures.inc();
        return Refusal::WrongSecret.into_response();
    }
    if let Err(refusal) = lab.access.check_origin(&headers) {
        return refusal.into_response();
    }
    lab.activity.note();
    with_cookies(StatusCode::NO_CONTENT, [lab.access.login_cookie(&headers)])
}

async fn log_out(_: Authorized, State(lab): State<Arc<Lab>>, headers: HeaderMap) -> Response {
    with_cookies(StatusCode::NO_CONTENT, [lab.access.logout_cookie(&headers)])
}

/// An answer that sets cookies.
pub(crate) fn with_cookies(answer: impl IntoResponse, cookies: impl IntoIterator<Item = String>) -> Response {
    let cookies = cookies.into_iter().map(|cookie| (SET_COOKIE, cookie));
    (AppendHeaders(cookies.collect::<Vec<(HeaderName, String)>>()), answer).into_response()
}

/// What a terminal's address may say. The old clients wrote the session's name in two ways.
#[derive(Deserialize)]
struct TerminalQuery {
    #[serde(alias = "sessionId")]
    session_id: Option<String>,
    cols: Option<u32>,
    rows: Option<u32>,
}

impl TerminalQuery {
    fn size(&self) -> ssh::TerminalSize {
        terminal_size(self.cols, self.rows)
    }
}

/// Where terminals that speak this protocol are opened.
fn terminals(protocol: fn() -> Protocol) -> MethodRouter<Arc<Lab>> {
    let open =
        move |_: Authorized,
              State(lab): State<Arc<Lab>>,
              Query(query): Query<TerminalQuery>,
              upgrade: WebSocketUpgrade| async move { open_terminal(lab, upgrade, protocol(), &query) };
    get(open)
}

fn open_terminal(
    lab: Arc<Lab>,
    upgrade: WebSocketUpgrade,
    protocol: Protocol,
    query: &TerminalQuery,
) -> Response {
    if query.session_id.as_ref().is_some_and(|id| *id != lab.session_id) {
        return error(StatusCode::NOT_FOUND, "this terminal belongs to another session");
    }
    let size = query.size();
    upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .read_buffer_size(WEBSOCKET_READ_BUFFER)
        .write_buffer_size(WEBSOCKET_WRITE_BUFFER)
        .on_upgrade(move |socket| terminal::run(socket, protocol, size, lab))
}
