//! SFTP with a client library.

use std::fs;

use russh_sftp::client::SftpSession;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::harness::{Client, Server};

async fn sftp(session: &russh::client::Handle<Client>) -> SftpSession {
    let channel = session.channel_open_session().await.expect("a channel");
    channel.request_subsystem(true, "sftp").await.expect("the request is sent");
    SftpSession::new(channel.into_stream()).await.expect("the server speaks SFTP")
}

#[tokio::test]
async fn a_file_is_written_renamed_listed_and_read() {
    let server = Server::start();
    let session = server.login().await;
    let sftp = sftp(&session).await;
    let content: Vec<u8> = (0..1_000_003u32).map(|number| (number % 251) as u8).collect();
    let mut file = sftp.create("new file").await.expect("a file");
    file.write_all(&content).await.expect("data are written");
    file.shutdown().await.expect("the file is closed");
    sftp.rename("new file", "renamed").await.expect("the file is renamed");
    let names: Vec<String> =
        sftp.read_dir(".").await.expect("a folder").map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["renamed"]);
    assert_eq!(sftp.read("renamed").await.expect("the file is there"), content);
    assert_eq!(fs::read(server.home().join("renamed")).expect("the file is there"), content);
    let size = sftp.metadata("renamed").await.expect("the file is there").size;
    assert_eq!(size, Some(1_000_003));
}

#[tokio::test]
async fn a_part_of_a_file_is_read_and_replaced() {
    let server = Server::start();
    fs::write(server.home().join("file"), "hello world").expect("a file");
    let session = server.login().await;
    let sftp = sftp(&session).await;
    use russh_sftp::protocol::OpenFlags;
    let mut file = sftp.open_with_flags("file", OpenFlags::READ | OpenFlags::WRITE).await.expect("it opens");
    file.seek(std::io::SeekFrom::Start(6)).await.expect("it seeks");
    file.write_all(b"WORLD").await.expect("data are written");
    file.flush().await.expect("data are sent");
    file.seek(std::io::SeekFrom::Start(4)).await.expect("it seeks");
    let mut rest = String::new();
    file.read_to_string(&mut rest).await.expect("it reads");
    assert_eq!(rest, "o WORLD");
}

#[tokio::test]
async fn folders_are_made_listed_in_full_and_removed() {
    let server = Server::start();
    let session = server.login().await;
    let sftp = sftp(&session).await;
    sftp.create_dir("folder").await.expect("a folder");
    for number in 0..250 {
        fs::write(server.home().join("folder").join(number.to_string()), "").expect("a file");
    }
    assert_eq!(sftp.read_dir("folder").await.expect("a folder").count(), 250);
    assert!(sftp.remove_dir("folder").await.is_err(), "a folder that is not empty stays");
    for number in 0..250 {
        sftp.remove_file(format!("folder/{number}")).await.expect("the file goes");
    }
    sftp.remove_dir("folder").await.expect("the folder goes");
    assert!(!sftp.try_exists("folder").await.expect("the server answers"));
}

#[tokio::test]
async fn a_rename_does_not_replace_a_file() {
    let server = Server::start();
    fs::write(server.home().join("one"), "1").expect("a file");
    fs::write(server.home().join("two"), "2").expect("a file");
    let session = server.login().await;
    let sftp = sftp(&session).await;
    assert!(sftp.rename("one", "two").await.is_err());
    assert_eq!(fs::read(server.home().join("two")).expect("it is there"), b"2");
}

#[tokio::test]
async fn paths_start_at_home() {
    let server = Server::start();
    let session = server.login().await;
    let sftp = sftp(&session).await;
    let home = fs::canonicalize(server.home()).expect("it is there");
    assert_eq!(sftp.canonicalize(".").await.expect("the server answers"), home.to_string_lossy());
    let free = sftp.fs_info(".").await.expect("the server answers").expect("the server knows the request");
    assert!(free.blocks > 0 && free.name_max >= 255);
}

#[tokio::test]
async fn other_subsystems_are_refused() {
    let server = Server::start();
    let session = server.login().await;
    let mut channel = session.channel_open_session().await.expect("a channel");
    channel.request_subsystem(true, "netconf").await.expect("the request is sent");
    assert!(matches!(channel.wait().await, Some(russh::ChannelMsg::Failure)));
}
