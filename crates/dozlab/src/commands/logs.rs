//! `dozlab logs`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use dozlab_local::{COMPONENTS, Sessions};

use super::{Outcome, folders};
use crate::cli::Logs;

/// How often a log is looked at for what was added.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) async fn run(flags: &Logs) -> Outcome {
    let (folder, _) = Sessions::new(&folders()?).find(flags.name.as_deref())?;
    let components =
        COMPONENTS.into_iter().filter(|known| flags.component.is_none_or(|wanted| wanted == *known));
    let mut logs: Vec<Log> = components
        .map(|component| Log {
            path: folder.log(component),
            // One log needs no name before its lines.
            prefix: flags.component.is_none().then(|| format!("{component:<17}| ")),
            read: 0,
            at_line_start: true,
        })
        .collect();
    loop {
        for log in &mut logs {
            if log.show_new().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
                return Ok(ExitCode::SUCCESS);
            }
        }
        if !flags.follow || !folder.path().exists() {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

struct Log {
    path: PathBuf,
    prefix: Option<String>,
    read: u64,
    at_line_start: bool,
}

impl Log {
    fn show_new(&mut self) -> io::Result<()> {
        // A component that has not started has no log.
        let Ok(mut file) = File::open(&self.path) else { return Ok(()) };
        let length = file.metadata()?.len();
        if length < self.read {
            // It was turned over.
            self.read = 0;
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut added = Vec::new();
        file.take(length - self.read).read_to_end(&mut added)?;
        // A character that is only half written is read again with its other half.
        let unfinished = added.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len());
        added.truncate(added.len() - unfinished);
        self.read += added.len() as u64;
        let mut output = io::stdout().lock();
        for line in String::from_utf8_lossy(&added).split_inclusive('\n') {
            if let Some(prefix) = self.prefix.as_ref().filter(|_| self.at_line_start) {
                output.write_all(prefix.as_bytes())?;
            }
            output.write_all(harmless(line).as_bytes())?;
            self.at_line_start = line.ends_with('\n');
        }
        output.flush()
    }
}

/// The line without control characters: the console is the guest's, and a terminal obeys them.
fn harmless(line: &str) -> String {
    line.chars().filter(|character| !character.is_control() || matches!(character, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_shown() {
        assert_eq!(harmless("a\x1b[2J\x07\x7f\u{9b}2J\u{85}\tb 日本語 🚀\r\n"), "a[2J2J\tb 日本語 🚀\n");
    }
}
