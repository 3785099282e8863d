//! The two languages that a terminal's WebSocket speaks.
//!
//! *Ours* (`/ws`): binary frames are bytes of the terminal, both ways; text frames are JSON objects about it.
//! *The old clients'* (`/terminal`): text frames only, the terminal's text in their `data`. [`Protocol`]
//! translates both to and from what [`terminal`](crate::terminal) means.

use axum::extract::ws::Message;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ssh::{ShellEnd, TerminalSize};
use crate::utf8::Utf8Decoder;

/// Size of a terminal whose client does not say: what the old clients were given.
pub(crate) const DEFAULT_SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };

/// Largest size that is passed on, in characters; anything larger is a mistake that programs in the VM would
/// pay for.
const MAX_SIDE: u32 = 2000;

/// The size that a client asks for, within reason; a side that is 0 or missing is the default's.
pub(crate) fn terminal_size(cols: Option<u32>, rows: Option<u32>) -> TerminalSize {
    let side = |asked: Option<u32>, default| asked.filter(|side| *side > 0).unwrap_or(default).min(MAX_SIDE);
    TerminalSize { cols: side(cols, DEFAULT_SIZE.cols), rows: side(rows, DEFAULT_SIZE.rows) }
}

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FromClient {
    /// The learner typed.
    Input(Bytes),
    /// The terminal has another size.
    Resize(TerminalSize),
    /// The client has shown so many bytes more.
    Shown(usize),
}

/// What a client is told, besides the terminal's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// How the VM is.
    Status {
        /// One word: `connected`, or a [`Condition`](crate::dialler::Condition)'s.
        state: &'static str,
        /// One sentence.
        message: String,
    },
    /// So many bytes that the learner typed have gone to the shell.
    Typed(usize),
    /// The shell ended.
    Ended(ShellEnd),
    /// The terminal cannot go on.
    Error(String),
}

/// A message that the client should not have sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadMessage {
    /// Its JSON is not one of the protocol's messages.
    #[error("not a message of this protocol: {0}")]
    Json(#[from] serde_json::Error),
    /// The old protocol has no binary frames.
    #[error("this protocol has text frames only")]
    Binary,
}

/// One client's protocol, with what it remembers between messages.
pub(crate) enum Protocol {
    /// Binary frames and JSON about them, with acknowledgements.
    Native,
    /// JSON text frames.
    Json(Utf8Decoder),
}

/// Text frames of the native protocol, from the client.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum NativeFromClient {
    Resize { cols: Option<u32>, rows: Option<u32> },
    Ack { bytes: usize },
}

/// Text frames of the native protocol, to the client.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum NativeToClient<'a> {
    Status { state: &'a str, message: &'a str },
    Ack { bytes: usize },
    Exit { status: Option<u32>, signal: Option<&'a str> },
    Error { message: &'a str },
}

/// Text frames of the old protocol, from the client. `resize` without a size was allowed.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum JsonFromClient {
    Input {
        #[serde(default)]
        data: String,
    },
    Resize {
        cols: Option<u32>,
        rows: Option<u32>,
    },
}

/// Text frames of the old protocol, to the client.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum JsonToClient<'a> {
    Output { data: &'a str },
    Error { data: &'a str },
}

impl Protocol {
    /// The old clients' protocol.
    pub(crate) fn json() -> Self {
        Self::Json(Utf8Decoder::default())
    }

    /// Whether the client acknowledges what it has shown.
    pub(crate) fn has_acknowledgements(&self) -> bool {
        matches!(self, Self::Native)
    }

    /// The terminal's bytes for the client; `None` while they end within a character.
    pub(crate) fn output(&mut self, bytes: Bytes) -> Option<Message> {
        match self {
            Self::Native => Some(Message::Binary(bytes)),
            Self::Json(decoder) => {
                let text = decoder.decode(&bytes);
                (!text.is_empty()).then(|| to_text(&JsonToClient::Output { data: &text }))
            }
        }
    }

    /// A notice for the client; `None` where its protocol cannot say it.
    pub(crate) fn notice(&self, notice: &Notice) -> Option<Message> {
        match self {
            Self::Native => Some(native_notice(notice)),
            Self::Json(_) => match notice {
                Notice::Error(message) => Some(to_text(&JsonToClient::Error { data: message })),
                Notice::Status { .. } | Notice::Typed(_) | Notice::Ended(_) => None,
            },
        }
    }
}

/// What the client says in a message. `None` for the messages by which WebSockets keep themselves.
pub(crate) fn from_client(native: bool, message: Message) -> Result<Option<FromClient>, BadMessage> {
    match message {
        Message::Binary(bytes) if native => Ok(Some(FromClient::Input(bytes))),
        Message::Binary(_) => Err(BadMessage::Binary),
        Message::Text(text) if native => Ok(Some(match serde_json::from_str(&text)? {
            NativeFromClient::Resize { cols, rows } => FromClient::Resize(terminal_size(cols, rows)),
            NativeFromClient::Ack { bytes } => FromClient::Shown(bytes),
        })),
        Message::Text(text) => Ok(Some(match serde_json::from_str(&text)? {
            JsonFromClient::Input { data } => FromClient::Input(data.into()),
            JsonFromClient::Resize { cols, rows } => FromClient::Resize(terminal_size(cols, rows)),
        })),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(None),
    }
}

fn native_notice(notice: &Notice) -> Message {
    to_text(&match notice {
        Notice::Status { state, message } => NativeToClient::Status { state, message },
        Notice::Typed(bytes) => NativeToClient::Ack { bytes: *bytes },
        Notice::Ended(ShellEnd::Exited(status)) => {
            NativeToClient::Exit { status: Some(*status), signal: None }
        }
        Notice::Ended(ShellEnd::Killed(signal)) => {
            NativeToClient::Exit { status: None, signal: Some(signal) }
        }
        Notice::Ended(ShellEnd::Closed | ShellEnd::Lost) => {
            NativeToClient::Exit { status: None, signal: None }
        }
        Notice::Error(message) => NativeToClient::Error { message },
    })
}

fn to_text(message: &impl Serialize) -> Message {
    Message::text(serde_json::to_string(message).expect("texts and numbers are always valid JSON"))
}

#[cfg(test)]
mod tests;
