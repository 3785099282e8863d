//! A folder with a machine whose guest follows a plan, and a supervisor of it in the background.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant};

use dozlab_process::Identity;
use dozlab_session::vm_status::{VmState, VmStatus};
use dozlab_vm::supervisor::Request;
use dozlab_vm::{Firecracker, Machine, NetworkBackend, Outcome, Supervisor, SupervisorError};
use tempfile::TempDir;
use tokio::sync::watch;

/// Nearly everything here happens within a few seconds; giving a machine up takes a quarter of a minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// A machine's folder.
pub(crate) struct Lab {
    folder: TempDir,
    pub(crate) machine: Machine,
}

impl Lab {
    /// A lab whose boots follow the lines of the plan; see the stand-in for its words.
    pub(crate) fn new(plan: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, content) in [("plan", plan), ("kernel", "k"), ("initramfs", "i"), ("disk", "d")] {
            fs::write(path(name), content).unwrap();
        }
        let machine = Machine {
            kernel: path("kernel"),
            initramfs: path("initramfs"),
            disk: Some(path("disk")),
            writable_disk: None,
            modules_disk: None,
            vcpus: 1,
            memory_mib: 128,
            network: NetworkBackend::Tap { name: "tap0".into() },
            kernel_parameters: Vec::new(),
            run_folder: folder.path().to_owned(),
        };
        Self { folder, machine }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The pids of the processes that were started, in order.
    pub(crate) fn boots(&self) -> Vec<u32> {
        self.read("boots").lines().map(|pid| pid.parse().unwrap()).collect()
    }

    /// Fails if one of the processes that were started is still there.
    pub(crate) fn assert_nothing_runs(&self) {
        for pid in self.boots() {
            assert!(Identity::of(pid).is_none(), "process {pid} is left");
        }
    }

    /// Supervises the machine while it is waited for.
    pub(crate) fn supervise(&self, grace: Duration) -> Supervised {
        let supervisor = Supervisor {
            hypervisor: stand_in(),
            machine: self.machine.clone(),
            console_log: self.path("console.log"),
            status: self.path("status.json"),
            grace,
        };
        let (request, requests) = watch::channel(Request::Run);
        let status = supervisor.status.clone();
        Supervised {
            run: Box::pin(async move { supervisor.run(requests).await }),
            request,
            status,
            ended: None,
        }
    }
}

/// The stand-in.
pub(crate) fn stand_in() -> Firecracker {
    Firecracker::at(env!("CARGO_BIN_EXE_firecracker-stand-in").into())
}

type Ended = Result<Outcome, SupervisorError>;

/// A supervisor, which runs while something is waited for.
pub(crate) struct Supervised {
    run: Pin<Box<dyn Future<Output = Ended>>>,
    ended: Option<Ended>,
    request: watch::Sender<Request>,
    status: PathBuf,
}

impl Supervised {
    /// Waits for a status; every one that can be read on the way is whole.
    pub(crate) async fn reaches(&mut self, wanted: impl Fn(&VmStatus) -> bool) -> VmStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = read_status(&self.status);
            if let Some(status) = status.clone().filter(&wanted) {
                return status;
            }
            assert!(Instant::now() < deadline, "the last status is {status:?}");
            tokio::select! {
                ended = &mut self.run, if self.ended.is_none() => self.ended = Some(ended),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
    }

    /// Waits until a boot has a prompt.
    pub(crate) async fn is_ready(&mut self, boot: u32) -> VmStatus {
        self.reaches(|status| status.state == VmState::Ready && status.boot == boot).await
    }

    pub(crate) fn ask(&self, request: Request) {
        self.request.send(request).unwrap();
    }

    /// Waits for the machine's end, and returns the last status with it.
    pub(crate) async fn ends(mut self) -> (Ended, VmStatus) {
        let ended = match self.ended.take() {
            Some(ended) => ended,
            None => tokio::time::timeout(PATIENCE, self.run).await.unwrap(),
        };
        (ended, read_status(&self.status).unwrap())
    }
}

/// The status, `None` where there is no file yet. A file that is half written fails the test.
pub(crate) fn read_status(path: &Path) -> Option<VmStatus> {
    let text = fs::read(path).ok()?;
    let status = serde_json::from_slice(&text);
    Some(status.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&text))))
}
