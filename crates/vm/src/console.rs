//! The guest's serial console: kept in a file that cannot grow without end, and read for the guest's own
//! lines.
//!
//! The guest is hostile and may write whatever it likes, as fast as it likes: a line is cut at
//! [`LONGEST_LINE`], the log is turned over at [`LOG_LIMIT`], and what is said after the machine is up moves
//! nothing on the host but its own restart.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dozlab_session::guest_config::GuestLine;
use tokio::io::{AsyncRead, AsyncReadExt};

/// A console log is turned over to `NAME.1` when it reaches this many bytes, so that the two together stay
/// under twice that.
pub const LOG_LIMIT: u64 = 1 << 20;

/// Longer lines are cut.
pub const LONGEST_LINE: usize = 1024;

/// How many lines are remembered for an error message.
const REMEMBERED: usize = 20;

/// Something that the console said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsoleEvent {
    /// A line of our guest program.
    Guest(GuestLine),
    /// The kernel is about to restart.
    Restarting,
    /// The kernel powered the machine off.
    PowerDown,
    /// The kernel halted the machine: it stands still.
    Halted,
    /// The kernel died.
    Panic(String),
}

impl ConsoleEvent {
    /// What a line says, `None` where it is of no interest.
    fn of(line: &str) -> Option<Self> {
        if let Some(line) = GuestLine::parse(line) {
            return Some(Self::Guest(line));
        }
        // The texts of `kernel/reboot.c` and `kernel/panic.c` of Linux.
        let texts = [
            ("reboot: Restarting system", Self::Restarting),
            ("reboot: Power down", Self::PowerDown),
            ("reboot: System halted", Self::Halted),
        ];
        if let Some((_, event)) = texts.into_iter().find(|(text, _)| line.contains(text)) {
            return Some(event);
        }
        let (_, reason) = line.split_once("Kernel panic - not syncing: ")?;
        Some(Self::Panic(reason.trim_end().to_owned()))
    }
}

/// Reads a console to its end.
#[derive(Debug)]
pub struct Console<R> {
    input: R,
    log: Option<Log>,
    line: Vec<u8>,
    pending: VecDeque<u8>,
    last_lines: VecDeque<String>,
}

impl<R: AsyncRead + Unpin> Console<R> {
    /// A console that is read from `input` and, where a path is given, kept in that file.
    ///
    /// # Errors
    /// The system's refusal to open the log.
    pub fn new(input: R, log: Option<&Path>) -> io::Result<Self> {
        let log = log.map(Log::open).transpose()?;
        Ok(Self { input, log, line: Vec::new(), pending: VecDeque::new(), last_lines: VecDeque::new() })
    }

    /// Waits for the next line that says something; `None` at the console's end. May be dropped and called
    /// again.
    pub async fn next(&mut self) -> Option<ConsoleEvent> {
        let mut buffer = [0; 4096];
        loop {
            while let Some(byte) = self.pending.pop_front() {
                if let Some(event) = self.take(byte) {
                    return Some(event);
                }
            }
            let count = self.input.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                let rest = std::mem::take(&mut self.line);
                return if rest.is_empty() { None } else { self.end_line(&rest) };
            }
            if let Some(log) = &mut self.log {
                // A full disk must not stop the machine; the log ends where it is.
                let _ = log.write(&buffer[..count]);
            }
            self.pending.extend(&buffer[..count]);
        }
    }

    fn take(&mut self, byte: u8) -> Option<ConsoleEvent> {
        if byte == b'\n' {
            let line = std::mem::take(&mut self.line);
            return self.end_line(&line);
        }
        if self.line.len() < LONGEST_LINE {
            self.line.push(byte);
        }
        None
    }

    fn end_line(&mut self, line: &[u8]) -> Option<ConsoleEvent> {
        let line = printable(line);
        let event = ConsoleEvent::of(&line);
        if !line.trim().is_empty() {
            if self.last_lines.len() == REMEMBERED {
                self.last_lines.pop_front();
            }
            self.last_lines.push_back(line);
        }
        event
    }

    /// The last lines, oldest first, for an error message.
    #[must_use]
    pub fn last_lines(&self) -> Vec<String> {
        self.last_lines.iter().cloned().collect()
    }
}

/// A line without what a terminal would obey: it goes into messages on somebody's terminal.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.chars().filter(|character| !character.is_control() || *character == '\t').collect()
}

#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    written: u64,
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let written = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, written })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written >= LOG_LIMIT {
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            std::fs::rename(&self.path, older)?;
            *self = Self::open(&self.path)?;
        }
        self.written += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dozlab_session::guest_config::GuestStage;

    async fn events(input: &[u8]) -> Vec<ConsoleEvent> {
        let mut console = Console::new(input, None).unwrap();
        let mut events = Vec::new();
        while let Some(event) = console.next().await {
            events.push(event);
        }
        events
    }

    #[tokio::test]
    async fn the_lines_that_matter_are_found_among_others() {
        let input = b"[    0.1] noise\r\ndozlab-guest 1.500 start: hello\r\n\xff\xfe garbage\n\
            [ 9.1] reboot: Power down";
        let line = GuestLine { uptime_ms: 1500, stage: GuestStage::Start, detail: "hello".into() };
        assert_eq!(events(input).await, [ConsoleEvent::Guest(line), ConsoleEvent::PowerDown]);
        let panic = ConsoleEvent::Panic("Attempted to kill init! exitcode=0x00000100".into());
        assert_eq!(
            events(b"[ 1.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\r\n")
                .await,
            [panic]
        );
    }

    #[tokio::test]
    async fn an_endless_line_takes_no_memory_and_escapes_reach_no_terminal() {
        let mut input = vec![b'x'; 10 * LONGEST_LINE];
        input.extend(b"\n\x1b]0;owned\x07title\n");
        let mut console = Console::new(input.as_slice(), None).unwrap();
        assert_eq!(console.next().await, None);
        let lines = console.last_lines();
        assert_eq!(lines[0].len(), LONGEST_LINE);
        assert_eq!(lines[1], "]0;ownedtitle");
    }

    #[tokio::test]
    async fn the_log_is_turned_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        let input = vec![b'.'; usize::try_from(3 * LOG_LIMIT).unwrap()];
        let mut console = Console::new(input.as_slice(), Some(&path)).unwrap();
        assert_eq!(console.next().await, None);
        let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(size("console.log") <= LOG_LIMIT + 4096 && size("console.log.1") <= LOG_LIMIT + 4096);
    }
}
