//! `init-rootfs` as a process of its own: images from a server on loopback, killed, many at once, without space.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod init_rootfs {
    mod cache;
    mod crashes;
    mod formats;
    #[path = "../../../fetch/tests/faults/server.rs"]
    mod server;
    mod space;
    mod support;
}
