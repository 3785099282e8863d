//! A process that stands in for Firecracker: its command line, its API, its exit codes, and a guest that
//! follows a plan.
//!
//! The plan is the file `plan` in the working folder, a line for each boot, the last for all further ones. A
//! line holds words, and the guest does what they say one after the other once it was started:
//!
//! * `start`, `root`, `ssh`, …: prints the line of that stage on the console;
//! * `failed`: prints that it found no root; `panic`: dies as Linux does; `power-down`, `halt`: says so as
//!   Linux does;
//! * `flood`: prints a megabyte without a line's end;
//! * `deaf`: obeys no Ctrl-Alt-Del from here on; otherwise that ends the process with 0, as a guest's reset
//!   does;
//! * `exit=CODE`: ends the process, with last words where the code is not 0.
//!
//! `plan` may also say, instead, what goes wrong before the API is there: `end=CODE` or `mute`. Each request
//! is a line in the file `requests`, and each start in `boots`.

#![allow(
    clippy::unwrap_used,
    reason = "a stand-in that cannot go on ends with a code that Firecracker has not"
)]

mod api_server;
mod machine_model;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use api_server::{Answers, Request};
use machine_model::{Host, MachineModel};
use tokio::net::UnixListener;

const HOST: Host = Host {
    exists: |path| Path::new(path).exists(),
    // The listener is closed, the file stays behind: as with Firecracker.
    bind: |path| std::os::unix::net::UnixListener::bind(path).map(drop),
};

/// Whether the guest obeys Ctrl-Alt-Del.
static OBEYS: AtomicBool = AtomicBool::new(true);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [api_flag, socket, id_flag, id] = arguments.as_slice() else { die(2, "wrong arguments") };
    assert_eq!((api_flag.as_str(), id_flag.as_str()), ("--api-sock", "--id"));
    let words = plan();
    for word in &words {
        match word.split_once('=') {
            Some(("end", code)) => die(code.parse().unwrap(), "RunWithApiError error: it was planned"),
            _ if word == "mute" => std::future::pending().await,
            _ => {}
        }
    }
    let Ok(listener) = UnixListener::bind(socket) else {
        let remark = "Check that it is not already used.";
        die(1, &format!("Failed to open the API socket at: {socket}. {remark}"))
    };
    let mut machine = MachineModel::new(id, HOST);
    let mut waiting_guest = Some(words);
    let judge = move |request: &Request| {
        append("requests", &format!("{} {} {}", request.method, request.path, request.body));
        let answer = machine.answer(request);
        if answer.starts_with("HTTP/1.1 204") && request.body.contains("InstanceStart") {
            tokio::spawn(guest(waiting_guest.take().unwrap()));
        }
        if answer.starts_with("HTTP/1.1 204") && request.body.contains("SendCtrlAltDel") {
            tokio::spawn(reset());
        }
        answer
    };
    api_server::serve(listener, judge).await;
}

/// What this boot does, by the number of boots before it.
fn plan() -> Vec<String> {
    let boots = std::fs::read_to_string("boots").unwrap_or_default().lines().count();
    append("boots", &std::process::id().to_string());
    let plan = std::fs::read_to_string("plan").unwrap();
    let line = plan.lines().nth(boots).or_else(|| plan.lines().last()).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

async fn guest(words: Vec<String>) {
    // The answer to InstanceStart is written first.
    tokio::task::yield_now().await;
    for word in words {
        match word.as_str() {
            "deaf" => OBEYS.store(false, Ordering::Relaxed),
            "panic" => {
                say("[    1.234567] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b")
            }
            "power-down" => say("[    9.876543] reboot: Power down"),
            "halt" => say("[    9.876543] reboot: System halted"),
            "failed" => say("dozlab-guest 1.234 failed: /dev/vda holds no file system"),
            "flood" => say(&"x".repeat(1 << 20)),
            stage => match stage.strip_prefix("exit=") {
                Some("0") => std::process::exit(0),
                Some(code) => die(code.parse().unwrap(), "Vmm error: KVM_RUN: Bad address (os error 14)"),
                None => say(&format!("dozlab-guest 1.234 {stage}: as planned")),
            },
        }
    }
}

async fn reset() {
    tokio::task::yield_now().await;
    if OBEYS.load(Ordering::Relaxed) {
        say("[    9.876543] reboot: Restarting system");
        std::process::exit(0);
    }
}

fn say(line: &str) {
    let mut console = std::io::stdout();
    write!(console, "{line}\r\n").and_then(|()| console.flush()).unwrap();
}

fn append(name: &str, line: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(name).unwrap();
    writeln!(file, "{line}").unwrap();
}

fn die(code: i32, last_words: &str) -> ! {
    eprintln!("{last_words}");
    std::process::exit(code)
}
