//! From a word of the cluster to what a person can do.

use dozlab_controller::pod_view::{PodState, PodView};
use dozlab_pod::LabSessionStatus;
use dozlab_pod::pod::{INIT_ROOTFS, NETWORK_SETUP, VM};

use crate::evidence::Evidence;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// One word: the controller's, the kubelet's or the scheduler's.
    pub(super) reason: String,
    /// The whole of it.
    pub(super) message: String,
    /// The container that it is about.
    pub(super) container: Option<String>,
}

/// What a trouble means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Explained {
    /// A closer word than the trouble's, where the log has told one.
    pub(super) cause: Option<String>,
    /// What to do.
    pub(super) remedy: String,
    /// Whether it comes right by itself.
    pub(super) passes: bool,
}

impl Trouble {
    fn new(reason: &str, message: &str) -> Self {
        let container = match reason {
            "DiskFailed" => Some(INIT_ROOTFS),
            "NetworkFailed" => Some(NETWORK_SETUP),
            "VMCrashed" | "VMNotReady" => Some(VM),
            _ => None,
        };
        // `container firecracker-vm was out of memory (…)`, as the controller says it.
        let named = message.split("container ").nth(1).and_then(|rest| rest.split([' ', ':']).next());
        let container = container.or(named).map(str::to_owned);
        Self { reason: reason.to_owned(), message: message.to_owned(), container }
    }

    /// What a pod says itself.
    pub(super) fn of_pod(view: &PodView) -> Option<Self> {
        match &view.state {
            PodState::Broken(failure) => Some(Self::new(failure.reason, &failure.message)),
            PodState::Starting { waiting_for: Some(waiting), .. } if !waiting.reason.is_empty() => {
                Some(Self::new(&waiting.reason, &waiting.message))
            }
            _ => None,
        }
    }

    /// What the status says: a pod that was given up, a part that was refused, a spec that cannot be.
    pub(super) fn of_status(status: &LabSessionStatus) -> Self {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        Self::new(&text(&status.reason), &text(&status.message))
    }

    /// What the node says about a pod that does not get on: the newest warning of those that can explain it.
    pub(super) fn of_events(evidence: &Evidence, view: &PodView) -> Option<Self> {
        if !matches!(view.state, PodState::Starting { .. }) {
            return None;
        }
        let telling = |reason: &str| {
            let reasons = ["FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "Unhealthy"];
            reasons.contains(&reason)
        };
        let event = evidence.events.iter().rev().find(|event| event.warning && telling(&event.reason))?;
        Some(Self {
            reason: event.reason.clone(),
            message: event.message.clone(),
            container: event.container.clone(),
        })
    }
}

/// What a trouble means, with the end of the log of the container that it is about.
pub(super) fn explain(trouble: &Trouble, log: &[String]) -> Explained {
    let message = trouble.message.as_str();
    let known = |cause: &str, remedy: &str| Explained {
        cause: Some(cause.to_owned()),
        remedy: remedy.to_owned(),
        passes: false,
    };
    let plain = |remedy: &str| Explained { cause: None, remedy: remedy.to_owned(), passes: false };
    match trouble.reason.as_str() {
        "InvalidSpec" => plain("correct what the message names: `kubectl edit labsession`"),
        "InvalidImageName" => plain("correct the image's name: `spec.customImages`, or the controller's --…-image"),
        "ImagePullFailed" | "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "RegistryUnavailable" => {
            plain(
                "see that the container image's name is right, that its registry can be reached from the nodes, and \
                 that the namespace's service account has a pull secret for it",
            )
        }
        "Unschedulable" | "SchedulerError" | "FailedScheduling" => plain(scheduling(message)),
        "DiskFailed" => disk(log, message).map_or_else(
            || plain("the log of init-rootfs says why; see the image's URL (`spec.image`) and the network"),
            |(cause, remedy)| known(cause, remedy),
        ),
        "NetworkFailed" => plain(
            "network-setup needs NET_ADMIN and dozlab.io/tun: see that no policy of the namespace takes them, and that \
             the device plugin runs on the node",
        ),
        "OOMKilled" => plain(out_of_memory(trouble.container.as_deref())),
        "DiskLimitExceeded" => plain(
            "a volume has outgrown its sizeLimit: ask for a larger disk (`spec.disk`), which makes the volumes larger, \
             or see what fills it",
        ),
        "VMCrashed" | "VMNotReady" => machine(log, message).map_or_else(
            || {
                plain(
                    "the log of firecracker-vm says why; a machine without KVM boots slowly: give it more processors \
                     (`spec.vcpus`), or the controller a longer --boot-deadline",
                )
            },
            |(cause, remedy)| known(cause, remedy),
        ),
        "Unhealthy" => machine(log, message).map_or_else(
            || {
                plain(
                    "a probe fails: the machine is slow or its SSH server does not answer. Wait for --boot-deadline, or \
                     look at `dozlab --cluster logs -c vm`; a machine without KVM boots slowly",
                )
            },
            |(cause, remedy)| known(cause, remedy),
        ),
        "ContainerConfigFailed" | "CreateContainerConfigError" | "CreateContainerError" => plain(
            "a Secret that the pod needs is missing: the controller makes its own again; see that nobody removes them, \
             and what the message names",
        ),
        "FailedMount" | "FailedAttachVolume" => {
            plain("see the claim and its storage class: `kubectl describe pvc`, and the node of the pod")
        }
        "FailedCreatePodSandBox" => plain("the node's container runtime or its network plugin fails: see the node"),
        "SessionIdInUse" => plain("give it a sessionId of its own: another object of the namespace has this one"),
        "Refused" => plain("the message names the quota or the policy of the namespace: change it, or ask for less"),
        "ControllerNotAllowed" => {
            plain("the controller's role lacks the verb that the message names: compare deploy/base/rbac.yaml")
        }
        "KindNotInstalled" => plain(
            "install the definition of the kind that the message names (HTTPRoute is the Gateway API's), or start the \
             controller without --gateway",
        ),
        "Evicted" | "NodeLost" | "NodeShutdown" | "NodeRefusedPod" | "PodDeleted" | "PodLost" | "SecretLost"
        | "EarlierPod" => {
            Explained {
                cause: None,
                remedy: "nothing: another pod is made. If it happens again, see the node: `kubectl describe node`"
                    .to_owned(),
                passes: true,
            }
        }
        _ => plain("`kubectl describe pod` has all that the node says"),
    }
}

