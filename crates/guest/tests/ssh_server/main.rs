//! The SSH server, run as the user who runs the tests, on a loopback port, driven by a client library and by
//! OpenSSH.

mod flow;
mod forwards;
mod harness;
mod login;
mod openssh;
mod programs;
mod sftp;
mod terminals;
