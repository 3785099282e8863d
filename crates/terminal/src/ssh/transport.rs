//! The TCP connection as russh sees it: nothing arrives while the shell's output waits for its reader, and
//! everything fails once the owner has hung up.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::ssh::line::Line;

/// A TCP connection with a valve.
pub(super) struct Transport {
    socket: TcpStream,
    line: Arc<Line>,
}

impl Transport {
    /// Reads from the socket while the line's output has room.
    pub(super) fn new(socket: TcpStream, line: Arc<Line>) -> Self {
        Self { socket, line }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.line.poll_hung_up(context.waker()) {
            return Poll::Ready(Ok(()));
        }
        let room = self.line.output.poll_room(context);
        self.line.set_listening(room.is_ready());
        ready!(room);
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.socket).poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.line.heard();
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.line.poll_hung_up(context.waker()) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
