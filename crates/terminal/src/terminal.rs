//! One terminal: a WebSocket on one side, a shell in the VM on the other.
//!
//! What the client sends is read all the time, into a bounded queue of input; so acknowledgements and changes
//! of size pass even while the shell takes no input. What the shell writes is sent as fast as the client
//! takes it: a client of our protocol acknowledges what it has shown, and is sent nothing while more than
//! [`UNACKNOWLEDGED_LIMIT`] is on its way; an old client is held back by its socket alone. So is a client
//! whose input fills the queue: its acknowledgements are stuck behind that input, and a shell that waits for
//! its output to be taken would never read it. Behind both stands the [SSH connection](crate::ssh), which
//! stops reading from the VM meanwhile.
//!
//! The WebSocket outlives the shell's connection: when the VM goes down the client is told so, and gets a new
//! shell when it is back. What is typed before the first shell waits for it; what is typed while the VM
//! restarts was meant for a shell that is no more, and is dropped.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tracing::{debug, info};

use crate::byte_queue::ByteQueue;
use crate::dialler::{Condition, Dialled};
use crate::lab::Lab;
use crate::protocol::{FromClient, Notice, Protocol, from_client};
use crate::ssh::{DialError, Shell, ShellEnd, TerminalSize};
use crate::tally::Tally;

/// How many bytes may be on their way to a client that acknowledges: enough for a screen at any speed, little
/// enough for Ctrl-C to seem immediate.
pub(crate) const UNACKNOWLEDGED_LIMIT: usize = 256 * 1024;

/// How much input may wait for the shell, in bytes. More than what the page sends without an acknowledgement
/// (64 KiB), so that its other messages are never stuck behind input.
const INPUT_CAPACITY: usize = 256 * 1024;

/// How many bytes of input are acknowledged at once.
const INPUT_ACKNOWLEDGEMENT: usize = 16 * 1024;

/// Largest frame of output, in bytes.
const OUTPUT_FRAME: usize = 32 * 1024;

/// Largest message that a client may send, in bytes.
pub(crate) const MAX_MESSAGE: usize = 256 * 1024;

/// How often a client is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// After how long a silence a client is taken for gone.
const CLIENT_SILENCE_LIMIT: Duration = Duration::from_secs(90);

/// How long a client may take to accept that the terminal is over.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Why the WebSocket is closed, with the codes that the client sees (RFC 6455, 7.4; 4000 and above are ours).
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// The client went away by itself.
    ClientGone,
    /// 1000: the shell ended.
    ShellEnded,
    /// 1001: the session ends.
    SessionEnded,
    /// 1007: the client sent a message that is none.
    BadMessage(String),
    /// 1013: too many terminals are open.
    Full,
    /// 4001: what answers is not this session's VM, or it refuses us; `wrong-host-key` or `login-refused`.
    Refused(&'static str),
}

impl End {
    fn close_frame(&self) -> Option<CloseFrame> {
        let (code, reason): (u16, &str) = match self {
            Self::ClientGone => return None,
            Self::ShellEnded => (1000, "the shell ended"),
            Self::SessionEnded => (1001, "session ended"),
            Self::BadMessage(reason) => (1007, reason),
            Self::Full => (1013, "too many terminals are open"),
            Self::Refused(word) => (4001, word),
        };
        Some(CloseFrame { code, reason: Utf8Bytes::from(shorten(reason)) })
    }
}

/// A close frame's reason has at most 123 bytes (RFC 6455, 5.5).
fn shorten(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(123)]
}

/// Runs a terminal until either side is done with it.
pub(crate) async fn run(socket: WebSocket, protocol: Protocol, size: TerminalSize, lab: Arc<Lab>) {
    let (sink, mut stream) = socket.split();
    let mut client = Client::new(sink, protocol);
    let Ok(_place) = Arc::clone(&lab.places).try_acquire_owned() else {
        return client.close(&mut stream, &End::Full).await;
    };
    info!("a terminal was opened");
    lab.metrics.connects.inc();
    lab.metrics.open.inc();
    lab.activity.note();
    let native = client.protocol.has_acknowledgements();
    let desk = Desk {
        input: ByteQueue::new(INPUT_CAPACITY),
        input_is_stuck: watch::Sender::new(false),
        size: watch::Sender::new(size),
        unacknowledged: Tally::new(),
        typed: Tally::new(),
    };
    let end = tokio::select! {
        end = read_client(&mut stream, native, &desk, &lab) => end,
        end = serve_shells(&mut client, &desk, &lab) => end,
        () = lab.shutdown.cancelled() => End::SessionEnded,
    };
    client.close(&mut stream, &end).await;
    lab.metrics.open.dec();
    info!(?end, "a terminal was closed");
}

