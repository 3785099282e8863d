//! Servers that break, stall, lie and change their minds, on loopback; and what is fetched all the same, or said.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod faults {
    mod client;
    mod clouds;
    mod failures;
    mod ranges;
    mod server;
    mod versions;
}
