//! A lab's links on this machine, and its logs, through a kubelet.

use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::kubelet;
use crate::pods::ready;
use crate::support::Cluster;

/// A command that goes on, and the link to the terminal that it has printed.
struct Going {
    child: Child,
    link: String,
}

impl Going {
    async fn new(child: Child) -> Self {
        let mut going = Self { child, link: String::new() };
        let mut lines = BufReader::new(going.child.stdout.take().unwrap()).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(link) = line.trim().strip_prefix("Terminal") {
                going.link = link.trim().to_owned();
                return going;
            }
        }
        panic!("no link was printed: {:?}", going.child.wait_with_output().await);
    }

    /// Ctrl-C, and the exit code.
    async fn interrupt(mut self) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        self.child.wait().await.unwrap().code()
    }
}

fn spawn(cluster: &Cluster, verb: &str, rest: &[&str]) -> Child {
    Command::from(cluster.command(verb, rest)).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

/// What comes back from a port of this machine.
async fn answer(address: &str, port: u16) -> String {
    let mut connection = TcpStream::connect((address, port)).await.unwrap();
    connection.write_all(b"hello").await.unwrap();
    let mut answer = vec![0; format!("{port}: hello").len()];
    connection.read_exact(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

fn address(link: &str) -> &str {
    link.strip_prefix("http://").unwrap().split(':').next().unwrap()
}

#[tokio::test]
async fn a_lab_is_reached_from_here_and_goes_with_ctrl_c() {
    let cluster = Cluster::new("reach").await;
    kubelet::start(cluster.client.clone(), cluster.pods()).await;
    let up = spawn(&cluster, "up", &["--name", "demo"]);
    cluster.pod("demo").await;
    kubelet::take(&cluster.pods(), "lab-session-demo").await;
    cluster.set_pod("demo", ready()).await;
    let up = Going::new(up).await;
    let first = address(&up.link).to_owned();
    assert!(up.link.contains(":8081/#token="), "{}", up.link);
    assert_eq!(answer(&first, 8081).await, "8081: hello");
    assert_eq!(answer(&first, 8080).await, "8080: hello", "the editor has its own number");

    let open = Going::new(spawn(&cluster, "open", &["demo"])).await;
    let second = address(&open.link).to_owned();
    assert_ne!(first, second, "a second way has an address of its own");
    assert_eq!(answer(&second, 8081).await, "8081: hello");
    assert_eq!(open.interrupt().await, Some(0));
    cluster.state("demo", "running").await;

    let log = cluster.ok("logs", &["demo", "--component", "vm"]).await;
    assert_eq!(log, "firecracker-vm has begun\nfirecracker-vm says more\n", "without control characters");
    let logs = cluster.ok("logs", &["demo", "--follow"]).await;
    assert_eq!(logs.lines().count(), 10, "{logs}");
    assert!(logs.contains("init-rootfs      | init-rootfs has begun\n"), "{logs}");
    let console = cluster.error("logs", &["demo", "--component", "console"]).await;
    assert!(console.contains("has no log of `console`"), "{console}");

    assert_eq!(up.interrupt().await, Some(0));
    assert_eq!(cluster.ok("ls", &[]).await, "no labs; `dozlab --cluster up` starts one\n");
}
