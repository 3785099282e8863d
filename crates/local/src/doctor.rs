//! What this machine has, what a lab would use, and what to do about what is missing: a line each.

use dozlab_boot::{Kernel, KernelError, KernelKind, KernelStore};
use dozlab_network::namespace;
use dozlab_process::Tool;
use dozlab_rootfs::Store;
use dozlab_rootfs::build::{BWRAP, check_owners};
use dozlab_vm::probe::{Choice, HypervisorKind, Prober};
use serde::Serialize;

use crate::editor::find_editor;
use crate::folders::Folders;
use crate::launch::{find_kernel, on_this_machine};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Finding {
    /// As it should be.
    Good,
    /// A lab runs, but something is slower or missing.
    Warning,
    /// No lab can run.
    Bad,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was looked at.
    pub subject: String,
    /// How it came out.
    pub finding: Finding,
    /// What was found.
    pub found: String,
    /// What to install or fix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    fn good(subject: &str, found: impl Into<String>) -> Self {
        Self { subject: subject.into(), finding: Finding::Good, found: found.into(), remedy: None }
    }

    fn warning(subject: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { subject: subject.into(), finding: Finding::Warning, found: found.into(), remedy }
    }

    fn bad(subject: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { finding: Finding::Bad, ..Self::warning(subject, found, remedy) }
    }
}

/// Programs without which no session's disk can be made.
const DISK_TOOLS: [Tool; 4] = [
    Tool { program: "mke2fs", package: "e2fsprogs" },
    Tool { program: "e2fsck", package: "e2fsprogs" },
    Tool { program: "resize2fs", package: "e2fsprogs" },
    Tool { program: "debugfs", package: "e2fsprogs" },
];

/// Programs without which the kernel cannot be prepared.
const KERNEL_TOOLS: [Tool; 3] = [
    Tool { program: "dpkg-deb", package: "dpkg" },
    Tool { program: "depmod", package: "kmod" },
    Tool { program: "apt-get", package: "apt" },
];

const MMDEBSTRAP: Tool = Tool { program: "mmdebstrap", package: "mmdebstrap" };
const SSH: Tool = Tool { program: "ssh", package: "openssh-client" };

/// Looks at everything that a lab needs. Hypervisors are asked by booting a probe; `fresh` asks again what is
/// remembered. `progress` is told what is being looked at.
pub async fn examine(
    folders: &Folders,
    kernel: Option<&str>,
    fresh: bool,
    progress: &dyn Fn(&str),
) -> Vec<Check> {
    let mut checks = vec![data_folder(folders)];
    checks.push(tools("disk tools", &DISK_TOOLS, Check::bad));
    checks.extend(hypervisors(folders, kernel, fresh, progress).await);
    checks.push(images(folders));
    checks.push(session_disks(folders));
    checks.push(tools("image building", &[MMDEBSTRAP], Check::warning));
    checks.push(tools("image commands", &[BWRAP], Check::warning));
    checks.push(image_owners());
    checks.push(editor(folders));
    checks.push(tools("ssh", &[SSH], Check::warning));
    checks.push(pod_network());
    checks.push(Check::good(
        "guest port 22",
        "belongs to the lab's own SSH server; an sshd of the image is masked while the lab runs",
    ));
    checks
}

/// Whether a lab can run.
#[must_use]
pub fn can_run(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.finding != Finding::Bad)
}

fn data_folder(folders: &Folders) -> Check {
    let subject = "data folder";
    let path = &folders.data;
    if let Err(error) = std::fs::create_dir_all(path) {
        return Check::bad(
            subject,
            format!("cannot create {}: {error}", path.display()),
            "set DOZLAB_DATA_DIR",
        );
    }
    let available = rustix::fs::statvfs(path).map(|volume| volume.f_bavail.saturating_mul(volume.f_frsize));
    match available {
        Ok(bytes) => {
            let gib = bytes >> 30;
            let found = format!("{} ({gib} GiB free)", path.display());
            // An image with its disk takes about 1 GiB, the editor 0.3.
            if gib < 3 {
                Check::warning(subject, found, "free some space: a lab needs about 3 GiB")
            } else {
                Check::good(subject, found)
            }
        }
        Err(error) => {
            Check::bad(subject, format!("cannot look at {}: {error}", path.display()), "set DOZLAB_DATA_DIR")
        }
    }
}

fn tools(subject: &'static str, tools: &[Tool], missing: fn(&'static str, String, String) -> Check) -> Check {
    let absent: Vec<&Tool> = tools.iter().filter(|tool| tool.find().is_none()).collect();
    let names = |tools: &[&Tool]| tools.iter().map(|tool| tool.program).collect::<Vec<_>>().join(", ");
    if absent.is_empty() {
        return Check::good(subject, names(&tools.iter().collect::<Vec<_>>()));
    }
    let mut packages: Vec<&str> = absent.iter().map(|tool| tool.package).collect();
    packages.dedup();
    missing(
        subject,
        format!("missing: {}", names(&absent)),
        format!("apt-get install {}", packages.join(" ")),
    )
}

