//! The API server in the background of a test.

use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::net::UnixListener;

use crate::api_server::{Answers, Request, serve};

/// A server in the background of a test, with all the requests that it was sent.
pub(crate) struct ApiServer {
    requests: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl ApiServer {
    /// Serves on a socket that must not exist yet.
    pub(crate) fn start(socket: &Path, mut answers: impl Answers) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let listener = UnixListener::bind(socket).unwrap();
        let task = tokio::spawn(serve(listener, move |request: &Request| {
            seen.lock().unwrap().push(request.clone());
            answers.answer(request)
        }));
        Self { requests, task }
    }

    /// What was asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
