//! Carries the bytes of one session channel between the client and its process.
//!
//! One task owns the channel. Before the client has said what to run, it keeps what arrives. Then three things go on at
//! once: the client's data go into the process's input, at the speed at which the process reads; the process's output
//! goes to the client, at the speed at which the client grants its window; and the end of the process is awaited. All
//! output of the process is sent before its exit status, and that before the channel closes.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use pty_process::Size;
use russh::server::{Handle, Msg};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::process::{Process, StartError, Started, Stream};
use super::{FirstPrompt, signals};

/// Output is read and sent in pieces of this size, in bytes; the usual size of an SSH packet.
const PIECE: usize = 32 * 1024;
/// How much of the client's data waits for a process that does not read, in bytes, before the connection waits with it.
const INPUT_LIMIT: usize = 4 * 1024 * 1024;
/// How long output of a process that has ended is awaited while its children still hold the pipes: long enough for
/// `command > >(filter)`, short enough that `server &` does not hold a script up.
const LINGER: Duration = Duration::from_secs(1);
/// The most that can be left in a stream when its writer ends, in bytes: the largest pipe that a user can make
/// (`/proc/sys/fs/pipe-max-size`); a PTY keeps less.
const MOST_LEFT: usize = 1024 * 1024;
/// Number of the standard error stream; RFC 4254, section 5.2.
const STDERR: u32 = 1;
/// Exit status of a program that could not be started, as shells give it.
const NOT_STARTED: u32 = 127;

/// A channel whose task is about to run.
pub(super) struct SessionChannel {
    pub(super) reader: ChannelReadHalf,
    pub(super) writer: ChannelWriteHalf<Msg>,
    /// Sends what the writer has no method for.
    pub(super) handle: Handle,
    /// Told when the process's terminal shows something.
    pub(super) first_prompt: FirstPrompt,
    /// Delivers the process once the client has asked for one.
    pub(super) start: oneshot::Receiver<Result<Started, StartError>>,
}

/// What the client sent to the process and the process has not read yet.
struct Input {
    /// Nothing once the process, or the client, has closed its end.
    sink: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pieces: VecDeque<Bytes>,
    bytes: usize,
    /// Whether the end of the client's data is to be passed on. A terminal stays open.
    closable: bool,
    /// The client will send no more.
    ended: bool,
}

impl Input {
    /// Keeps data that arrive before there is a process.
    fn waiting() -> Self {
        Self { sink: None, pieces: VecDeque::new(), bytes: 0, closable: false, ended: false }
    }

    fn connect(&mut self, sink: Box<dyn AsyncWrite + Send + Unpin>, closable: bool) {
        self.sink = Some(sink);
        self.closable = closable;
        self.close_if_done();
    }

    fn push(&mut self, data: Bytes) {
        self.bytes += data.len();
        self.pieces.push_back(data);
    }

    fn end(&mut self) {
        self.ended = true;
        self.close_if_done();
    }

    fn has_room(&self) -> bool {
        self.bytes < INPUT_LIMIT
    }

    /// Hands some bytes to the process. Waits for ever where there is nothing to hand over. Nothing is lost when it is
    /// interrupted.
    async fn drain(&mut self) {
        let (Some(sink), Some(first)) = (&mut self.sink, self.pieces.front_mut()) else {
            return std::future::pending().await;
        };
        match sink.write(first).await {
            Ok(count) if count > 0 => {
                self.bytes -= count;
                first.advance(count);
                if first.is_empty() {
                    self.pieces.pop_front();
                }
                self.close_if_done();
            }
            // The process has closed its input.
            _ => self.sink = None,
        }
    }

    fn close_if_done(&mut self) {
        if self.ended && self.closable && self.pieces.is_empty() {
            self.sink = None;
        }
    }
}

/// Runs the channel to its end.
pub(super) async fn run(mut channel: SessionChannel) {
    let mut input = Input::waiting();
    let mut size = None;
    let started = loop {
        tokio::select! {
            started = &mut channel.start => match started {
                Ok(started) => break started,
                // The connection ended before the client asked for anything.
                Err(_) => return,
            },
            message = channel.reader.wait(), if input.has_room() => match message {
                Some(ChannelMsg::Data { data }) => input.push(data),
                Some(ChannelMsg::Eof) => input.end(),
                Some(ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height }) => {
                    size = Some(window(col_width, row_height, pix_width, pix_height));
                }
                Some(ChannelMsg::Close) | None => return,
                Some(_) => {}
            },
        }
    };
    // Errors from here on mean that the connection is gone: there is nobody to tell.
    let _ = match started {
        Ok(started) => {
            if let Some(size) = size {
                started.process.resize(size);
            }
            converse(&mut channel, started, input).await
        }
        Err(error) => refuse(&channel.writer, &error).await,
    };
}

async fn refuse(writer: &ChannelWriteHalf<Msg>, error: &StartError) -> Result<(), russh::Error> {
    writer.extended_data_bytes(STDERR, Bytes::from(format!("dozlab: {error}\r\n"))).await?;
    writer.exit_status(NOT_STARTED).await?;
    writer.eof().await?;
    writer.close().await
}

