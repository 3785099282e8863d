//! Hears `reboot`, `poweroff` and `halt` while systemd has taken the machine over and does not listen yet.
//!
//! There is a prompt long before there is a systemd that takes requests. Its commands ask it over its bus,
//! and where that fails they write to the FIFO by which the System V init was asked, `/run/initctl`; systemd
//! itself listens to that FIFO later. Until then the SSH server does, and passes a request on as soon as
//! systemd can be told.
//!
//! Such a request names a run level. `halt` has none of its own: systemd's commands send the one of
//! `poweroff`, and this early it switches the machine off.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::OpenOptions;

use super::Action;

/// Where systemd's commands look first, and where `systemd-initctl.socket` listens.
pub(crate) const FIFO: &str = "/run/initctl";
/// Size of `struct init_request` of the System V init's `initreq.h`: four ints (magic, command, run level, a
/// time) and 368 bytes that are of use to other commands only.
const REQUEST_SIZE: usize = 384;
/// `INIT_MAGIC` of `initreq.h`.
const MAGIC: i32 = 0x0309_1969;
/// `INIT_CMD_RUNLVL`: change the run level.
const CHANGE_RUN_LEVEL: i32 = 1;

/// Makes the FIFO, for root alone. systemd takes over one with this mode that is there already.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0)?)
}

/// Waits for a request to end the machine.
pub(crate) async fn requested(path: &Path) -> io::Result<Action> {
    // With a writing end of its own, the FIFO does not end with each client.
    let mut requests = OpenOptions::new().read_write(true).open_receiver(path)?;
    loop {
        // A FIFO takes a request whole, `pipe(7)`.
        let mut request = [0; REQUEST_SIZE];
        requests.read_exact(&mut request).await?;
        if let Some(action) = action_of(&request) {
            return Ok(action);
        }
    }
}

fn action_of(request: &[u8; REQUEST_SIZE]) -> Option<Action> {
    let number =
        |at: usize| i32::from_ne_bytes([request[at], request[at + 1], request[at + 2], request[at + 3]]);
    let (magic, command, run_level) = (number(0), number(4), number(8));
    if (magic, command) != (MAGIC, CHANGE_RUN_LEVEL) {
        return None;
    }
    match u8::try_from(run_level) {
        Ok(b'0') => Some(Action::PowerOff),
        Ok(b'6') => Some(Action::Restart),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    fn request(magic: i32, command: i32, run_level: u8) -> [u8; REQUEST_SIZE] {
        let mut request = [0; REQUEST_SIZE];
        for (at, number) in [(0, magic), (4, command), (8, i32::from(run_level))] {
            request[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        }
        request
    }

    #[tokio::test]
    async fn the_first_request_that_ends_the_machine_is_heard() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("initctl");
        create(&path).expect("the FIFO is made");
        let metadata = std::fs::metadata(&path).expect("it is there");
        assert!(metadata.file_type().is_fifo() && metadata.mode() & 0o777 == 0o600, "{:o}", metadata.mode());
        let asking = async {
            // Each client opens the FIFO anew.
            for request in [request(MAGIC, CHANGE_RUN_LEVEL, b'3'), request(MAGIC, CHANGE_RUN_LEVEL, b'6')] {
                let mut fifo = std::fs::File::options().write(true).open(&path).expect("somebody listens");
                fifo.write_all(&request).expect("somebody listens");
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            action = requested(&path) => assert_eq!(action.expect("the FIFO can be read"), Action::Restart),
            () = asking => unreachable!("nobody waits for this"),
        }
    }

    #[test]
    fn only_two_run_levels_end_the_machine() {
        assert_eq!(action_of(&request(MAGIC, CHANGE_RUN_LEVEL, b'0')), Some(Action::PowerOff));
        for other in [
            request(MAGIC, CHANGE_RUN_LEVEL, b'1'),
            request(MAGIC, CHANGE_RUN_LEVEL, 0),
            request(MAGIC, 2, b'6'),
            request(0, CHANGE_RUN_LEVEL, b'6'),
            [0; REQUEST_SIZE],
        ] {
            assert_eq!(action_of(&other), None);
        }
    }
}
