//! Pulls from a real registry on a loopback address, `docker-registry`, to which `skopeo` has pushed.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod registry {
    mod cutter;
    mod pulling;
    mod server;
}
