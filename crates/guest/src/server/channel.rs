//! Carries the bytes of one session channel between the client and its process.
//!
//! One task owns the channel. Before the client has said what to run, it keeps what arrives. Then three
//! things go on at once: the client's data go into the process's input, at the speed at which the process
//! reads, while the channel is read at the client's (see `throttle`); the process's output goes to the
//! client, at the speed at which the client grants its window; and the end of the process is awaited. All
//! output of the process is sent before its exit status, and that before the channel closes.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pty_process::Size;
use russh::server::{Handle, Msg};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::{oneshot, watch};

use super::input::Input;
use super::process::{Process, StartError, Started};
use super::throttle::Throttle;
use super::{FirstPrompt, signals};
use output::Delivery;

mod output;

/// How long output of a process that has ended is awaited while its children still hold the pipes: long
/// enough for `command > >(filter)`, short enough that `server &` does not hold a script up.
const LINGER: Duration = Duration::from_secs(1);
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
    /// Holds the connection's client back.
    pub(super) throttle: Arc<Throttle>,
    /// Delivers the process once the client has asked for one.
    pub(super) start: oneshot::Receiver<Result<Started, StartError>>,
}

/// Runs the channel to its end.
pub(super) async fn run(mut channel: SessionChannel) {
    let mut input = Input::waiting(Arc::clone(&channel.throttle));
    let mut size = None;
    let started = loop {
        tokio::select! {
            started = &mut channel.start => match started {
                Ok(started) => break started,
                // The connection ended before the client asked for anything.
                Err(_) => return,
            },
            message = channel.reader.wait() => match message {
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
            converse(channel, started, input).await
        }
        Err(error) => refuse(channel, &error).await,
    };
}

async fn refuse(channel: SessionChannel, error: &StartError) -> Result<(), russh::Error> {
    let SessionChannel { reader, writer, .. } = channel;
    stop_reading(reader);
    writer.extended_data_bytes(STDERR, Bytes::from(format!("dozlab: {error}\r\n"))).await?;
    writer.exit_status(NOT_STARTED).await?;
    writer.eof().await?;
    writer.close().await
}

/// Serves the process until it has ended and its output is sent, or the client is gone.
async fn converse(channel: SessionChannel, started: Started, mut input: Input) -> Result<(), russh::Error> {
    let Started { mut process, input: sink, output, errors, greeting } = started;
    input.connect(sink, !process.is_on_terminal());
    // On a terminal nobody waits for what a background job may still print.
    let linger = if process.is_on_terminal() { Duration::ZERO } else { LINGER };
    let (ended, end) = watch::channel(false);
    let SessionChannel { mut reader, writer, handle, first_prompt, .. } = channel;
    let writer = &writer;
    let first_prompt = process.is_on_terminal().then_some(&first_prompt);
    let to_stdout = Delivery { writer, kind: None, first_prompt, ended: end.clone(), linger };
    let to_stderr = Delivery { writer, kind: Some(STDERR), first_prompt: None, ended: end, linger };
    let delivery = async {
        writer.data_bytes(greeting).await?;
        tokio::try_join!(to_stdout.run(Some(output)), to_stderr.run(errors))
    };
    tokio::pin!(delivery);
    let (mut status, mut delivered) = (None, false);
    loop {
        if let (Some(status), true) = (status, delivered) {
            stop_reading(reader);
            return report(writer, &handle, status).await;
        }
        tokio::select! {
            exit = process.wait(), if status.is_none() => {
                status = Some(exit);
                ended.send_replace(true);
            }
            result = &mut delivery, if !delivered => {
                if result.is_err() {
                    process.hang_up();
                }
                result?;
                delivered = true;
            }
            message = reader.wait() => match message {
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
        ChannelMsg::Data { data } => input.push(data),
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

/// Has the connection drop what still arrives on the channel. A channel that nobody reads and that can be
/// delivered to would make the connection wait, and with it all its other channels.
fn stop_reading(reader: ChannelReadHalf) {
    drop(reader);
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

    #[test]
    fn a_window_is_cut_to_what_the_kernel_can_hold() {
        let size: rustix::termios::Winsize = window(100_000, 24, 0, 0).into();
        assert_eq!((size.ws_col, size.ws_row), (u16::MAX, 24));
    }
}
