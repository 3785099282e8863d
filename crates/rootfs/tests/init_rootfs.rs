//! `init-rootfs` as a process of its own: images from a server on loopback, killed, many at once, without space.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod init_rootfs {
    mod cache;
    mod crashes;
    mod formats;
    mod oci;
    #[allow(dead_code, reason = "the tests of dozlab-oci look into the registry, too")]
    #[path = "../../../oci/tests/registry/server.rs"]
    mod registry;
    mod seeds;
    #[path = "../../../fetch/tests/faults/server.rs"]
    mod server;
    mod space;
    mod support;
}
