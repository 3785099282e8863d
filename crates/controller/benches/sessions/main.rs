//! `make bench-controller`: many sessions on a real API server with pods played by a fake kubelet, and beside
//! it a plain client that sends the same writes without looking. `SESSIONS` says how many (default 500).

#![allow(clippy::unwrap_used, reason = "this is a measurement")]

mod blind;
mod kubelet;
#[path = "../../tests/api/support.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use dozlab_pod::LabSession;
use dozlab_session::phase::Phase;
use futures_util::TryStreamExt as _;
use futures_util::stream::{self, StreamExt as _};
use kube::ResourceExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::json;
use support::{Cluster, Controller};
use tokio::time::timeout;

/// How many requests the clients have under way at once, as the controller does by default.
const AT_ONCE: usize = 10;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count: usize = std::env::var("SESSIONS").ok().map_or(500, |text| text.parse().unwrap());
    let cluster = Cluster::new("bench").await;
    let blind = blind::run(&cluster, count).await;
    println!("blind client      {count} sessions in {:.1} s, {:.1} a second", blind, count as f64 / blind);

    let cluster = Cluster::new("bench-controller").await;
    let controller = cluster.controller(&[]);
    controller.says("the controller works").await;
    let kubelet = kubelet::start(&cluster);
    let running = tokio::spawn(watch_running(cluster.sessions(), count));
    let started = Instant::now();
    stream::iter(0..count)
        .for_each_concurrent(AT_ONCE, |number| {
            let cluster = &cluster;
            async move {
                cluster.ask_for(&format!("s{number}"), json!({})).await;
            }
        })
        .await;
    let running = timeout(Duration::from_secs(1200), running).await.unwrap().unwrap();
    let seconds = started.elapsed().as_secs_f64();
    let rate = count as f64 / seconds;
    println!("controller        {count} sessions in {seconds:.1} s, {rate:.1} a second");
    println!("of the blind rate {:.2} (wanted: 0.8)", rate / (count as f64 / blind));

    let ready = kubelet.lock().unwrap().clone();
    let mut delays: Vec<f64> = running
        .iter()
        .filter_map(|(name, at)| Some(at.duration_since(*ready.get(name)?).as_secs_f64() * 1000.0))
        .collect();
    delays.sort_by(f64::total_cmp);
    let percentile = |part: f64| delays[((delays.len() - 1) as f64 * part) as usize];
    println!(
        "ready → Running   median {:.0} ms, p99 {:.0} ms (wanted: p99 below 500)",
        percentile(0.5),
        percentile(0.99)
    );
    let writes = cluster.server.writes("bench-controller").len();
    println!("API writes        {:.2} a session (wanted: 6)", writes as f64 / count as f64);
    let (cpu, peak, resident) = usage(&controller);
    println!(
        "controller        {cpu:.1} s of CPU, {resident} MiB resident, {peak} MiB at its peak (wanted: 100)"
    );
}

/// When each session was seen to be Running.
async fn watch_running(sessions: kube::Api<LabSession>, count: usize) -> HashMap<String, Instant> {
    let mut events =
        std::pin::pin!(watcher(sessions, watcher::Config::default()).default_backoff().applied_objects());
    let mut seen = HashMap::new();
    while seen.len() < count {
        let session = events.try_next().await.unwrap().unwrap();
        if session.status.as_ref().is_some_and(|status| status.phase == Phase::Running) {
            seen.entry(session.name_any()).or_insert_with(Instant::now);
        }
    }
    seen
}

/// Seconds of CPU, and the memory at its peak and now in MiB.
fn usage(controller: &Controller) -> (f64, u64, u64) {
    let pid = controller.child.id();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mebibytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    // Linux counts in hundredths of a second on every machine that we run on.
    (ticks / 100.0, mebibytes("VmHWM"), mebibytes("VmRSS"))
}
