//! What a real Firecracker 1.16.1 answered, call by call, read from
//! `tests/fixtures/firecracker/api-transcript.txt`.

use crate::api_server::{Answers, Request};

const TRANSCRIPT: &str = include_str!("../fixtures/firecracker/api-transcript.txt");

/// One request and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// What was asked.
    pub(crate) request: Request,
    /// Whether the process was another one than at the beginning: the recording's second part.
    pub(crate) second_process: bool,
    /// The answer with its head, as it came over the socket.
    pub(crate) answer: String,
}

impl Exchange {
    /// The status of the answer.
    pub(crate) fn status(&self) -> u16 {
        self.answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The answer's body.
    pub(crate) fn body(&self) -> &str {
        self.answer.split_once("\r\n\r\n").unwrap().1
    }
}

/// All exchanges in the order of the recording.
pub(crate) fn exchanges() -> Vec<Exchange> {
    let mut second_process = false;
    let mut exchanges = Vec::new();
    for part in format!("\n{TRANSCRIPT}").split("\n###").skip(1) {
        match part.strip_prefix(' ') {
            Some(exchange) => exchanges.push(read(exchange, second_process)),
            // A line of many `#` begins the next part.
            None => second_process = true,
        }
    }
    exchanges
}

fn read(exchange: &str, second_process: bool) -> Exchange {
    let (request, answer) = exchange.split_once('\n').unwrap();
    let mut words = request.splitn(3, ' ');
    let [method, path, body] = [(); 3].map(|()| words.next().unwrap().to_owned());
    let body = if body == "(no body)" { String::new() } else { body };
    let (head, rest) = answer.split_once("\n\n").unwrap();
    let headers = head.lines().map(|line| match line.split_once("Content-Length: ") {
        // Names in some bodies were shortened after the recording, so their length is counted anew.
        Some(_) => format!("Content-Length: {}\r\n", rest.trim_end().len()),
        None => format!("{line}\r\n"),
    });
    let has_body = head.contains("Content-Length: ");
    let answered = if has_body { rest.trim_end() } else { "" };
    let answer = format!("{}\r\n{answered}", headers.collect::<String>());
    Exchange { request: Request { method, path, body }, second_process, answer }
}

/// Whether two requests ask for the same: the order of a body's fields means nothing.
fn ask_for_the_same(one: &Request, other: &Request) -> bool {
    let json = |request: &Request| serde_json::from_str::<serde_json::Value>(&request.body).ok();
    let same_body = one.body == other.body || (json(one).is_some() && json(one) == json(other));
    one.method == other.method && one.path == other.path && same_body
}

/// Answers with the recording: the next answer that was recorded for such a request, or an earlier one.
pub(crate) struct Replay {
    exchanges: Vec<Exchange>,
    next: usize,
}

impl Replay {
    /// A replay from the beginning.
    pub(crate) fn new() -> Self {
        Self { exchanges: exchanges(), next: 0 }
    }
}

impl Answers for Replay {
    fn answer(&mut self, request: &Request) -> String {
        let count = self.exchanges.len();
        let found = (self.next..self.next + count)
            .map(|at| at % count)
            .find(|at| ask_for_the_same(&self.exchanges[*at].request, request))
            .unwrap_or_else(|| panic!("nothing was recorded for {request:?}"));
        self.next = found + 1;
        self.exchanges[found].answer.clone()
    }
}
