//! From what somebody asked for to a session's folder that a supervisor can run.
//!
//! [`prepare`] sees to what all sessions share and what may take minutes the first time: the kernel, the image, the
//! verdict about hypervisors. [`create`] makes the session's own folder, with its secrets and its record, or takes up
//! the one that a stopped session left.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dozlab_boot::{Kernel, KernelError, KernelStore};
use dozlab_network::namespace::{Namespace, NamespaceError};
use dozlab_rootfs::debian::{self, BuildError, BuildOptions};
use dozlab_rootfs::store::{ImageRecord, StoreError};
use dozlab_rootfs::{Progress, Store};
use dozlab_session::guest_config::{GuestConfig, GuestNetwork};
use dozlab_session::id::SessionId;
use dozlab_session::plan::{Plan, PlanError, PlanRequest};
use dozlab_session::{defaults, image::ImageRef};
use dozlab_vm::probe::{Choice, HypervisorKind, ProbeError, Prober};
use serde::{Deserialize, Serialize};

use crate::editor::{EditorChoice, EditorError, EditorFinding, EditorProgram};
use crate::folders::Folders;
use crate::keys::{hex, token, write_private};
use crate::ports::{PortError, bindable, free_address};
use crate::record::{SessionRecord, SessionState, Stage};
use crate::session_folder::{SessionFolder, SessionFolderError};
use crate::sessions::Sessions;

/// The image that is built where it is not there.
const BUILT_IMAGE: &str = "vm";

/// How the session's network is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Network {
    /// A user-mode network stack inside the hypervisor; needs no privilege.
    #[default]
    User,
    /// A network namespace with a tap device, NAT and a firewall, as the pod has it; needs root.
    Pod,
}

/// What somebody asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The session's own numbers.
    pub request: PlanRequest,
    /// How the network is made.
    pub network: Network,
    /// Which hypervisor runs the machine.
    pub hypervisor: Choice,
    /// The editor.
    pub editor: EditorChoice,
    /// The terminal's port; any free one where there is none.
    pub terminal_port: Option<u16>,
    /// The editor's port.
    pub editor_port: Option<u16>,
    /// The port at which the VM's SSH server is reached.
    pub ssh_port: Option<u16>,
}

/// Shows how a start goes.
pub trait Watcher: Send + Sync {
    /// A stage begins.
    fn begin(&self, stage: Stage);
    /// What is being done in the stage.
    fn step(&self, text: &str);
    /// A stage is over, with what came of it.
    fn done(&self, stage: Stage, took: Duration, detail: &str);
    /// Something that a person should know.
    fn notice(&self, text: &str);
    /// Where the long steps of images report to.
    fn image_progress(&self) -> Arc<dyn Progress>;
}

