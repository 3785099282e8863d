//! Serves the files of one folder on loopback, with ranges, entity tags and lasting connections: what measurements
//! fetch from. Prints its address.
//!
//! ```text
//! serve FOLDER
//! ```

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: serve FOLDER")?;
    let folder: Arc<Path> = PathBuf::from(folder).into();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("http://{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let (stream, folder) = (stream?, Arc::clone(&folder));
        std::thread::spawn(move || {
            let mut requests = BufReader::new(&stream);
            // A client that hangs up ends its connection.
            while let Ok(true) = answer(&mut requests, &stream, &folder) {}
        });
    }
    Ok(())
}

/// Answers one request; false at the end of the connection.
fn answer(requests: &mut impl BufRead, mut stream: &TcpStream, folder: &Path) -> io::Result<bool> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if requests.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_ascii_lowercase());
    }
    let name = lines[0].split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let header = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    // No part of the name may lead out of the folder.
    let file = if name.contains('/') { None } else { File::open(folder.join(name)).ok() };
    let Some(mut file) = file else {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?;
        return Ok(true);
    };
    let length = file.metadata()?.len();
    let etag = format!("\"{length}\"");
    if header("if-none-match") == Some(etag.as_str()) {
        stream.write_all(format!("HTTP/1.1 304 Not Modified\r\netag: {etag}\r\n\r\n").as_bytes())?;
        return Ok(true);
    }
    let range = header("range").and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?.min(length - 1)))
    });
    let (first, count, status) = match range {
        Some((first, last)) => (
            first,
            last + 1 - first,
            format!("206 Partial Content\r\ncontent-range: bytes {first}-{last}/{length}"),
        ),
        None => (0, length, "200 OK".to_owned()),
    };
    stream.write_all(
        format!("HTTP/1.1 {status}\r\netag: {etag}\r\ncontent-length: {count}\r\n\r\n").as_bytes(),
    )?;
    file.seek(SeekFrom::Start(first))?;
    io::copy(&mut file.take(count), &mut stream)?;
    Ok(true)
}
