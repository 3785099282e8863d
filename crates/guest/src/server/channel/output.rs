//! A stream of the process's output on its way to the client.
//!
//! What a process writes now and then is sent at once. A process that writes many small pieces one after the
//! other (a program prints lines to a terminal) gets them gathered: a packet costs the same whether it
//! carries seven bytes or thousands, and on an emulated processor that is a millisecond.

use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::server::process::Stream;
use crate::server::{FirstPrompt, PIECE};

/// A piece below this size, in bytes, is a small one; a screen of 24 lines of 80 characters is not.
const SMALL: usize = 1024;
/// Small pieces are sent at most this often: as often as a fast screen shows a new picture.
const GATHERING: Duration = Duration::from_millis(8);
/// The most that can be left in a stream when its writer ends, in bytes: the largest pipe that a user can
/// make (`/proc/sys/fs/pipe-max-size`); a PTY keeps less.
const MOST_LEFT: usize = 1024 * 1024;

/// Where a stream of output goes, and until when.
pub(super) struct Delivery<'a> {
    pub(super) writer: &'a ChannelWriteHalf<Msg>,
    /// Number of the extended stream; nothing for the channel's own.
    pub(super) kind: Option<u32>,
    /// Told when the first output is sent.
    pub(super) first_prompt: Option<&'a FirstPrompt>,
    /// Turns true when the process has ended.
    pub(super) ended: watch::Receiver<bool>,
    /// How long output is awaited after that, while others still hold the stream open.
    pub(super) linger: Duration,
}

impl Delivery<'_> {
    /// Sends the stream: to its end, or, once the process has ended and the lingering is over, as much of it
    /// as was written by then.
    pub(super) async fn run(self, stream: Option<Stream>) -> Result<(), russh::Error> {
        let Some(Stream { mut reader, rest }) = stream else { return Ok(()) };
        let over = over(self.ended.clone(), self.linger);
        tokio::pin!(over);
        let mut buffer = BytesMut::new();
        let mut small_allowed_at = Instant::now();
        loop {
            buffer.reserve(PIECE);
            tokio::select! {
                read = reader.read_buf(&mut buffer) => match read {
                    // A terminal that the last program has left fails with EIO.
                    Ok(0) | Err(_) => return Ok(()),
                    Ok(_) => {}
                },
                () = &mut over => break,
            }
            if buffer.len() < SMALL {
                sleep_until(small_allowed_at).await;
                gather(&rest, &mut buffer);
            }
            self.send(buffer.split().freeze()).await?;
            small_allowed_at = Instant::now() + GATHERING;
        }
        let mut left = MOST_LEFT;
        while left > 0 && gather(&rest, &mut buffer) {
            left = left.saturating_sub(buffer.len());
            self.send(buffer.split().freeze()).await?;
        }
        Ok(())
    }

    async fn send(&self, data: Bytes) -> Result<(), russh::Error> {
        match self.kind {
            Some(kind) => self.writer.extended_data_bytes(kind, data).await?,
            None => self.writer.data_bytes(data).await?,
        }
        if let Some(first_prompt) = self.first_prompt {
            first_prompt.shown();
        }
        Ok(())
    }
}

/// Ends when the process has, and the lingering is over.
async fn over(mut ended: watch::Receiver<bool>, linger: Duration) {
    // A sender that is dropped has nothing more to tell either.
    let _ = ended.wait_for(|ended| *ended).await;
    sleep(linger).await;
}

/// Adds to the buffer what the stream holds right now, up to a piece. Returns whether the buffer holds
/// anything then.
fn gather(stream: &OwnedFd, buffer: &mut BytesMut) -> bool {
    let mut chunk = [0; 4096];
    while buffer.len() < PIECE {
        let room = chunk.len().min(PIECE - buffer.len());
        match rustix::io::retry_on_intr(|| rustix::io::read(stream, &mut chunk[..room])) {
            Ok(count) if count > 0 => buffer.extend_from_slice(&chunk[..count]),
            // Empty, or at its end.
            _ => break,
        }
    }
    !buffer.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn gathering_takes_what_is_there_and_no_more_than_a_piece() {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&reader, true).expect("a pipe can be read without waiting");
        let reader = OwnedFd::from(reader);
        let mut buffer = BytesMut::new();
        assert!(!gather(&reader, &mut buffer));
        writer.write_all(&[7; PIECE + 100]).expect("a pipe holds 64 KiB");
        assert!(gather(&reader, &mut buffer));
        assert_eq!(buffer.split().len(), PIECE);
        assert!(gather(&reader, &mut buffer));
        assert_eq!(buffer.split().len(), 100);
        drop(writer);
        assert!(!gather(&reader, &mut buffer));
    }
}
