//! QEMU's control socket: one JSON object a line (`docs/interop/qmp-spec` of QEMU).
//!
//! We ask for three things and listen for one event, so this speaks to the socket itself; the crates that
//! bring the whole of QMP generate some hundred types for it.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::ControlError;

const PROGRAM: &str = "QEMU";

/// How long QEMU may take to answer. Its main loop answers, which a loaded machine can keep waiting.
const PATIENCE: Duration = Duration::from_secs(20);

/// A line of the socket.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(rename = "return")]
    success: Option<Value>,
    error: Option<Refusal>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    desc: String,
}

/// A connection to one QEMU, ready for commands.
#[derive(Debug)]
pub(super) struct Qmp {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    shutdown: Option<String>,
}

impl Qmp {
    /// Connects and agrees on capabilities. The socket must exist.
    ///
    /// # Errors
    /// [`ControlError`].
    pub(super) async fn connect(socket: &Path) -> Result<Self, ControlError> {
        let failed = |source| ControlError::Socket { program: PROGRAM, request: "connect".into(), source };
        let (reader, writer) = UnixStream::connect(socket).await.map_err(failed)?.into_split();
        let mut qmp = Self { lines: BufReader::new(reader).lines(), writer, shutdown: None };
        // QEMU greets first; the greeting holds nothing that we need.
        qmp.in_time("connect", async |qmp| qmp.next_message("connect").await).await?;
        qmp.execute("qmp_capabilities").await?;
        Ok(qmp)
    }

    /// Runs a command without arguments.
    ///
    /// # Errors
    /// [`ControlError`]: QEMU's own words where it refuses.
    pub(super) async fn execute(&mut self, command: &'static str) -> Result<(), ControlError> {
        self.in_time(command, async |qmp| {
            let request = format!("{}\n", json!({ "execute": command }));
            let failed = |source| ControlError::Socket { program: PROGRAM, request: command.into(), source };
            qmp.writer.write_all(request.as_bytes()).await.map_err(failed)?;
            loop {
                let message = qmp.next_message(command).await?;
                if let Some(refusal) = message.error {
                    let fault = refusal.desc;
                    return Err(ControlError::Refused { program: PROGRAM, request: command.into(), fault });
                }
                if message.success.is_some() {
                    return Ok(());
                }
            }
        })
        .await
    }

    async fn in_time<T>(
        &mut self,
        request: &'static str,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        tokio::time::timeout(PATIENCE, work(self)).await.unwrap_or_else(|_| {
            let seconds = PATIENCE.as_secs();
            Err(ControlError::NoAnswer { program: PROGRAM, request: request.into(), seconds })
        })
    }

    /// The next line; a shutdown event is remembered on the way. Lines that are not understood are passed
    /// over.
    async fn next_message(&mut self, request: &str) -> Result<Message, ControlError> {
        let failed = |source| ControlError::Socket { program: PROGRAM, request: request.into(), source };
        loop {
            let line = self.lines.next_line().await.map_err(failed)?;
            let line = line.ok_or_else(|| failed(std::io::ErrorKind::UnexpectedEof.into()))?;
            let Ok(message) = serde_json::from_str::<Message>(&line) else { continue };
            if message.event.as_deref() == Some("SHUTDOWN") {
                self.shutdown = message.data["reason"].as_str().map(str::to_owned);
            }
            return Ok(message);
        }
    }

    /// Reads until QEMU closes the socket, and returns the reason it gave for shutting down, if any:
    /// `guest-reset`, `guest-shutdown`, … (`ShutdownCause` of QEMU). May be dropped and called again.
    pub(super) async fn shutdown_reason(&mut self) -> Option<String> {
        while self.next_message("wait").await.is_ok() {}
        self.shutdown.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    const DONE: &str = r#"{"return": {}}"#;

    /// A stand-in for QEMU that says these lines: the greeting, then one after each command.
    async fn connected_to(lines: Vec<&'static str>) -> Result<Qmp, ControlError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qmp.sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (reader, mut writer) = listener.accept().await.unwrap().0.into_split();
            let mut commands = BufReader::new(reader).lines();
            writer.write_all(b"{\"QMP\": {}}\n{\"nonsense\n").await.unwrap();
            for line in lines {
                commands.next_line().await.unwrap();
                writer.write_all(format!("{line}\n").as_bytes()).await.unwrap();
            }
        });
        Qmp::connect(&path).await
    }

    #[tokio::test]
    async fn a_refusal_is_reported_in_qemus_words() {
        let refusal = r#"{"error": {"class": "GenericError", "desc": "not now"}}"#;
        let mut qmp = connected_to(vec![DONE, refusal]).await.unwrap();
        let error = qmp.execute("stop").await.unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused stop: not now");
    }

    #[tokio::test]
    async fn events_before_an_answer_are_no_answer_and_the_reason_is_remembered() {
        let shutdown = r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}
{"return": {}}"#;
        let mut qmp = connected_to(vec![DONE, shutdown]).await.unwrap();
        qmp.execute("system_powerdown").await.unwrap();
        assert_eq!(qmp.shutdown_reason().await.as_deref(), Some("guest-reset"));
    }

    #[tokio::test]
    async fn a_qemu_that_ends_while_asked_is_an_error() {
        let mut qmp = connected_to(vec![DONE]).await.unwrap();
        let error = qmp.execute("stop").await.unwrap_err();
        assert!(matches!(error, ControlError::Socket { .. }), "{error}");
    }
}
