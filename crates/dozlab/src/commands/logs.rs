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
        self.read += added.len() as u64;
        let mut output = io::stdout().lock();
        for line in added.split_inclusive(|byte| *byte == b'\n') {
            if let Some(prefix) = self.prefix.as_ref().filter(|_| self.at_line_start) {
                output.write_all(prefix.as_bytes())?;
            }
            // The console is the guest's, and a terminal obeys control characters.
            let line: Vec<u8> =
                line.iter().copied().filter(|byte| *byte >= b' ' || matches!(byte, b'\n' | b'\t')).collect();
            output.write_all(&line)?;
            self.at_line_start = line.ends_with(b"\n");
        }
        output.flush()
    }
}
