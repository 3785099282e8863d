//! Stands between a controller and the API server, and breaks what goes through.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, StreamExt as _};
use http_body_util::BodyExt as _;
use kube::Client;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

/// How the watches end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The connection breaks.
    Cut,
    /// The API server says that the version they are at is too old.
    Gone,
}

/// A proxy of one test.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<Shared>,
}

struct Shared {
    client: Client,
    /// How watches that run are to end; none while they may run.
    end: watch::Sender<Option<End>>,
    lists: AtomicUsize,
    holds: Mutex<VecDeque<Hold>>,
}

struct Hold {
    method: String,
    path: String,
    reached: oneshot::Sender<oneshot::Sender<()>>,
}

impl Proxy {
    /// Listens, and sends on what comes to the API server of a client.
    pub(crate) async fn start(client: Client) -> Self {
        let end = watch::Sender::new(None);
        let state = Arc::new(Shared { client, end, lists: AtomicUsize::new(0), holds: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(pass_on).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, state }
    }

    /// Ends all watches, and lets nobody read anything.
    pub(crate) fn end_watches(&self, end: End) {
        self.state.end.send_replace(Some(end));
    }

    /// Lets everybody read again.
    pub(crate) fn let_watch(&self) {
        self.state.end.send_replace(None);
    }

    /// How many lists were asked for.
    pub(crate) fn lists(&self) -> usize {
        self.state.lists.load(Ordering::Relaxed)
    }

    /// Holds the next request of this method whose path ends so. What comes tells that it was reached, with
    /// what lets it go on.
    pub(crate) fn hold(&self, method: &str, path: &str) -> oneshot::Receiver<oneshot::Sender<()>> {
        let (reached, told) = oneshot::channel();
        let hold = Hold { method: method.to_owned(), path: path.to_owned(), reached };
        self.state.holds.lock().unwrap().push_back(hold);
        told
    }
}

async fn pass_on(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let reads = request.method() == "GET";
    let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    if reads && shared.end.borrow().is_some() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if reads && !watches && request.uri().query().is_some() {
        shared.lists.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(hold) = take_hold(&shared, &request) {
        let (release, released) = oneshot::channel();
        hold.reached.send(release).unwrap();
        released.await.unwrap();
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    let request = axum::http::Request::from_parts(head, kube::client::Body::from(body));
    let (head, body) = shared.client.send(request).await.unwrap().into_parts();
    let body = Body::new(body);
    Response::from_parts(head, if watches { until_the_end(&shared, body) } else { body })
}

fn take_hold(shared: &Shared, request: &Request) -> Option<Hold> {
    let mut holds = shared.holds.lock().unwrap();
    let is_it =
        |hold: &Hold| request.method().as_str() == hold.method && request.uri().path().ends_with(&hold.path);
    let position = holds.iter().position(is_it)?;
    holds.remove(position)
}

/// A watch's answer, which ends as the test says.
fn until_the_end(shared: &Shared, body: Body) -> Body {
    let mut end = shared.end.subscribe();
    let (is_over, over) = oneshot::channel();
    tokio::spawn(async move {
        if let Ok(how) = end.wait_for(Option::is_some).await {
            // Whoever watched may have gone.
            let _ = is_over.send(how.unwrap_or(End::Cut));
        }
    });
    let over = futures_util::FutureExt::shared(over);
    let last = stream::once(over.clone()).map(|how| match how {
        Ok(End::Gone) => {
            let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "reason": "Expired", "code": 410, "message": "too old resource version: 1 (2)" });
            Ok(format!("{}\n", json!({ "type": "ERROR", "object": status })).into())
        }
        _ => Err(axum::Error::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset))),
    });
    Body::from_stream(body.into_data_stream().take_until(over).chain(last))
}
