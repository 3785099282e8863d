//! What is printed: results on standard output, everything else on standard error.

use std::io::{self, IsTerminal, Write};

use dozlab_session::duration::SessionDuration;
use serde::Serialize;

use crate::cli::Format;

/// Prints a result as JSON, one object.
pub(crate) fn json<T: Serialize>(value: &T) {
    let text = serde_json::to_string_pretty(value).expect("results have only strings, numbers and lists");
    line(&text);
}

/// Prints a line. A reader that has gone away (`dozlab ls | head -1`) is no error.
pub(crate) fn line(text: &str) {
    let mut output = io::stdout().lock();
    let _ = writeln!(output, "{text}").and_then(|()| output.flush());
}

/// Prints a line on standard error. Where that goes to a log on a full disk, the line is lost, and nothing else.
pub(crate) fn error_line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints rows below a header, each column as wide as its widest cell.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let print = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        line(cells.collect::<Vec<_>>().join("  ").trim_end());
    };
    print(header.to_vec());
    for row in rows {
        print(row.iter().map(String::as_str).collect());
    }
}

/// Whether text on standard error may be coloured: only on a terminal, and never against `NO_COLOR`.
pub(crate) fn colour_on_stderr() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The same for standard output.
pub(crate) fn colour_on_stdout() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A value as text or JSON.
pub(crate) fn print<T: Serialize>(format: Format, value: &T, text: impl FnOnce()) {
    match format {
        Format::Json => json(value),
        Format::Text => text(),
    }
}

/// A number of bytes for a person: `311 MB`.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::DecimalBytes(count).to_string()
}

/// How long ago a time was: `3h`.
pub(crate) fn ago(then_ms: u64) -> String {
    length(now_ms().saturating_sub(then_ms))
}

/// How long it is until a time: `in 1h59m`, or `now` where it has come.
pub(crate) fn until(then_ms: u64) -> String {
    match then_ms.saturating_sub(now_ms()) {
        0 => "now".to_owned(),
        left_ms => {
            // Whole minutes, and seconds only of the last one.
            let unit = if left_ms < 60_000 { 1000 } else { 60_000 };
            format!("in {}", SessionDuration::from_millis(left_ms / unit * unit))
        }
    }
}

/// The time, in milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn length(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
