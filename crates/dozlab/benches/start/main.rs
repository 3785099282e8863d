//! How long from nothing to a prompt: a lab's stages, beside a plain boot of the same kernel and image.
//!
//! `make bench` runs this on the `vm` image. Both are started in turn, several times, on the same hypervisor with the
//! same memory; the plain one boots the image's own init and sshd by way of a small busybox initramfs, as one does
//! without Dozlab. A prompt counts when a shell has printed it: in a WebSocket here, over `ssh -tt` there. What is
//! printed is the median of the runs with their range, and the two as a ratio.
//!
//! With the argument `kernels` (`make bench-kernel`) only the kernels are compared, to the guest's first line.

mod kernels;
mod lab;
mod plain;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// The memory of both machines in MiB.
const MEMORY_MIB: u32 = 512;

/// The kernel of both machines: Debian's, for which the bars are.
const KERNEL: &str = "debian";

/// The most that a lab's prompt may take of the plain boot's time.
const BAR: f64 = 0.3;

/// The most seconds from the guest's first line to the prompt.
const BAR_FROM_FIRST_LINE: f64 = 2.0;

fn main() {
    // `cargo test --benches` compiles this and asks for nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runs = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(5);
    let folder = std::env::var_os("DOZLAB_DATA_DIR").map_or_else(home_data, PathBuf::from);
    if std::env::args().any(|argument| argument == "kernels") {
        kernels::compare(&folder, runs);
        return;
    }
    let mut labs: BTreeMap<usize, (String, Vec<f64>)> = BTreeMap::new();
    let mut plain_prompts = Vec::new();
    for run in 1..=runs {
        let lab = lab::start();
        let plain = plain::seconds_to_prompt(&folder);
        println!("run {run}: lab {:.2} s, plain boot {plain:.2} s", lab.last().expect("a lab has stages").1);
        for (index, (stage, seconds)) in lab.into_iter().enumerate() {
            labs.entry(index).or_insert_with(|| (stage, Vec::new())).1.push(seconds);
        }
        plain_prompts.push(plain);
    }
    println!("\nseconds since the start, median of {runs} runs (range)");
    let mut lab_prompt = 0.0;
    let mut first_line = 0.0;
    for (stage, seconds) in labs.values() {
        println!("  {stage:<28} {}", shown(seconds));
        lab_prompt = median(seconds);
        if stage == "guest init" {
            first_line = lab_prompt;
        }
    }
    println!("  {:<28} {}", "plain boot: prompt over ssh", shown(&plain_prompts));
    let since_first_line = lab_prompt - first_line;
    let verdict = against(since_first_line, BAR_FROM_FIRST_LINE);
    println!("\nfrom the guest's first line to a prompt: {since_first_line:.2} s, {verdict}");
    let ratio = lab_prompt / median(&plain_prompts);
    println!("a lab's prompt takes {ratio:.2} of a plain boot's time, {}", against(ratio, BAR));
}

/// How a measurement stands to the most that it may be.
fn against(measured: f64, bar: f64) -> String {
    let verdict = if measured <= bar { "within" } else { "over" };
    format!("{verdict} the bar of {bar}")
}

fn home_data() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".local/share/dozlab")
}

fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn shown(seconds: &[f64]) -> String {
    let (low, high) = seconds.iter().fold((f64::MAX, 0.0_f64), |(low, high), s| (low.min(*s), high.max(*s)));
    format!("{:6.2}  ({low:.2} to {high:.2})", median(seconds))
}

/// Whether a shell has printed its prompt: the output, without escape sequences, ends as bash's prompt does.
fn ends_with_prompt(output: &[u8]) -> bool {
    let mut text = String::new();
    let mut characters = String::from_utf8_lossy(output).into_owned();
    characters.retain(|character| character != '\r');
    let mut rest = characters.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '\x1b' {
            text.push(character);
            continue;
        }
        // A control sequence ends with a letter, an operating system command with a bell or `\`.
        let ends: fn(char) -> bool = match rest.next() {
            Some(']') => |end| end == '\x07' || end == '\\',
            _ => |end| end.is_ascii_alphabetic(),
        };
        rest.by_ref().find(|character| ends(*character));
    }
    text.ends_with("$ ") || text.ends_with("# ")
}

fn dozlab(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_dozlab")).args(arguments).output().expect("dozlab runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "dozlab {arguments:?}: {error}");
    output.stdout
}
