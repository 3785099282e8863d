//! Flow control: a flood fills no memory, and what the learner types passes it.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::lab::{DEADLINE, Lab, until};
use crate::vm::Vm;
use crate::websocket::Socket;

/// What may be on its way from the shell to a client that takes nothing: what is unacknowledged (256 KiB),
/// what waits for it (64 KiB), the SSH window (128 KiB), and what the SSH server holds back itself.
const ON_ITS_WAY: u64 = 1024 * 1024;

/// The sockets between us and a client that does not read hold this much besides (tcp_rmem and tcp_wmem of
/// Linux).
const SOCKET_BUFFERS: u64 = 12 * 1024 * 1024;

/// Waits until the flood stands still, and says how much was taken from it.
async fn standstill(vm: &Vm) -> u64 {
    let start = Instant::now();
    let mut before = vm.flooded();
    loop {
        sleep(Duration::from_millis(500)).await;
        let now = vm.flooded();
        if now == before && now > 0 {
            return now;
        }
        assert!(start.elapsed() < DEADLINE, "the flood does not stop: {now} bytes");
        before = now;
    }
}

#[tokio::test]
async fn a_client_that_acknowledges_nothing_stops_the_flood_and_can_still_interrupt_it() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/ws").await;
    socket.expect("$ ").await;
    socket.stop_acknowledging();
    socket.type_bytes("flood\r").await;
    let taken = standstill(&vm).await;
    assert!(taken <= ON_ITS_WAY, "{taken} bytes are held for a client that takes nothing");

    socket.type_bytes(vec![3]).await;
    until("Ctrl-C in the shell, before anything more was acknowledged", || vm.interrupts() == 1).await;
    socket.say(json!({ "type": "ack", "bytes": 1 << 30 })).await;
    socket.acknowledge();
    socket.expect("^C").await;
    socket.type_bytes("echo alive\r").await;
    socket.expect("alive").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_its_socket_stops_the_flood_too() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/terminal").await;
    socket.expect("$ ").await;
    socket.say(json!({ "type": "input", "data": "flood\r" })).await;
    let taken = standstill(&vm).await;
    assert!(taken <= ON_ITS_WAY + SOCKET_BUFFERS, "{taken} bytes are held for a client that does not read");

    socket.say(json!({ "type": "input", "data": "\u{3}" })).await;
    until("Ctrl-C in the shell, before anything more was read", || vm.interrupts() == 1).await;
    socket.expect("^C").await;
    socket.say(json!({ "type": "input", "data": "echo alive\r" })).await;
    socket.expect("alive").await;
}

#[tokio::test]
async fn a_client_that_stands_still_does_not_hold_up_another() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut stalled = Socket::open(&lab, "/ws").await;
    stalled.expect("$ ").await;
    stalled.stop_acknowledging();
    stalled.type_bytes("flood\r").await;
    standstill(&vm).await;
    let mut other = Socket::open(&lab, "/ws").await;
    other.expect("$ ").await;
    other.type_bytes("echo fine\r").await;
    other.expect("fine").await;
}

#[tokio::test]
async fn input_is_acknowledged_as_the_shell_takes_it() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/ws").await;
    socket.expect("$ ").await;
    let mut line = vec![b'x'; 64 * 1024];
    line.push(b'\r');
    let mut acknowledged = 0;
    socket.type_bytes(line.clone()).await;
    while acknowledged < 64 * 1024 {
        let ack = socket.expect_notice("ack", |notice| notice["type"] == "ack").await;
        acknowledged += ack["bytes"].as_u64().unwrap();
    }
    assert!(acknowledged <= line.len() as u64);
    socket.expect("what?").await;
}

#[tokio::test]
async fn a_client_that_sends_more_input_than_fits_and_waits_for_nothing_does_not_lock_itself_up() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    let mut socket = Socket::open(&lab, "/ws").await;
    socket.expect("$ ").await;
    // Written as a paste is: all of it before anything that comes back is read, and so before any
    // acknowledgement.
    let line = [b"echo ".to_vec(), vec![b'z'; 100_000], b"\r".to_vec()].concat();
    for _ in 0..20 {
        socket.type_bytes(line.clone()).await;
    }
    socket.type_bytes("echo the end\r").await;
    socket.expect("the end").await;
}
