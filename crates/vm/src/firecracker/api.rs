//! Firecracker's control socket: HTTP/1.1 over a Unix socket, one request a connection.
//!
//! Its server reads bodies by `Content-Length` only, takes at most 51,200 bytes, and answers a refusal with
//! status 400 and `{"fault_message": …}`, or with `{"error": …}` in which a raw line break makes the JSON
//! invalid; so the message is read leniently.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::UnixStream;

use crate::ControlError;

pub(super) const PROGRAM: &str = "Firecracker";

/// How long Firecracker may take to answer. Loading a kernel is the longest thing it does.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer that is read.
const LONGEST_ANSWER: usize = 1 << 20;

/// The API of one Firecracker process.
#[derive(Clone, Debug)]
pub struct Api {
    socket: PathBuf,
}

impl Api {
    /// The API on this socket.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Reads a resource, and returns its JSON text.
    ///
    /// # Errors
    /// [`ControlError`], with Firecracker's own `fault_message` where it refuses.
    pub async fn get(&self, path: &str) -> Result<String, ControlError> {
        self.request(Method::GET, path, Bytes::new()).await
    }

    /// Sets a resource.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn put<B: Serialize>(&self, path: &str, body: &B) -> Result<(), ControlError> {
        self.request(Method::PUT, path, json(body)).await.map(drop)
    }

    /// Changes a resource.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn patch<B: Serialize>(&self, path: &str, body: &B) -> Result<(), ControlError> {
        self.request(Method::PATCH, path, json(body)).await.map(drop)
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Result<String, ControlError> {
        let description = format!("{method} {path}");
        let seconds = PATIENCE.as_secs();
        tokio::time::timeout(PATIENCE, self.exchange(method, path, body, &description)).await.unwrap_or(Err(
            ControlError::NoAnswer { program: PROGRAM, request: description.clone(), seconds },
        ))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        description: &str,
    ) -> Result<String, ControlError> {
        let failed =
            |source| ControlError::Socket { program: PROGRAM, request: description.to_owned(), source };
        let stream = UnixStream::connect(&self.socket).await.map_err(failed)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other).map_err(failed)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, body.len())
            .body(Full::new(body))
            .expect("the paths of this API are valid in a request");
        let talk = async {
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
            let body = body.map_err(io::Error::other)?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        // The connection must be driven while it is used, and ends with its last use.
        let mut connection = std::pin::pin!(connection);
        let mut talk = std::pin::pin!(talk);
        let answer = tokio::select! {
            answer = &mut talk => answer,
            ended = &mut connection => match ended {
                Ok(()) => talk.await,
                // To a body that it will not read, Firecracker answers twice: the first answer is what
                // counts.
                Err(error) => talk.await.map_err(|_: io::Error| io::Error::other(error)),
            },
        };
        let (status, text) = answer.map_err(failed)?;
        if matches!(status, StatusCode::OK | StatusCode::NO_CONTENT) {
            return Ok(text);
        }
        Err(ControlError::Refused {
            program: PROGRAM,
            request: description.to_owned(),
            fault: fault(status, &text),
        })
    }
}

fn json<B: Serialize>(body: &B) -> Bytes {
    serde_json::to_vec(body).expect("the bodies of this API have only strings, numbers and switches").into()
}

/// The message of a refusal.
fn fault(status: StatusCode, body: &str) -> String {
    if let Ok(serde_json::Value::Object(answer)) = serde_json::from_str(&body.replace(['\n', '\r'], " ")) {
        let message = answer.get("fault_message").or_else(|| answer.get("error"));
        if let Some(message) = message.and_then(serde_json::Value::as_str) {
            return message.to_owned();
        }
    }
    let body = body.trim();
    if body.is_empty() { format!("status {status}") } else { format!("status {status}: {body}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_even_from_invalid_json() {
        let strict = r#"{"fault_message":"Empty PUT request."}"#;
        assert_eq!(fault(StatusCode::BAD_REQUEST, strict), "Empty PUT request.");
        let broken = "{\"error\":\"Invalid request.\nAll previous unanswered requests will be dropped.\"}";
        let message = "Invalid request. All previous unanswered requests will be dropped.";
        assert_eq!(fault(StatusCode::BAD_REQUEST, broken), message);
        assert_eq!(fault(StatusCode::BAD_REQUEST, ""), "status 400 Bad Request");
        assert_eq!(fault(StatusCode::BAD_GATEWAY, "oops"), "status 502 Bad Gateway: oops");
    }
}
