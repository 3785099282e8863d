//! The HTTP layer of Firecracker's API server, as it was seen to behave: bodies by `Content-Length` only and
//! of at most 51,200 bytes, four methods, one thread, connections that stay open.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// The longest body that is read: `--http-api-max-payload-size`.
const LONGEST_BODY: usize = 51_200;

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// `GET`, `PUT`, `PATCH`, `DELETE`.
    pub(crate) method: String,
    /// The path.
    pub(crate) path: String,
    /// The body; empty where there is none.
    pub(crate) body: String,
}

/// Somebody who answers requests: a recording, or a model of the machine.
pub(crate) trait Answers: Send + 'static {
    /// The answer with its head.
    fn answer(&mut self, request: &Request) -> String;
}

/// An answer of this status.
pub(crate) fn answer(status: u16, body: &str) -> String {
    let head = format!("HTTP/1.1 {status} \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n");
    if body.is_empty() {
        return head + "\r\n";
    }
    format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A refusal of the HTTP layer, whose JSON is invalid: it has a line feed in a string.
fn http_refusal(error: &str) -> String {
    let body = format!("{{ \"error\": \"{error}\nAll previous unanswered requests will be dropped.\" }}");
    answer(400, &body)
}

/// Serves for ever.
pub(crate) async fn serve(listener: UnixListener, judge: impl FnMut(&Request) -> String + Send + 'static) {
    let judge = Arc::new(Mutex::new(judge));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let judge = Arc::clone(&judge);
        tokio::spawn(async move {
            // A client that goes away is its own affair.
            let _ = converse(stream, |request| judge.lock().unwrap()(request)).await;
        });
    }
}

async fn converse(mut stream: UnixStream, mut judge: impl FnMut(&Request) -> String) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            head.push(line);
        }
        let header = |wanted: &str| {
            let headers = head.iter().skip(1).filter_map(|line| line.split_once(':'));
            let mut found = headers.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.next().map(|(_, value)| value.trim().to_owned())
        };
        let length: usize = header("content-length").map_or(0, |length| length.parse().unwrap());
        if header("transfer-encoding").is_some() {
            return writer.write_all(http_refusal("Invalid request.").as_bytes()).await;
        }
        if length > LONGEST_BODY {
            let error = format!(
                "Request payload with size {length} is larger than the limit of {LONGEST_BODY} allowed \
                 by server."
            );
            writer.write_all(http_refusal(&error).as_bytes()).await?;
            // What was not read as a body is read as a request.
            tokio::io::copy(&mut (&mut reader).take(length as u64), &mut tokio::io::sink()).await?;
            return writer.write_all(http_refusal("Invalid request.").as_bytes()).await;
        }
        if header("expect").is_some_and(|expected| expected == "100-continue") {
            writer.write_all(answer(100, "").as_bytes()).await?;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).await?;
        let mut words = head.first().unwrap().split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        if !["GET", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) {
            let error = "Invalid HTTP Method: Unsupported HTTP method.";
            return writer.write_all(http_refusal(error).as_bytes()).await;
        }
        let request = Request { method, path, body: String::from_utf8(body).unwrap() };
        writer.write_all(judge(&request).as_bytes()).await?;
    }
}
