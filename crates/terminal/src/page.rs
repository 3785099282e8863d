//! The page: files that the build made from `web/` and put into the program.
//!
//! They are sent compressed to who takes that, and with a tag, so that a browser that has them already is
//! told so.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use crate::lab::Lab;

/// What the page may do. xterm.js sets its colours and sizes by style elements that it makes, so styles may
/// be inline; scripts may not.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'self'";

/// Changes whenever one of the files does; the build script sets it.
const TAG: &str = concat!("\"", env!("DOZLAB_PAGE_TAG"), "\"");

/// One file of the page, plain and compressed.
#[derive(Clone, Copy)]
pub(crate) struct File {
    content_type: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
}

/// A file, by its name in what the build made.
macro_rules! page_file {
    ($name:literal, $content_type:literal) => {
        File {
            content_type: $content_type,
            plain: include_bytes!(concat!(env!("OUT_DIR"), "/web/dist/", $name)),
            gzip: include_bytes!(concat!(env!("OUT_DIR"), "/web/dist/", $name, ".gz")),
        }
    };
}

const TERMINAL_PAGE: File = page_file!("index.html", "text/html; charset=utf-8");
const EDITOR_PAGE: File = page_file!("editor.html", "text/html; charset=utf-8");
/// Shown, and loaded again and again by itself, while the editor does not answer yet.
pub(crate) const EDITOR_STARTING_PAGE: File = page_file!("editor-starting.html", "text/html; charset=utf-8");
const TERMINAL_SCRIPT: File = page_file!("terminal.js", "text/javascript; charset=utf-8");
const TERMINAL_STYLE: File = page_file!("terminal.css", "text/css; charset=utf-8");
const EDITOR_SCRIPT: File = page_file!("editor.js", "text/javascript; charset=utf-8");
const ICON: File = page_file!("icon.svg", "image/svg+xml");

/// The routes of the page and its files.
pub(crate) fn router() -> Router<Arc<Lab>> {
    Router::new()
        .route("/", serve(TERMINAL_PAGE))
        .route("/editor", serve(EDITOR_PAGE))
        .route("/assets/terminal.js", serve(TERMINAL_SCRIPT))
        .route("/assets/terminal.css", serve(TERMINAL_STYLE))
        .route("/assets/editor.js", serve(EDITOR_SCRIPT))
        .route("/assets/icon.svg", serve(ICON))
}

fn serve(file: File) -> MethodRouter<Arc<Lab>> {
    get(async move |headers: HeaderMap| file.answer(&headers))
}

impl File {
    /// The file, or word that the browser has it.
    pub(crate) fn answer(self, request: &HeaderMap) -> Response {
        let common = [
            (CACHE_CONTROL, "no-cache"),
            (ETAG, TAG),
            (VARY, "accept-encoding"),
            (CONTENT_TYPE, self.content_type),
        ];
        let policy = [("content-security-policy", CONTENT_SECURITY_POLICY)];
        if request.get(IF_NONE_MATCH).is_some_and(|tag| tag == TAG) {
            return (StatusCode::NOT_MODIFIED, common, policy).into_response();
        }
        let accepted = request.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let takes_gzip = accepted.split(',').any(|coding| coding.trim() == "gzip");
        if takes_gzip {
            return (common, policy, [(CONTENT_ENCODING, "gzip")], self.gzip).into_response();
        }
        (common, policy, self.plain).into_response()
    }
}