/// A session could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The request contradicts itself.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// There is no kernel, and none could be prepared.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// There is no such image.
    #[error(
        "{source}; `dozlab image import FILE --name {name}` makes one of an ext4 file, a folder or a tar, \
         `dozlab image build vm` builds the general one"
    )]
    Image {
        /// The image that was asked for.
        name: String,
        /// What the store said.
        source: StoreError,
    },
    /// The image could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The image store could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk asked for is smaller than the image.
    #[error(
        "a disk of {disk} cannot hold the image `{image}`, which has {size} bytes: ask for `--disk {least}` or more"
    )]
    DiskTooSmall {
        /// The disk's size as asked for.
        disk: String,
        /// The image.
        image: String,
        /// The image's size.
        size: u64,
        /// The smallest size that will do.
        least: String,
    },
    /// No hypervisor can be used.
    #[error("{0}\n`dozlab doctor` says more")]
    Hypervisor(#[from] ProbeError),
    /// The editor that was named cannot be used.
    #[error(transparent)]
    Editor(#[from] EditorError),
    /// A port cannot be had.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The session's folder cannot be used.
    #[error(transparent)]
    Folder(#[from] SessionFolderError),
    /// The network needs privileges that are not there.
    #[error("a network namespace needs root: run with `sudo`, or leave `--network pod` out")]
    NotRoot,
    /// The network namespace could not be made.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

/// What all sessions share, ready.
#[derive(Debug)]
pub struct Prepared {
    kernel: Kernel,
    image: ImageRecord,
    hypervisor: HypervisorKind,
    /// `None` for a session without an editor.
    editor: Option<EditorFinding>,
    stages: BTreeMap<Stage, u64>,
}

/// A session that is ready to be supervised.
#[derive(Debug)]
pub struct Launched {
    /// Its folder.
    pub folder: SessionFolder,
    /// Its record.
    pub record: SessionRecord,
}

/// What the supervisor must know besides the plan. It is part of the record, so that a supervisor in another process,
/// or a later one, runs the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Means {
    /// The folder of the kernel.
    pub kernel: PathBuf,
    /// The hypervisor.
    pub hypervisor: HypervisorKind,
    /// The editor's program; `None` while it is still to be installed, and in a session without an editor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub editor: Option<EditorProgram>,
}

/// Sees to the kernel, the image and the hypervisor.
///
/// # Errors
/// [`LaunchError`]; nothing half-made is left behind.
pub async fn prepare(
    folders: &Folders,
    options: &Options,
    watcher: &dyn Watcher,
) -> Result<Prepared, LaunchError> {
    if options.network == Network::Pod && !rustix::process::geteuid().is_root() {
        return Err(LaunchError::NotRoot);
    }
    let mut stages = BTreeMap::new();
    let editor = options.editor.find(folders)?;

    let clock = Clock::start(Stage::Kernel, watcher);
    let kernels = KernelStore::new(folders.kernels());
    let kernel = match kernels.current() {
        Err(KernelError::None { .. }) => kernels.import_debian(&|step| watcher.step(step)).await?,
        other => other?,
    };
    clock.stop(&kernel.release, &mut stages, watcher);

    let clock = Clock::start(Stage::Image, watcher);
    let image = image(folders, options, watcher).await?;
    let detail = image.os_name.clone().unwrap_or_else(|| image.source.clone());
    clock.stop(&format!("{}: {detail}", image.name), &mut stages, watcher);

    let clock = Clock::start(Stage::Hypervisor, watcher);
    let prober = Prober::new(&kernel, &folders.cache, false);
    let hypervisor = prober.choose(options.hypervisor, options.network == Network::User).await?;
    clock.stop(&hypervisor.to_string(), &mut stages, watcher);
    Ok(Prepared { kernel, image, hypervisor, editor, stages })
}

async fn image(
    folders: &Folders,
    options: &Options,
    watcher: &dyn Watcher,
) -> Result<ImageRecord, LaunchError> {
    let store = Store::open(&folders.images())?;
    let name = options.request.image.as_ref().map_or(BUILT_IMAGE, ImageRef::as_str);
    match store.get(name) {
        Ok(record) => Ok(record),
        Err(StoreError::NoSuchImage { .. }) if name == BUILT_IMAGE => {
            watcher.step("building the image `vm` from Debian's packages, once");
            let progress = watcher.image_progress();
            Ok(debian::build(&store, name, &debian::VM, BuildOptions::default(), progress).await?)
        }
        Err(source) => Err(LaunchError::Image { name: name.to_owned(), source }),
    }
}

/// Makes the session's folder, or takes up the one that a stopped session of this name left: its disk, its secrets and,
/// where they are free, its ports are kept.
///
/// # Errors
/// [`LaunchError`]; a folder that was made is removed again.
pub fn create(folders: &Folders, options: &Options, prepared: Prepared) -> Result<Launched, LaunchError> {
    let mut request = options.request.clone();
    let id = request.session_id.get_or_insert_with(|| new_id(prepared.image.name.as_str())).clone();
    request.image.get_or_insert_with(|| {
        prepared.image.name.as_str().parse().expect("a name of the store is an image reference")
    });
    let plan = Plan::resolve(&request)?;
    check_disk(&plan, &prepared.image)?;
    let folder = SessionFolder::new(folders.sessions().join(id.as_str()));
    let earlier = folder.record()?;
    if folder.is_supervised() {
        return Err(SessionFolderError::Locked { name: folder.name() }.into());
    }
    let is_new = earlier.is_none();
    let address = match &earlier {
        Some(earlier) => *earlier.terminal.ip(),
        None => free_address(&Sessions::new(folders).addresses()?),
    };
    let made = fill(&folder, options, plan, prepared, earlier, address);
    if made.is_err() && is_new {
        folder.remove()?;
    }
    Ok(Launched { record: made?, folder })
}

fn fill(
    folder: &SessionFolder,
    options: &Options,
    plan: Plan,
    prepared: Prepared,
    earlier: Option<SessionRecord>,
    address: Ipv4Addr,
) -> Result<SessionRecord, LaunchError> {
    folder.create()?;
    let keep = |wanted: Option<u16>, known: Option<u16>, flag| {
        let kept =
            known.filter(|_| wanted.is_none()).and_then(|port| bindable(address, Some(port), flag).ok());
        kept.map_or_else(|| bindable(address, wanted, flag), Ok)
    };
    let known = earlier.as_ref();
    let terminal = keep(options.terminal_port, known.map(|known| known.terminal.port()), "--terminal-port")?;
    let editor = match &prepared.editor {
        None => None,
        Some(_) => {
            let port = known.and_then(|known| known.editor).map(|editor| editor.port());
            Some(keep(options.editor_port, port, "--editor-port")?)
        }
    };
    let ssh = match options.network {
        Network::User => keep(options.ssh_port, known.map(|known| known.ssh.port()), "--ssh-port")?,
        // Known once the namespace is there; the supervisor makes it.
        Network::Pod => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, defaults::SSH_PORT),
    };
    folder.make_secrets(ssh)?;
    let image_user = || prepared.image.user.clone();
    let user = plan.login_user.as_ref().map_or_else(image_user, ToString::to_string);
    write_guest_config(folder, &plan, &user, options.network, &prepared.kernel)?;
    let record = SessionRecord {
        user,
        image_digest: prepared.image.digest.to_string(),
        network: options.network,
        state: SessionState::Starting,
        reason: None,
        created_ms: known.map_or_else(now_ms, |known| known.created_ms),
        started_ms: now_ms(),
        stages: prepared.stages,
        terminal,
        editor,
        ssh,
        processes: BTreeMap::new(),
        hypervisor: prepared.hypervisor.to_string(),
        means: Means {
            kernel: prepared.kernel.folder.clone(),
            hypervisor: prepared.hypervisor,
            editor: match prepared.editor {
                Some(EditorFinding::Program(program)) => Some(program),
                Some(EditorFinding::ToInstall) | None => None,
            },
        },
        plan,
    };
    folder.write_record(&record)?;
    Ok(record)
}

fn check_disk(plan: &Plan, image: &ImageRecord) -> Result<(), LaunchError> {
    if plan.disk.as_bytes() >= image.size {
        return Ok(());
    }
    let least = image.size.div_ceil(1 << 20);
    Err(LaunchError::DiskTooSmall {
        disk: plan.disk.to_string(),
        image: image.name.to_string(),
        size: image.size,
        least: format!("{least}M"),
    })
}

/// What the guest is told. The host key and the machine's id are kept from an earlier start, the entropy is new.
fn write_guest_config(
    folder: &SessionFolder,
    plan: &Plan,
    user: &str,
    network: Network,
    kernel: &Kernel,
) -> Result<(), LaunchError> {
    let path = folder.guest_config();
    let earlier: Option<GuestConfig> =
        std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let dns = match network {
        Network::User => vec![defaults::USER_NETWORK_RESOLVER],
        Network::Pod => plan.network.dns.clone(),
    };
    let public_key = folder.read(&folder.identity_file().with_extension("pub"))?;
    let config = GuestConfig {
        session_id: plan.session_id.to_string(),
        hostname: plan.hostname.to_string(),
        user: user.to_owned(),
        authorized_key: public_key.trim_end().to_owned(),
        host_key: folder.read(&folder.host_key_file())?,
        machine_id: earlier.map_or_else(|| hex(16), |earlier| earlier.machine_id),
        entropy: hex(64),
        network: GuestNetwork {
            address: plan.network.vm_address,
            prefix: plan.network.prefix,
            gateway: plan.network.gateway,
            dns,
        },
        root_device: "/dev/vda".into(),
        modules_device: kernel.modules_disk().map(|_| "/dev/vdb".into()),
    };
    let text = serde_json::to_string(&config).expect("a guest's configuration has only strings and numbers");
    Ok(write_private(&path, &text).map_err(SessionFolderError::from)?)
}

/// A name that is easy to type: the image's, and four characters.
fn new_id(image: &str) -> SessionId {
    let image: String = image
        .chars()
        .map(|character| character.to_ascii_lowercase())
        .filter(|character| character.is_ascii_alphanumeric() || *character == '-')
        .take(30)
        .collect();
    let suffix = token(4).to_ascii_lowercase();
    let id = format!("{}-{suffix}", image.trim_matches('-'));
    let id = id.trim_start_matches('-');
    id.parse().expect("letters, digits and inner hyphens, at most 35 of them, are a session's id")
}

/// Measures one stage.
pub(crate) struct Clock {
    stage: Stage,
    started: Instant,
}

impl Clock {
    pub(crate) fn start(stage: Stage, watcher: &dyn Watcher) -> Self {
        watcher.begin(stage);
        Self { stage, started: Instant::now() }
    }

    pub(crate) fn stop(self, detail: &str, stages: &mut BTreeMap<Stage, u64>, watcher: &dyn Watcher) {
        let took = self.started.elapsed();
        stages.insert(self.stage, u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        watcher.done(self.stage, took, detail);
    }
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Makes the network namespace of a session, in place of one that an earlier start left.
pub(crate) async fn make_namespace(session: &str) -> Result<Namespace, NamespaceError> {
    if let Some(left) = Namespace::find(session).await? {
        left.remove().await?;
    }
    Namespace::create(session).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_name_comes_from_the_image_and_is_always_valid() {
        assert!(new_id("vm").as_str().starts_with("vm-"));
        for image in
            ["UPPER_case.ext4", "-", "", "a-very-long-name-of-an-image-that-nobody-should-have-to-type-twice"]
        {
            assert!(new_id(image).as_str().len() <= 40, "{image}");
        }
    }
}