/// What the two directions of a terminal share.
struct Desk {
    /// What the learner typed and the shell has not taken.
    input: ByteQueue,
    /// Whether the queue of input is full, so that nothing else is read from the client.
    input_is_stuck: watch::Sender<bool>,
    /// The size of the client's window.
    size: watch::Sender<TerminalSize>,
    /// Bytes of output that are on their way to the client.
    unacknowledged: Tally,
    /// Bytes of input that the shell took and the client was not told about.
    typed: Tally,
}

impl Desk {
    /// Waits until a client that acknowledges may be sent more.
    async fn may_send(&self) {
        let mut input_is_stuck = self.input_is_stuck.subscribe();
        tokio::select! {
            () = self.unacknowledged.below(UNACKNOWLEDGED_LIMIT) => {}
            Ok(_) = input_is_stuck.wait_for(|stuck| *stuck) => {}
        }
    }
}

/// The sending half of the WebSocket, in the client's protocol.
struct Client {
    sink: SplitSink<WebSocket, Message>,
    protocol: Protocol,
    /// When to ask the client for a sign of life.
    ping: Interval,
}

impl Client {
    fn new(sink: SplitSink<WebSocket, Message>, protocol: Protocol) -> Self {
        let mut ping = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { sink, protocol, ping }
    }

    async fn send(&mut self, message: Option<Message>) -> Result<(), End> {
        let Some(message) = message else { return Ok(()) };
        self.sink.send(message).await.map_err(|error| {
            debug!(%error, "the client is gone");
            End::ClientGone
        })
    }

    async fn notify(&mut self, notice: Notice) -> Result<(), End> {
        let message = self.protocol.notice(&notice);
        self.send(message).await
    }

    /// Says why the terminal is over, then reads on until the client has closed too: closing a socket with
    /// something unread in it would take back what was written.
    async fn close(&mut self, stream: &mut SplitStream<WebSocket>, end: &End) {
        let Some(frame) = end.close_frame() else { return };
        let farewell = async {
            if let End::Full | End::BadMessage(_) = end {
                let _ = self.notify(Notice::Error(frame.reason.to_string())).await;
            }
            let _ = self.send(Some(Message::Close(Some(frame)))).await;
            while let Some(Ok(_)) = stream.next().await {}
        };
        let _ = timeout(CLOSE_DEADLINE, farewell).await;
    }
}

/// Reads what the client sends until it is gone.
async fn read_client(stream: &mut SplitStream<WebSocket>, native: bool, desk: &Desk, lab: &Lab) -> End {
    loop {
        let message = match timeout(CLIENT_SILENCE_LIMIT, stream.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => {
                debug!(%error, "the client is gone");
                return End::ClientGone;
            }
            Ok(None) | Err(_) => return End::ClientGone,
        };
        match from_client(native, message) {
            Ok(Some(FromClient::Input(bytes))) => {
                if desk.input.room().now_or_never().is_none() {
                    desk.input_is_stuck.send_replace(true);
                    desk.input.room().await;
                    desk.input_is_stuck.send_replace(false);
                }
                lab.metrics.typed(bytes.len());
                lab.activity.note();
                desk.input.push(&bytes);
            }
            Ok(Some(FromClient::Resize(size))) => {
                desk.size.send_if_modified(|current| {
                    let changed = *current != size;
                    *current = size;
                    changed
                });
            }
            Ok(Some(FromClient::Shown(count))) => desk.unacknowledged.subtract(count),
            Ok(None) => {}
            Err(error) => return End::BadMessage(error.to_string()),
        }
    }
}

/// What becomes of what was typed before a shell began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TypedAhead {
    /// It waited for the first shell.
    Keep,
    /// It was meant for a shell that is no more.
    Drop,
}

/// Gives the client one shell after the other: the first, and a new one each time the VM was lost.
async fn serve_shells(client: &mut Client, desk: &Desk, lab: &Lab) -> End {
    let mut typed_ahead = TypedAhead::Keep;
    loop {
        let end = match serve_shell(client, desk, lab, typed_ahead).await {
            Ok(ShellEnd::Lost) => {
                typed_ahead = TypedAhead::Drop;
                continue;
            }
            Ok(end) => end,
            Err(end) => return end,
        };
        return client.notify(Notice::Ended(end)).await.err().unwrap_or(End::ShellEnded);
    }
}

