//! A lab's start, to a prompt in a WebSocket.

use std::time::Instant;

use futures_util::StreamExt;
use serde_json::Value;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::{KERNEL, MEMORY_MIB, dozlab, ends_with_prompt};

/// Starts a lab, and returns when each stage was reached, in seconds since the start of `dozlab up`. The stages' times are
/// the lab's own report; the last one, the prompt, is by the clock, with all that lies between the stages.
pub(crate) fn start() -> Vec<(String, f64)> {
    let started = Instant::now();
    let memory = MEMORY_MIB.to_string();
    let mut arguments =
        vec!["up", "vm", "--kernel", KERNEL, "--detach", "--output", "json", "--name", "bench"];
    arguments.extend(["--no-editor", "--memory", &memory]);
    let access: Value = serde_json::from_slice(&dozlab(&arguments)).expect("`up` prints JSON");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(reach_prompt(&access));
    let prompt = started.elapsed().as_secs_f64();
    dozlab(&["rm", "bench"]);

    let took = |stage: &str| access["stages"][stage].as_f64().unwrap_or_default() / 1000.0;
    let mut stages = Vec::new();
    let mut since_start = 0.0;
    for (name, parts) in [
        ("disk ready", &["kernel", "image", "hypervisor", "disk"][..]),
        ("hypervisor started", &["network", "vm"]),
        ("guest init", &["guest"]),
        ("SSH ready", &["ssh"]),
        ("terminal logged in", &["terminal"]),
    ] {
        since_start += parts.iter().map(|part| took(part)).sum::<f64>();
        stages.push((name.to_owned(), since_start));
    }
    stages.push(("first prompt in a WebSocket".to_owned(), prompt));
    stages
}

/// Opens a WebSocket and waits for the prompt in it.
async fn reach_prompt(access: &Value) {
    let terminal = access["terminal"].as_str().expect("there is a link");
    let address = terminal.split('#').next().expect("a link has a first part").replace("http://", "ws://");
    let mut request =
        format!("{address}ws?cols=80&rows=24").into_client_request().expect("the address is valid");
    let bearer = format!("Bearer {}", access["token"].as_str().expect("there is a token"));
    request.headers_mut().insert("Authorization", bearer.parse().expect("a token is a header's value"));
    let (mut socket, _) = connect_async(request).await.expect("the terminal answers");
    let mut output = Vec::new();
    while let Some(message) = socket.next().await {
        let message = message.expect("the terminal goes on");
        if message.is_binary() {
            output.extend(message.into_data());
            if ends_with_prompt(&output) {
                return;
            }
        }
    }
    panic!("the terminal closed before there was a prompt");
}
