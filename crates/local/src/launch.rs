//! From what somebody asked for to a session's folder that a supervisor can run.
//!
//! [`prepare`] sees to what all sessions share and what may take minutes the first time: the kernel, the image, the
//! verdict about hypervisors. [`create()`] makes the session's own folder, with its secrets and its record, or takes up
//! the one that a stopped session left.

mod again;
mod create;
mod disk_choice;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dozlab_boot::{Kernel, KernelError, KernelStore};
use dozlab_network::namespace::NamespaceError;
use dozlab_rootfs::build::{self, BuildError, BuildOptions, Definition};
use dozlab_rootfs::disk::Strategy;
use dozlab_rootfs::store::{ImageRecord, StoreError};
use dozlab_rootfs::{Progress, Store};
use dozlab_session::defaults;
use dozlab_session::duration::TimeLimit;
use dozlab_session::plan::{PlanError, PlanRequest};
use dozlab_session::size::ByteSize;
use dozlab_vm::probe::{HypervisorKind, ProbeError, Prober};
use serde::{Deserialize, Serialize};

use crate::editor::{EditorError, EditorFinding, EditorProgram};
use crate::folders::Folders;
use crate::ports::PortError;
use crate::record::{SessionRecord, Stage};
use crate::session_folder::{SessionFolder, SessionFolderError};

pub use again::Asked;
use again::{earlier, has_disk, keep_disk, take_up};
pub use create::create;
pub(crate) use disk_choice::on_this_machine;

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
    /// How the disk comes from the image; what suits this machine where there is none.
    pub disk: Option<Strategy>,
    /// How the network is made; [`Network::User`] where nobody said.
    pub network: Option<Network>,
    /// Which kernel, which hypervisor, which editor.
    pub asked: Asked,
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
    /// A stopped lab is asked to be something else.
    #[error(
        "lab `{name}` has {what} {has}, not {asked}: leave that out to start it again, or `dozlab rm {name}` first"
    )]
    Different {
        /// The lab.
        name: String,
        /// What differs.
        what: &'static str,
        /// What it has.
        has: String,
        /// What was asked for.
        asked: String,
    },
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
    /// The kernel cannot do what an overlay needs.
    #[error(
        "the kernel {release} has no module for overlays: leave `--disk-mode overlay` out, or bring another kernel by \
         `dozlab kernel import`"
    )]
    NoOverlay {
        /// The kernel.
        release: String,
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

/// What is ready before the session's own folder is made.
#[derive(Debug)]
pub struct Prepared {
    request: PlanRequest,
    kernel: Kernel,
    image: Origin,
    disk: Strategy,
    network: Network,
    hypervisor: HypervisorKind,
    asked: Asked,
    /// `None` for a session without an editor.
    editor: Option<EditorFinding>,
    stages: BTreeMap<Stage, u64>,
}

/// What the session's disk is made from, or was.
#[derive(Debug)]
struct Origin {
    digest: String,
    user: String,
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
    let mut stages = BTreeMap::new();
    let (mut request, mut asked, mut network) =
        (options.request.clone(), options.asked.clone(), options.network);
    let earlier = earlier(folders, &request)?;
    if let Some(earlier) = &earlier {
        take_up(earlier, &mut request)?;
        keep_disk(folders, earlier, options.disk)?;
        asked = asked.or(&earlier.asked);
        network = network.or(Some(earlier.network));
    }
    // A lab on somebody's own machine lasts for as long as they like.
    request.timeout.get_or_insert(TimeLimit::None);
    let network = network.unwrap_or_default();
    if network == Network::Pod && !rustix::process::geteuid().is_root() {
        return Err(LaunchError::NotRoot);
    }
    let editor = asked.editor.clone().unwrap_or_default().find(folders)?;

    let clock = Clock::start(Stage::Kernel, watcher);
    let kernels = KernelStore::new(folders.kernels());
    let kernel = find_kernel(&kernels, asked.kernel.as_deref(), &|step| watcher.step(step)).await?;
    clock.stop(&kernel.describe(), &mut stages, watcher);

    let clock = Clock::start(Stage::Hypervisor, watcher);
    let prober = Prober::new(&kernel, &folders.cache, false);
    let wanted = asked.hypervisor.unwrap_or_default();
    let hypervisor = prober.choose(wanted, network == Network::User).await?;
    clock.stop(&hypervisor.to_string(), &mut stages, watcher);

    let clock = Clock::start(Stage::Image, watcher);
    let name =
        request.image.get_or_insert_with(|| BUILT_IMAGE.parse().expect("the name is an image reference"));
    let (image, disk, detail) = match earlier.filter(has_disk(folders)) {
        // The disk is there; the image may have been removed since.
        Some(earlier) => {
            let detail = format!("{name}: the disk of last time");
            (Origin { digest: earlier.image_digest, user: earlier.user }, earlier.disk, detail)
        }
        None => {
            let image = find_image(folders, name.as_str(), watcher).await?;
            check_disk(request.disk.unwrap_or(defaults::DISK_SIZE), &image)?;
            let system = image.os_name.clone().unwrap_or_else(|| image.source.clone());
            let detail = format!("{}: {system}", image.name);
            let disk = disk_choice::choose(options.disk, &kernel, folders).await?;
            (Origin { digest: image.digest.to_string(), user: image.user }, disk, detail)
        }
    };
    clock.stop(&detail, &mut stages, watcher);
    Ok(Prepared { request, kernel, image, disk, network, hypervisor, asked, editor, stages })
}

/// The kernel that was asked for, else the store's choice; where there is none at all, Debian's is imported.
///
/// # Errors
/// [`KernelError`].
pub(crate) async fn find_kernel(
    kernels: &KernelStore,
    wanted: Option<&str>,
    progress: &dyn Fn(&str),
) -> Result<Kernel, KernelError> {
    let found = match wanted {
        Some(wanted) => kernels.find(wanted),
        None => kernels.current(),
    };
    match found {
        Err(KernelError::None { .. }) if wanted.is_none() => kernels.import_debian(progress).await,
        found => found,
    }
}

async fn find_image(
    folders: &Folders,
    name: &str,
    watcher: &dyn Watcher,
) -> Result<ImageRecord, LaunchError> {
    let store = Store::open(&folders.images())?;
    match store.get(name) {
        Ok(record) => Ok(record),
        Err(StoreError::NoSuchImage { .. }) if Definition::is_embedded(name) => {
            watcher.step(&format!("building the image `{name}` from Debian's packages, once"));
            let definition = Definition::find(name).map_err(BuildError::from)?;
            let (options, progress) = (BuildOptions::default(), watcher.image_progress());
            Ok(build::build(&store, name, &definition, options, progress).await?.record)
        }
        Err(source) => Err(LaunchError::Image { name: name.to_owned(), source }),
    }
}

fn check_disk(disk: ByteSize, image: &ImageRecord) -> Result<(), LaunchError> {
    if disk.as_bytes() >= image.size {
        return Ok(());
    }
    let least = image.size.div_ceil(1 << 20);
    Err(LaunchError::DiskTooSmall {
        disk: disk.to_string(),
        image: image.name.to_string(),
        size: image.size,
        least: format!("{least}M"),
    })
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