/// Serves the process until it has ended and its output is sent, or the client is gone.
async fn converse(
    channel: &mut SessionChannel,
    started: Started,
    mut input: Input,
) -> Result<(), russh::Error> {
    let Started { mut process, input: sink, output, errors, greeting } = started;
    input.connect(sink, !process.is_on_terminal());
    // On a terminal nobody waits for what a background job may still print.
    let linger = if process.is_on_terminal() { Duration::ZERO } else { LINGER };
    let (ended, end) = watch::channel(false);
    let writer = &channel.writer;
    let first_prompt = process.is_on_terminal().then_some(&channel.first_prompt);
    let delivery = async {
        writer.data_bytes(greeting).await?;
        tokio::try_join!(
            deliver(Some(output), writer, first_prompt, None, end.clone(), linger),
            deliver(errors, writer, None, Some(STDERR), end.clone(), linger),
        )
    };
    tokio::pin!(delivery);
    let (mut status, mut delivered) = (None, false);
    loop {
        if let (Some(status), true) = (status, delivered) {
            return report(writer, &channel.handle, status).await;
        }
        tokio::select! {
            exit = process.wait(), if status.is_none() => {
                status = Some(exit);
                ended.send_replace(true);
            }
            result = &mut delivery, if !delivered => {
                result?;
                delivered = true;
            }
            message = channel.reader.wait(), if input.has_room() => match message {
                Some(ChannelMsg::Close) | None => {
                    process.hang_up();
                    return Ok(());
                }
                Some(message) => obey(message, &mut input, &process),
            },
            () = input.drain() => {}
        }
    }
}

/// Does what the client asks of a process that runs.
fn obey(message: ChannelMsg, input: &mut Input, process: &Process) {
    match message {
        // Data that nobody will read are dropped, as a closed pipe would.
        ChannelMsg::Data { data } if input.sink.is_some() => input.push(data),
        ChannelMsg::Eof => input.end(),
        ChannelMsg::Signal { signal } => {
            if let Some(signal) = signals::from_ssh(&signal) {
                process.signal(signal);
            }
        }
        ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height } => {
            process.resize(window(col_width, row_height, pix_width, pix_height));
        }
        _ => {}
    }
}

/// Sends a stream of the process's output: to its end, or, once the process has ended and `linger` has passed, as much
/// of it as was written by then.
async fn deliver(
    stream: Option<Stream>,
    writer: &ChannelWriteHalf<Msg>,
    first_prompt: Option<&FirstPrompt>,
    kind: Option<u32>,
    mut ended: watch::Receiver<bool>,
    linger: Duration,
) -> Result<(), russh::Error> {
    let Some(Stream { mut reader, rest }) = stream else { return Ok(()) };
    let send = async |data: Bytes| match kind {
        Some(kind) => writer.extended_data_bytes(kind, data).await,
        None => writer.data_bytes(data).await,
    };
    let over = async {
        // The sender lives as long as this future.
        let _ = ended.wait_for(|ended| *ended).await;
        sleep(linger).await;
    };
    tokio::pin!(over);
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        tokio::select! {
            read = reader.read_buf(&mut buffer) => match read {
                // A terminal that the last program has left fails with EIO.
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) => {
                    send(buffer.split().freeze()).await?;
                    if let Some(first_prompt) = first_prompt {
                        first_prompt.shown();
                    }
                }
            },
            () = &mut over => break,
        }
    }
    let mut left = MOST_LEFT;
    while left > 0 {
        let Some(piece) = read_without_waiting(&rest, left.min(PIECE)) else { break };
        left -= piece.len();
        send(piece).await?;
    }
    Ok(())
}

/// What a stream holds right now, up to `limit` bytes; `None` where it is empty or at its end.
fn read_without_waiting(stream: &OwnedFd, limit: usize) -> Option<Bytes> {
    let mut piece = vec![0; limit];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(stream, &mut piece)).ok()?;
    piece.truncate(count);
    (count > 0).then(|| Bytes::from(piece))
}

/// Tells the client how the process ended, and closes the channel.
async fn report(
    writer: &ChannelWriteHalf<Msg>,
    handle: &Handle,
    status: ExitStatus,
) -> Result<(), russh::Error> {
    writer.eof().await?;
    match status.signal() {
        Some(number) => {
            let signal = signals::to_ssh(number);
            let dumped = status.core_dumped();
            let sent = handle.exit_signal_request(writer.id(), signal, dumped, String::new(), String::new());
            sent.await.map_err(|()| russh::Error::SendError)?;
        }
        None => {
            writer.exit_status(status.code().and_then(|code| u32::try_from(code).ok()).unwrap_or(1)).await?
        }
    }
    writer.close().await
}

/// A window's size in the client's numbers. One that does not fit the kernel's 16 bits is cut to them.
pub(super) fn window(columns: u32, rows: u32, width: u32, height: u32) -> Size {
    let cut = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    Size::new_with_pixel(cut(rows), cut(columns), cut(width), cut(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn input_is_handed_over_in_order_and_then_closed() {
        let (near, mut far) = tokio::io::duplex(3);
        let mut input = Input::waiting();
        input.push(Bytes::from_static(b"hello "));
        input.push(Bytes::from_static(b"world"));
        input.end();
        input.connect(Box::new(near), true);
        let mut received = String::new();
        let handing_over = async {
            while input.sink.is_some() {
                input.drain().await;
            }
        };
        let (_, read) = tokio::join!(handing_over, far.read_to_string(&mut received));
        assert_eq!(read.expect("the far end reads"), 11);
        assert_eq!(received, "hello world");
        assert_eq!(input.bytes, 0);
    }

    #[tokio::test]
    async fn input_has_a_limit() {
        let mut input = Input::waiting();
        while input.has_room() {
            input.push(Bytes::from_static(&[0; PIECE]));
        }
        assert_eq!(input.bytes, INPUT_LIMIT);
    }

    #[test]
    fn a_window_is_cut_to_what_the_kernel_can_hold() {
        let size: rustix::termios::Winsize = window(100_000, 24, 0, 0).into();
        assert_eq!((size.ws_col, size.ws_row), (u16::MAX, 24));
    }
}