async fn hypervisors(
    folders: &Folders,
    kernel: Option<&str>,
    fresh: bool,
    progress: &dyn Fn(&str),
) -> Vec<Check> {
    let store = KernelStore::new(folders.kernels());
    let kernel = match find_kernel(&store, kernel, progress).await {
        Ok(kernel) => kernel,
        Err(error @ KernelError::NoSuchKernel { .. }) => {
            return vec![Check::bad("kernel", error.to_string(), "dozlab kernel use auto")];
        }
        Err(error) => {
            let checks = tools("kernel tools", &KERNEL_TOOLS, Check::bad);
            let remedy = "dozlab kernel import FILE, with a kernel package from elsewhere";
            return vec![checks, Check::bad("kernel", error.to_string(), remedy)];
        }
    };
    let mut checks = vec![Check::good("kernel", describe(&kernel))];
    let prober = Prober::new(&kernel, &folders.cache, fresh);
    for kind in HypervisorKind::ALL {
        progress(&format!("booting a probe with {kind}"));
        let subject = kind.to_string();
        checks.push(match prober.verdict(kind).await {
            Ok(verdict) => match verdict.first_line {
                Ok(milliseconds) => {
                    let needs = if kind.has_user_network() {
                        ""
                    } else {
                        "; for `--network pod`, it needs a tap device"
                    };
                    Check::good(
                        &subject,
                        format!("boots Linux in {:.1} s{needs}", milliseconds as f64 / 1000.0),
                    )
                }
                Err(reason) if verdict.probed => Check::warning(&subject, reason, "use another hypervisor"),
                Err(reason) => {
                    let (found, remedy) =
                        reason.split_once(": ").unwrap_or((&reason, "use another hypervisor"));
                    let use_of_it =
                        if kind.has_user_network() { "" } else { "; only `--network pod` can use it" };
                    Check::warning(&subject, format!("{found}{use_of_it}"), remedy)
                }
            },
            Err(error) => {
                Check::bad(&subject, error.to_string(), "make the folder for temporary files writable")
            }
        });
    }
    checks.push(match prober.choose(Choice::Auto, true).await {
        Ok(kind) => Check::good("chosen", kind.to_string()),
        Err(_) => Check::bad("chosen", "no hypervisor boots", "apt-get install qemu-system-x86"),
    });
    checks
}

fn describe(kernel: &Kernel) -> String {
    let described = kernel.describe();
    match kernel.kind {
        KernelKind::Slim | KernelKind::Bare => described,
        KernelKind::Debian => format!("{described}; `dozlab kernel build` makes one that starts faster"),
    }
}

fn images(folders: &Folders) -> Check {
    let listed = Store::open(&folders.images()).and_then(|store| store.list());
    match listed {
        Ok(images) if images.is_empty() => Check::warning(
            "images",
            "none yet",
            "the first `dozlab up` builds `vm`, or `dozlab image import FILE`",
        ),
        Ok(images) => Check::good(
            "images",
            images.iter().map(|image| image.name.as_str()).collect::<Vec<_>>().join(", "),
        ),
        Err(error) => Check::bad("images", error.to_string(), "repair or remove the image store"),
    }
}

/// Whether a build may give the files of an image to the users they belong to.
fn image_owners() -> Check {
    let subject = "image owners";
    match check_owners() {
        Ok(()) => Check::good(subject, "files of an image can be given to its users"),
        Err(error) => {
            let error = error.to_string();
            let (found, remedy) = error.split_once(": ").unwrap_or((&error, "build as root"));
            Check::warning(subject, found, remedy)
        }
    }
}

fn session_disks(folders: &Folders) -> Check {
    let subject = "session disks";
    match on_this_machine(folders) {
        Ok(suited) => Check::good(subject, format!("{}: {}", suited.strategy, suited.reason)),
        Err(error) => Check::bad(subject, error.to_string(), "repair the folder, or set DOZLAB_DATA_DIR"),
    }
}

fn editor(folders: &Folders) -> Check {
    match find_editor(folders) {
        Some(editor) => Check::good("editor", editor.describe()),
        None => Check::warning("editor", "no code-server", "dozlab editor install"),
    }
}

fn pod_network() -> Check {
    let subject = "network namespaces";
    if !rustix::process::geteuid().is_root() {
        return Check::good(subject, "for root only; labs use the user-mode network");
    }
    tools(subject, &namespace::TOOLS, Check::warning)
}