/// Waits for a connection, starts a shell on it, and carries it until it ends.
async fn serve_shell(
    client: &mut Client,
    desk: &Desk,
    lab: &Lab,
    typed_ahead: TypedAhead,
) -> Result<ShellEnd, End> {
    let Dialled { connection, boot_over } = wait_for_connection(client, lab).await?;
    let size = *desk.size.borrow();
    let shell = match connection.start_shell(size).await {
        Ok(shell) => shell,
        Err(error) => return shell_refused(client, error).await,
    };
    if typed_ahead == TypedAhead::Drop {
        desk.input.clear();
    }
    client.notify(Notice::Status { state: "connected", message: "connected".to_owned() }).await?;
    tokio::select! {
        end = show_output(client, &shell, desk, lab) => end,
        never = pass_input(&shell, desk) => match never {},
        () = shell.silent() => Ok(ShellEnd::Lost),
        () = boot_over.cancelled() => Ok(ShellEnd::Lost),
    }
}

/// A VM that goes down while the shell starts is lost like any other; a server that has no shell for us is
/// not waited for.
async fn shell_refused(client: &mut Client, error: DialError) -> Result<ShellEnd, End> {
    if !matches!(error, DialError::ShellRefused { .. }) {
        debug!(%error, "the VM was lost before the shell started");
        return Ok(ShellEnd::Lost);
    }
    client.notify(Notice::Error(error.to_string())).await?;
    Err(End::Refused(error.reason()))
}

/// Waits for a connection, and tells the client meanwhile how the VM is.
async fn wait_for_connection(client: &mut Client, lab: &Lab) -> Result<Dialled, End> {
    let mut condition = lab.dialler.condition();
    condition.mark_changed();
    let mut connect = std::pin::pin!(lab.dialler.connect());
    loop {
        tokio::select! {
            // A connection that is there needs no words.
            biased;
            dialled = &mut connect => return dialled.ok_or(End::SessionEnded),
            Ok(()) = condition.changed() => {
                let condition = condition.borrow_and_update().clone();
                tell_condition(client, &condition).await?;
            }
            _ = client.ping.tick() => client.send(Some(Message::Ping(Bytes::new()))).await?,
        }
    }
}

async fn tell_condition(client: &mut Client, condition: &Condition) -> Result<(), End> {
    if condition.is_refusal() {
        client.notify(Notice::Error(condition.message())).await?;
        return Err(End::Refused(condition.word()));
    }
    if *condition != Condition::Ready {
        client.notify(Notice::Status { state: condition.word(), message: condition.message() }).await?;
    }
    Ok(())
}

/// Sends what the shell writes until it ends, between it what else the client must know.
async fn show_output(client: &mut Client, shell: &Shell, desk: &Desk, lab: &Lab) -> Result<ShellEnd, End> {
    loop {
        let output = async {
            if client.protocol.has_acknowledgements() {
                desk.may_send().await;
            }
            shell.output(OUTPUT_FRAME).await
        };
        let message = tokio::select! {
            output = output => {
                let Some(bytes) = output else { return Ok(shell.end()) };
                lab.metrics.shown(bytes.len());
                desk.unacknowledged.add(bytes.len());
                client.protocol.output(bytes)
            }
            count = desk.typed.take(INPUT_ACKNOWLEDGEMENT) => client.protocol.notice(&Notice::Typed(count)),
            _ = client.ping.tick() => Some(Message::Ping(Bytes::new())),
        };
        client.send(message).await?;
    }
}

/// Gives the shell what the learner types and each new size. It does not end: a shell that takes nothing any
/// more shows in its output, after the last of which comes its end.
async fn pass_input(shell: &Shell, desk: &Desk) -> Infallible {
    let mut size = desk.size.subscribe();
    loop {
        let passed = tokio::select! {
            Some(bytes) = desk.input.take(INPUT_ACKNOWLEDGEMENT) => {
                let count = bytes.len();
                let passed = shell.input(bytes).await;
                desk.typed.add(count);
                passed
            }
            Ok(()) = size.changed() => {
                let size = *size.borrow_and_update();
                shell.resize(size).await
            }
            else => pending().await,
        };
        if let Err(error) = passed {
            debug!(%error, "the shell takes no input");
            pending::<Infallible>().await;
        }
    }
}
