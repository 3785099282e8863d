//! Who gets in.

use std::io::Read;
use std::net::TcpStream;

use crate::harness::{Server, exec, log_in, new_key};

#[test]
fn the_banner_tells_this_server_from_others() {
    let server = Server::start();
    let mut banner = [0; 15];
    let mut stream = TcpStream::connect(server.address).expect("the server answers");
    stream.read_exact(&mut banner).expect("the server speaks first");
    assert_eq!(&banner, b"SSH-2.0-dozlab_");
}

#[tokio::test]
async fn another_key_is_refused() {
    let server = Server::start();
    let mut session = server.connect().await;
    assert!(!log_in(&mut session, &server.user, &new_key()).await);
}

#[tokio::test]
async fn another_user_is_refused_with_the_right_key() {
    let server = Server::start();
    let mut session = server.connect().await;
    assert!(!log_in(&mut session, "daemon", &server.user_key).await);
}

#[tokio::test]
async fn a_password_or_nothing_is_refused() {
    let server = Server::start();
    let mut session = server.connect().await;
    assert!(!session.authenticate_none(&server.user).await.expect("the server answers").success());
    assert!(
        !session.authenticate_password(&server.user, "secret").await.expect("the server answers").success()
    );
}

#[tokio::test]
async fn nothing_can_be_run_without_logging_in() {
    let server = Server::start();
    let session = server.connect().await;
    assert!(session.channel_open_session().await.is_err());
}

#[tokio::test]
async fn the_right_key_gets_in_after_a_wrong_one() {
    let server = Server::start();
    let mut session = server.connect().await;
    assert!(!log_in(&mut session, &server.user, &new_key()).await);
    assert!(log_in(&mut session, &server.user, &server.user_key).await);
    assert_eq!(exec(&session, "echo in").await.text(), "in\n");
}
