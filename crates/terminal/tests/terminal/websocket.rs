//! A client of the terminal's WebSocket.

use axum::http::{HeaderValue, StatusCode};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::lab::{DEADLINE, Lab, TOKEN};

pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// What the terminal showed and no expectation consumed.
    shown: Vec<u8>,
    /// The notices that came and no expectation consumed.
    notices: Vec<Value>,
    /// Whether output is acknowledged as it comes.
    acknowledges: bool,
}

/// The close code and reason.
pub(crate) type Closed = (u16, String);

impl Socket {
    pub(crate) async fn open(lab: &Lab, path: &str) -> Self {
        Self::open_with(lab, path, &[("authorization", &format!("Bearer {TOKEN}"))]).await.unwrap()
    }

    /// Opens with these headers, or says with which status that was refused.
    pub(crate) async fn open_with(
        lab: &Lab,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, StatusCode> {
        let mut request = format!("ws://{}{path}", lab.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let socket = TcpStream::connect(lab.address).await.unwrap();
        match timeout(DEADLINE, client_async(request, socket)).await.unwrap() {
            Ok((stream, _)) => Ok(Self { stream, shown: vec![], notices: vec![], acknowledges: true }),
            Err(Error::Http(answer)) => Err(answer.status()),
            Err(error) => panic!("{error}"),
        }
    }

    /// From now on, acknowledges nothing.
    pub(crate) fn stop_acknowledging(&mut self) {
        self.acknowledges = false;
    }

    /// From now on, acknowledges what comes.
    pub(crate) fn acknowledge(&mut self) {
        self.acknowledges = true;
    }

    pub(crate) async fn type_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.stream.send(Message::Binary(bytes.into())).await.unwrap();
    }

    pub(crate) async fn say(&mut self, message: Value) {
        self.stream.send(Message::text(message.to_string())).await.unwrap();
    }

    pub(crate) async fn say_raw(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.unwrap();
    }

    /// Waits until the terminal has shown this text, and consumes it with all before it.
    pub(crate) async fn expect(&mut self, text: &str) {
        loop {
            if let Some(at) = find(&self.shown, text.as_bytes()) {
                self.shown.drain(..at + text.len());
                return;
            }
            let shown =
                String::from_utf8_lossy(&self.shown[self.shown.len().saturating_sub(200)..]).into_owned();
            if let Some(closed) = self.receive().await {
                panic!("closed with {closed:?} before {text:?} came; shown: {shown:?}");
            }
        }
    }

    /// Waits until so many bytes were shown, and consumes them.
    pub(crate) async fn expect_bytes(&mut self, count: usize) -> Vec<u8> {
        while self.shown.len() < count {
            if let Some(closed) = self.receive().await {
                panic!("closed with {closed:?} after {} of {count} bytes", self.shown.len());
            }
        }
        self.shown.drain(..count).collect()
    }

    /// Waits for a notice that satisfies, and consumes the notices up to it.
    pub(crate) async fn expect_notice(&mut self, what: &str, satisfies: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(at) = self.notices.iter().position(&satisfies) {
                return self.notices.drain(..=at).next_back().unwrap();
            }
            if let Some(closed) = self.receive().await {
                panic!("closed with {closed:?} before {what} came; notices: {:?}", self.notices);
            }
        }
    }

    pub(crate) async fn expect_status(&mut self, state: &str) -> Value {
        self.expect_notice(state, |notice| notice["type"] == "status" && notice["state"] == state).await
    }

    /// Waits for the end.
    pub(crate) async fn expect_close(&mut self) -> Closed {
        loop {
            if let Some(closed) = self.receive().await {
                return closed;
            }
        }
    }

    /// All that was shown and not consumed.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Receives one message, whatever it is; the close code and reason if it was the last.
    async fn receive(&mut self) -> Option<Closed> {
        match timeout(DEADLINE, self.stream.next()).await.expect("a message in time") {
            Some(Ok(Message::Binary(bytes))) => {
                self.shown.extend_from_slice(&bytes);
                if self.acknowledges {
                    self.say(serde_json::json!({ "type": "ack", "bytes": bytes.len() })).await;
                }
                None
            }
            Some(Ok(Message::Text(text))) => {
                let notice: Value = serde_json::from_str(&text).unwrap();
                match (notice["type"].as_str(), notice["data"].as_str()) {
                    (Some("output"), Some(data)) => self.shown.extend_from_slice(data.as_bytes()),
                    _ => self.notices.push(notice),
                }
                None
            }
            Some(Ok(Message::Close(frame))) => {
                let frame = frame.expect("the server says why it closes");
                Some((CloseCode::into(frame.code), frame.reason.to_string()))
            }
            Some(Ok(_)) => None,
            Some(Err(error)) => Some((1006, error.to_string())),
            None => Some((1006, "the connection dropped".to_owned())),
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
