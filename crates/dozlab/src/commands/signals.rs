//! Ctrl-C and its relatives, as requests.

use std::io;

use dozlab_local::EndRequest;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// What each signal asks of a running lab. The receiver sees the latest; a second Ctrl-C always means "at once".
pub(super) fn end_requests(keep: bool) -> io::Result<watch::Receiver<EndRequest>> {
    let (sender, receiver) = watch::channel(EndRequest::Run);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            let request = tokio::select! {
                _ = interrupt.recv() => {
                    let first = *sender.borrow() == EndRequest::Run;
                    if keep && first { EndRequest::Stop } else { EndRequest::Discard }
                }
                _ = terminate.recv() => EndRequest::Stop,
                _ = hangup.recv() => EndRequest::Stop,
            };
            // A request to discard is not taken back.
            sender.send_if_modified(|current| {
                let changes = *current != EndRequest::Discard && *current != request;
                if changes {
                    *current = request;
                }
                changes
            });
        }
    });
    Ok(receiver)
}

/// Listens for SIGINT and SIGTERM from this call on; the future waits for one and is true for SIGTERM.
///
/// Not an `async fn`: that would listen only once it is polled, and a signal before then would end the process as
/// signals do, with nothing cleaned up.
pub(super) fn termination() -> io::Result<impl Future<Output = bool>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => false,
            _ = terminate.recv() => true,
        }
    })
}
