//! Our protocol on `/ws`.

use serde_json::json;

use crate::lab::{Lab, until};
use crate::vm::{TEXT, Vm};
use crate::websocket::Socket;

#[tokio::test]
async fn a_learner_types_at_a_prompt_in_a_terminal_of_the_right_size() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/ws?cols=132&rows=43").await;
    socket.expect_status("connected").await;
    socket.expect("boot 1\r\n$ ").await;
    socket.type_bytes("size\r").await;
    socket.expect("size 132x43").await;
    socket.type_bytes("echo hello\r").await;
    socket.expect("hello").await;
}

#[tokio::test]
async fn a_new_size_reaches_the_vm() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/ws").await;
    socket.expect("$ ").await;
    socket.type_bytes("size\r").await;
    socket.expect("size 80x24").await;
    socket.say(json!({ "type": "resize", "cols": 100, "rows": 30 })).await;
    socket.expect("resized 100x30").await;
    socket.type_bytes("size\r").await;
    socket.expect("size 100x30").await;
}

#[tokio::test]
async fn bytes_arrive_as_they_were_written() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/ws").await;
    socket.expect("$ ").await;
    socket.type_bytes("text\r").await;
    socket.expect(TEXT).await;
    socket.type_bytes("count 3200000\r").await;
    assert_eq!(socket.expect_bytes(5).await, b"\r\n$ 0");
    let rest = socket.expect_bytes(3_200_000 - 1).await;
    assert!(rest.chunks(16).enumerate().all(|(index, chunk)| {
        let whole = index < 3_200_000 / 16 - 1;
        chunk == if whole { &b"123456789abcdef0"[..] } else { &b"123456789abcdef"[..] }
    }));
}

/// The VM is the learner's, so its SSH server may be anybody's.
#[tokio::test]
async fn a_server_that_opens_channels_to_us_gets_none() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/ws").await;
    socket.expect("$ ").await;
    socket.type_bytes("intrude\r").await;
    socket.expect("0 of 7 accepted\r\n$ ").await;
    assert!(!socket.shown().contains("smuggled"), "{}", socket.shown());
    socket.type_bytes("exit 3\r").await;
    let exit = socket.expect_notice("exit", |notice| notice["type"] == "exit").await;
    assert_eq!(exit, json!({ "type": "exit", "status": 3, "signal": null }));
}

#[tokio::test]
async fn what_is_typed_before_the_shell_begins_waits_for_it() {
    let mut vm = Vm::off();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/ws").await;
    socket.expect_status("waiting").await;
    socket.type_bytes("echo early\r").await;
    vm.boot();
    socket.expect("boot 1").await;
    socket.expect("early").await;
}

#[tokio::test]
async fn the_end_of_the_shell_is_told_after_its_last_output() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    for (command, expected) in [
        ("exit 0\r", json!({ "type": "exit", "status": 0, "signal": null })),
        ("exit 3\r", json!({ "type": "exit", "status": 3, "signal": null })),
        ("die\r", json!({ "type": "exit", "status": null, "signal": "KILL" })),
    ] {
        let mut socket = Socket::open(&lab, "/ws").await;
        socket.expect("$ ").await;
        socket.type_bytes(command).await;
        let exit = socket.expect_notice("exit", |notice| notice["type"] == "exit").await;
        assert_eq!(exit, expected);
        assert_eq!(socket.shown().contains("logout"), command.starts_with("exit"));
        assert_eq!(socket.expect_close().await, (1000, "the shell ended".to_owned()));
    }
}

#[tokio::test]
async fn closing_one_terminal_leaves_the_other_and_ends_its_own_shell_only() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut first = Socket::open(&lab, "/ws").await;
    let mut second = Socket::open(&lab, "/ws").await;
    first.expect("$ ").await;
    second.expect("$ ").await;
    assert_eq!(vm.shells(), 2);
    assert_eq!(lab.get("/health").await.json()["sessions"], 2);
    drop(first);
    second.type_bytes("echo still here\r").await;
    second.expect("still here").await;
    for _ in 0..500 {
        if lab.get("/health").await.json()["sessions"] == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the closed terminal is still counted");
}

#[tokio::test]
async fn a_spare_connection_is_ready_before_anybody_asks() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    until("a connection without a terminal", || vm.connections() == 1).await;
    lab.until_ready_is("ready").await;
    assert_eq!(vm.shells(), 0);
    let mut socket = Socket::open(&lab, "/ws").await;
    socket.expect("$ ").await;
    until("the next spare connection", || vm.connections() == 2).await;
}

#[tokio::test]
async fn a_message_that_makes_no_sense_closes_the_terminal_and_says_so() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/ws").await;
    socket.expect("$ ").await;
    socket.say_raw("{\"type\":\"resize\",\"cols\":-1}").await;
    let (code, reason) = socket.expect_close().await;
    assert_eq!(code, 1007);
    assert!(reason.starts_with("not a message of this protocol"), "{reason}");
}

#[tokio::test]
async fn no_more_terminals_open_than_there_are_places() {
    let vm = Vm::on();
    let lab = Lab::start_with(&vm, &[("MAX_CONCURRENT_SESSIONS", "1")]).await;
    let mut first = Socket::open(&lab, "/ws").await;
    first.expect("$ ").await;
    let mut second = Socket::open(&lab, "/ws").await;
    assert_eq!(second.expect_close().await, (1013, "too many terminals are open".to_owned()));
    first.type_bytes("echo mine\r").await;
    first.expect("mine").await;
}

#[tokio::test]
async fn the_end_of_the_session_closes_terminals_with_a_word() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/ws").await;
    socket.expect("$ ").await;
    lab.shutdown.cancel();
    assert_eq!(socket.expect_close().await, (1001, "session ended".to_owned()));
    lab.stop().await;
}