fn scheduling(message: &str) -> &'static str {
    if message.contains("dozlab.io/kvm") || message.contains("dozlab.io/tun") {
        return "no node offers the device: see that `dozlab device-plugin` runs on the nodes, and its log, which says \
                why a machine does not boot with KVM there";
    }
    if message.contains("Insufficient") {
        return "the nodes are full: end labs, add a node, or ask for less (`spec.vcpus`, `spec.memory`, `spec.disk`)";
    }
    if message.contains("persistentvolumeclaim") || message.contains("volume") {
        return "its volume cannot be had: see its claim and storage class, `kubectl describe pvc`";
    }
    "no node fits: the message says what each lacks"
}

fn out_of_memory(container: Option<&str>) -> &'static str {
    match container {
        Some(VM) => {
            "the hypervisor needed more than its overhead: give the session less memory, or the container a higher limit \
             (VM_MEMORY_LIMIT)"
        }
        Some(INIT_ROOTFS) => {
            "preparing the disk needed more than its limit: give an ext4 image instead of a tar"
        }
        _ => "its limit is too low for what is done in it: the editor's extensions, most likely",
    }
}

/// Whether any of the words is in the text.
fn says(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// The lines that count, from the newest to the oldest, and what the status has kept of them.
fn newest_first<'a>(log: &'a [String], message: &'a str) -> impl Iterator<Item = &'a str> {
    log.iter().rev().map(String::as_str).chain([message])
}

/// Why a disk could not be prepared.
fn disk(log: &[String], message: &str) -> Option<(&'static str, &'static str)> {
    newest_first(log, message).find_map(|line| {
        if says(line, &["No space left", "cannot hold the image", "os error 28"]) {
            return Some(("DiskTooSmall", "ask for a larger disk (`spec.disk`): the image does not fit; the volume follows"));
        }
        if says(line, &["server answered 4", "no credentials", "403 Forbidden", "401 Unauthorized", "404 Not Found"]) {
            return Some((
                "ImageRefused",
                "the server has no such image, or wants credentials: correct `spec.image`, or give init-rootfs a token",
            ));
        }
        if says(line, &["IMAGE_SHA256", "cut short", "damaged", "no ext4 file system", "cannot be decompressed"]) {
            return Some(("ImageDamaged", "the image is not what it should be: publish it again, with its digest"));
        }
        if says(line, &["dns", "lookup", "connect", "timed out", "unreachable", "attempts)"]) {
            return Some((
                "ImageUnreachable",
                "the image's server cannot be reached from the pod: see its URL, DNS, and the policies between the node \
                 and it",
            ));
        }
        None
    })
}

/// Why a machine does not boot.
fn machine(log: &[String], message: &str) -> Option<(&'static str, &'static str)> {
    newest_first(log, message).find_map(|line| {
        if says(line, &["no hypervisor can boot", "/dev/kvm"]) {
            return Some((
                "NoHypervisor",
                "KVM does not work on the node: see the log of `dozlab device-plugin` there, or let machines be emulated",
            ));
        }
        if says(line, &["Operation not permitted", "/dev/net/tun", "CAP_NET_ADMIN"]) {
            return Some((
                "NotPermitted",
                "the container lacks a capability or a device: see that no policy of the namespace takes what the pod \
                 asks for, and that the device plugin offers dozlab.io/tun",
            ));
        }
        if says(line, &["EXT4-fs error", "Kernel panic", "cannot mount", "Unable to mount root", "bad superblock"]) {
            return Some((
                "DiskDamaged",
                "the machine cannot use its disk: see that the image is whole, and let it be prepared anew",
            ));
        }
        if says(line, &["Cannot allocate memory", "Out of memory"]) {
            return Some(("OutOfMemory", "give the session more memory (`spec.memory`)"));
        }
        None
    })
}
