//! `make bench-controller`: many sessions on a real API server with pods played by a fake kubelet, and beside
//! it a plain client that sends the same writes without looking. `SESSIONS` says how many (default 500).
//!
//! The world is the same for both: somebody asks for sessions, a kubelet makes their pods ready, somebody
//! watches until they are Running. What differs is who makes the parts and writes the status: a client that
//! sends one after the other, or the controller, which watches, decides, and waits for the pod. The client runs
//! before the controller and after it, since a machine is seldom as free the whole time.
//!
//! The rate is that of sessions which all begin at once, so the API server is the limit. How long a status
//! takes to follow a pod is measured afterwards, with sessions that are born at half the controller's own
//! rate: a load that the server can take.

#![allow(clippy::unwrap_used, reason = "this is a measurement")]

mod blind;
mod kubelet;
#[path = "../../tests/api/proxy.rs"]
#[allow(dead_code, reason = "the tests use it")]
mod proxy;
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
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How many requests the clients have under way at once, as the controller does by default.
const AT_ONCE: usize = 10;
/// How many sessions are born one after the other.
const PACED: usize = 200;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count: usize = std::env::var("SESSIONS").ok().map_or(500, |text| text.parse().unwrap());
    let before = blind_rate("bench-blind-before", count).await;
    println!("blind client      {count} sessions, {before:.1} a second");

    let cluster = Cluster::new("bench-controller").await;
    let controller = cluster.controller(&[]);
    controller.says("the controller works").await;
    let kubelet = kubelet::start(&cluster);
    let running = watch_running(&cluster, "s", count);
    let started = Instant::now();
    let births = stream::iter(0..count).for_each_concurrent(AT_ONCE, |number| {
        let cluster = &cluster;
        async move {
            cluster.ask_for(&format!("s{number}"), json!({})).await;
        }
    });
    births.await;
    let seen = all(running).await;
    let rate = count as f64 / started.elapsed().as_secs_f64();
    println!("controller        {count} sessions, {rate:.1} a second");
    let writes = cluster.server.writes("bench-controller").len();
    println!("API writes        {:.2} a session (wanted: 6)", writes as f64 / count as f64);
    let delays = Delays::new(&kubelet, &seen);
    println!("ready → Running   {delays}, while all begin at once");
    let (cpu, peak, resident) = usage(&controller);
    println!(
        "controller        {cpu:.1} s of CPU, {resident} MiB resident, {peak} MiB at its peak (wanted: 100)"
    );

    let after = blind_rate("bench-blind-after", count).await;
    println!("blind client      {count} sessions, {after:.1} a second");
    println!("of the blind rate {:.2} (wanted: 0.8)", 2.0 * rate / (before + after));

    paced(&cluster, &kubelet, rate / 2.0).await;

    cluster.server.switch("down");
    cluster.server.switch("up");
    let up = Instant::now();
    cluster.ask_for("after-the-restart", json!({})).await;
    cluster.phase("after-the-restart", "Running").await;
    println!(
        "API server again  {:.1} s until a new session is Running (wanted: 15)",
        up.elapsed().as_secs_f64()
    );
}

/// How many sessions a second the blind client makes.
async fn blind_rate(namespace: &str, count: usize) -> f64 {
    let cluster = Cluster::new(namespace).await;
    let kubelet = kubelet::start(&cluster);
    let running = watch_running(&cluster, "s", count);
    let started = blind::run(&cluster, count).await;
    all(running).await;
    support::until("all pods are ready", async || (kubelet.lock().unwrap().len() == count).then_some(()))
        .await;
    count as f64 / started.elapsed().as_secs_f64()
}

/// Measures the delay of the status with sessions that are born at this rate, in sessions a second.
async fn paced(cluster: &Cluster, kubelet: &kubelet::Ready, rate: f64) {
    let running = watch_running(cluster, "paced-", PACED);
    // Who watches lists the sessions of before first, and would see the first new ones late.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    for number in 0..PACED {
        ticks.tick().await;
        cluster.ask_for(&format!("paced-{number}"), json!({})).await;
    }
    let seen = all(running).await;
    let delays = Delays::new(kubelet, &seen);
    println!("ready → Running   {delays} (wanted: p99 below 500), at {rate:.1} births a second");
}

/// When each session was seen to be Running, by its name.
type Seen = HashMap<String, Instant>;

/// Watches until so many sessions whose names begin so are Running.
fn watch_running(cluster: &Cluster, prefix: &'static str, count: usize) -> JoinHandle<Seen> {
    let sessions = cluster.sessions();
    tokio::spawn(async move {
        let is_running = |session: &LabSession| {
            session.status.as_ref().is_some_and(|status| status.phase == Phase::Running)
        };
        let events = watcher(sessions, watcher::Config::default()).default_backoff().applied_objects();
        let mut events = std::pin::pin!(events);
        let mut seen = Seen::new();
        while seen.len() < count {
            let session = events.try_next().await.unwrap().unwrap();
            let name = session.name_any();
            if name.starts_with(prefix) && is_running(&session) {
                seen.entry(name).or_insert_with(Instant::now);
            }
        }
        seen
    })
}

async fn all(running: JoinHandle<Seen>) -> Seen {
    timeout(Duration::from_secs(1200), running).await.unwrap().unwrap()
}

/// How long after its pod each session was Running, in milliseconds, sorted.
struct Delays(Vec<f64>);

impl Delays {
    fn new(kubelet: &kubelet::Ready, seen: &Seen) -> Self {
        let ready = kubelet.lock().unwrap();
        let delay = |name: &String, at: &Instant| {
            Some(at.saturating_duration_since(*ready.get(name)?).as_secs_f64() * 1000.0)
        };
        let mut delays: Vec<f64> = seen.iter().filter_map(|(name, at)| delay(name, at)).collect();
        delays.sort_by(f64::total_cmp);
        Self(delays)
    }

    fn percentile(&self, part: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * part) as usize]
    }
}

impl std::fmt::Display for Delays {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "median {:.0} ms, p99 {:.0} ms", self.percentile(0.5), self.percentile(0.99))
    }
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
