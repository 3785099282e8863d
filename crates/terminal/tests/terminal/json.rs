//! The old clients' protocol on `/terminal`.

use axum::http::StatusCode;
use serde_json::json;

use crate::lab::{Lab, TOKEN};
use crate::vm::{TEXT, Vm};
use crate::websocket::Socket;

#[tokio::test]
async fn an_old_client_types_resizes_and_reads() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/terminal?session_id=test").await;
    // Old clients type at once: nothing tells them when the shell begins.
    socket.say(json!({ "type": "input", "data": "size\r" })).await;
    socket.expect("size 80x24").await;
    socket.say(json!({ "type": "resize", "cols": 120, "rows": 40 })).await;
    socket.expect("resized 120x40").await;
    socket.say(json!({ "type": "input", "data": format!("echo {TEXT}\r") })).await;
    socket.expect(TEXT).await;
}

#[tokio::test]
async fn characters_that_arrive_byte_by_byte_stay_whole() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/terminal").await;
    socket.expect("$ ").await;
    socket.say(json!({ "type": "input", "data": "text\r" })).await;
    socket.expect(TEXT).await;
}

#[tokio::test]
async fn the_other_documented_address_works_too() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/terminal/ws?sessionId=test&cols=90&rows=20").await;
    socket.say(json!({ "type": "input", "data": "size\r" })).await;
    socket.expect("size 90x20").await;
}

#[tokio::test]
async fn another_sessions_name_is_not_found() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let bearer = format!("Bearer {TOKEN}");
    for path in ["/terminal?session_id=other", "/terminal/ws?sessionId=other"] {
        let refused = Socket::open_with(&lab, path, &[("authorization", &bearer)]).await.err();
        assert_eq!(refused, Some(StatusCode::NOT_FOUND), "{path}");
    }
}

#[tokio::test]
async fn an_old_client_that_sends_nonsense_is_told_in_its_own_words() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/terminal").await;
    socket.expect("$ ").await;
    socket.type_bytes("binary").await;
    let error = socket.expect_notice("error", |notice| notice["type"] == "error").await;
    assert_eq!(error["data"], "this protocol has text frames only");
    assert_eq!(socket.expect_close().await.0, 1007);
}
