//! The slim kernel beside Debian's: from the hypervisor's start to the guest's first line.

use std::path::Path;

use dozlab_boot::KernelStore;
use dozlab_vm::probe::{Choice, HypervisorKind, Prober};

use crate::{against, median, shown};

/// The most that the slim kernel may take of Debian's time.
const BAR: f64 = 0.35;

/// Boots both in turn, so that what else the machine does meets both.
pub(crate) fn compare(data: &Path, runs: usize) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let store = KernelStore::new(data.join("kernels"));
    let kernels = ["debian", "slim"].map(|kind| store.find(kind).expect("there is a kernel of each kind"));
    let cache = tempfile::tempdir().expect("a temporary folder");
    let hypervisor = runtime
        .block_on(Prober::new(&kernels[0], cache.path(), true).choose(Choice::Auto, true))
        .expect("a hypervisor boots");
    let mut seconds = [Vec::new(), Vec::new()];
    for run in 1..=runs {
        for (kernel, seconds) in kernels.iter().zip(&mut seconds) {
            let verdict = runtime.block_on(Prober::new(kernel, cache.path(), true).verdict(hypervisor));
            let milliseconds = verdict.expect("a probe is prepared").first_line.expect("the kernel boots");
            seconds.push(milliseconds as f64 / 1000.0);
        }
        println!("run {run}: debian {:.2} s, slim {:.2} s", seconds[0][run - 1], seconds[1][run - 1]);
    }
    println!("\n{hypervisor}: seconds to the guest's first line, median of {runs} runs (range)");
    for (kernel, seconds) in kernels.iter().zip(&seconds) {
        println!("  {:<40} {}", kernel.describe(), shown(seconds));
    }
    let ratio = median(&seconds[1]) / median(&seconds[0]);
    println!("\nthe slim kernel takes {ratio:.2} of Debian's time, {}", against(ratio, BAR));
    if hypervisor != HypervisorKind::QemuTcg {
        println!("the bar is for emulation");
    }
}
