//! The way from the kernel's first process to a machine with a prompt.
//!
//! Everything before the SSH server listens is on the learner's time, on a processor that may be emulated:
//! the least is done, in one process, and what can wait comes after. The order is: modules, disk, root,
//! network, listening socket, server; then the files of the image, the other modules, and the image's init.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};

use dozlab_session::guest_config::{CONFIG_PATH, GuestConfig, GuestStage, PROBE_PARAMETER, TIME_PARAMETER};
use russh::keys::{PrivateKey, PublicKey};
use rustix::mount::MountFlags;

use crate::console::{Console, uptime};
use crate::init;
use crate::login::{Login, LoginError};
use crate::power::Action;
use crate::server::{FirstPrompt, ServerConfig};
use crate::service::Service;
use command_line::CommandLine;
use modules::LateModules;

mod authorized_keys;
mod clock;
mod command_line;
mod entropy;
mod handover;
mod identity;
pub(crate) mod modules;
mod network;
pub(crate) mod overlay;
mod root_disk;
mod timer;

/// The port of the SSH server.
const SSH_PORT: u16 = 22;

/// The machine cannot be started.
#[derive(Debug, thiserror::Error)]
enum BootError {
    #[error("cannot mount {target} in the initramfs: {source}; does it hold the folder?")]
    KernelFiles { target: &'static str, source: io::Error },
    #[error(
        "cannot read {CONFIG_PATH}: {0}; is the session's archive in the initramfs, padded to four bytes?"
    )]
    NoConfig(#[source] io::Error),
    #[error("{CONFIG_PATH} is no configuration of this version: {0}")]
    BadConfig(#[from] serde_json::Error),
    #[error("the {what} of {CONFIG_PATH} cannot be read: {source}")]
    BadKey { what: &'static str, source: russh::keys::ssh_key::Error },
    #[error(transparent)]
    RootDisk(#[from] root_disk::RootDiskError),
    #[error(transparent)]
    Network(#[from] network::NetworkError),
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error("cannot listen on port {SSH_PORT}: {0}")]
    Listen(#[source] io::Error),
    #[error("cannot start the SSH server: {0}")]
    Fork(#[source] io::Error),
}

/// Starts the machine. To be called by process 1, first of all.
pub(crate) fn run() -> ! {
    let Ok(console) = Console::open() else { loop_for_ever() };
    console.reached(GuestStage::Start, concat!("version ", env!("CARGO_PKG_VERSION")));
    power_off_on_panic();
    match start(&console) {
        Err(error) => {
            console.reached(GuestStage::Failed, &error.to_string());
            init::finish(&console, Action::PowerOff)
        }
    }
}

fn loop_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

/// A panic of process 1 would be the kernel's.
fn power_off_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        if rustix::process::getpid().is_init()
            && let Ok(console) = Console::open()
        {
            console.reached(GuestStage::Failed, &format!("a defect of this program: {info}"));
            init::finish(&console, Action::PowerOff);
        }
    }));
}

fn start(console: &Console) -> Result<Infallible, BootError> {
    mount_in_initramfs("devtmpfs", "/dev")?;
    mount_in_initramfs("proc", "/proc")?;
    let command_line = CommandLine::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
    if command_line.has(PROBE_PARAMETER) {
        init::finish(console, Action::PowerOff);
    }
    if timer::is_given_up() {
        console.remark("the processor's timer was counted wrong on a busy host: starting again");
        init::finish(console, Action::Restart);
    }
    let config = read_config()?;
    let (host_key, authorized_key) = keys(&config)?;
    set_clock_and_entropy(console, &command_line, &config);

    let (loaded, failures) = modules::load_ordered();
    failures.iter().for_each(|failure| console.remark(&failure.to_string()));
    console.reached(GuestStage::Modules, &format!("{loaded} modules loaded"));

    let root = mount_root(console, &config)?;
    let late_modules = LateModules::open();
    root_disk::switch()?;
    let failures = root_disk::mount_kernel_file_systems()?;
    console.reached(GuestStage::Root, &format!("{root} is the root"));
    failures.iter().for_each(|failure| console.remark(failure));

    if let Err(error) = rustix::system::sethostname(config.hostname.as_bytes()) {
        console.remark(&format!("cannot set the host name `{}`: {error}", config.hostname));
    }
    let interface = network::configure(&config.network)?;
    let address = config.network.address;
    console.reached(GuestStage::Network, &format!("{interface} has {address}/{}", config.network.prefix));

    let login = Login::of_image(Path::new("/"), &config.user)?;
    let image_init = handover::find(Path::new("/"));
    let server = ServerConfig {
        login,
        authorized_key,
        host_key,
        sftp_program: PathBuf::from("/proc/self/exe"),
        extra_path: None,
        spared: true,
        first_prompt: FirstPrompt::default(),
    };
    let listener = listen().map_err(BootError::Listen)?;
    console.reached(GuestStage::Ssh, &format!("listening on port {SSH_PORT} as {}", server.login.name));
    let signals = init::block_signals();
    let service =
        Service::new(listener, server, late_modules, image_init.as_ref().is_some_and(|init| init.is_systemd));
    let server = service.start(console, &signals).map_err(BootError::Fork)?;
    finish_image(console, &config, service.login());

    if let Some(image_init) = image_init {
        server.wait_for_prompt(uptime() / 2);
        init::obey(console, &signals);
        signals.release();
        hand_over(console, &image_init);
    }
    console.reached(GuestStage::Init, "the image has no init: staying process 1");
    let service = &service;
    init::run(console, &signals, Some(server.process), || match service.start(console, &signals) {
        Ok(server) => Some(server.process),
        Err(error) => {
            console.remark(&BootError::Fork(error).to_string());
            None
        }
    })
}

/// Mounts the new root. Returns what it is made of, for a person.
fn mount_root(console: &Console, config: &GuestConfig) -> Result<String, BootError> {
    let base = &config.root_device;
    root_disk::wait_for(base)?;
    let Some(overlay) = &config.overlay_device else {
        root_disk::mount(base)?;
        return Ok(base.clone());
    };
    root_disk::wait_for(overlay)?;
    if let Err(error) = modules::load_overlay() {
        console.remark(&error.to_string());
    }
    overlay::mount(base, overlay)?;
    Ok(format!("{overlay} over {base}"))
}

fn mount_in_initramfs(kind: &'static str, target: &'static str) -> Result<(), BootError> {
    match rustix::mount::mount(kind, target, kind, MountFlags::empty(), None) {
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        Err(error) => Err(BootError::KernelFiles { target, source: error.into() }),
    }
}

fn read_config() -> Result<GuestConfig, BootError> {
    Ok(serde_json::from_slice(&fs::read(CONFIG_PATH).map_err(BootError::NoConfig)?)?)
}

fn keys(config: &GuestConfig) -> Result<(PrivateKey, PublicKey), BootError> {
    let bad = |what| move |source| BootError::BadKey { what, source };
    let host_key = PrivateKey::from_openssh(&config.host_key).map_err(bad("host key"))?;
    let authorized_key =
        PublicKey::from_openssh(config.authorized_key.trim()).map_err(bad("session's public key"))?;
    Ok((host_key, authorized_key))
}

/// Neither is worth a machine that does not start.
fn set_clock_and_entropy(console: &Console, command_line: &CommandLine, config: &GuestConfig) {
    match command_line.value(TIME_PARAMETER).map(clock::set) {
        Some(Ok(())) => {}
        Some(Err(error)) => console.remark(&error.to_string()),
        None => {
            console.remark(&format!("the clock is not set: the kernel has no parameter {TIME_PARAMETER}"))
        }
    }
    if let Err(error) = entropy::add(&config.entropy) {
        console.remark(&format!("the random number generator is not seeded: {error}"));
    }
}

/// Listens for IPv6 and IPv4 together, or for IPv4 alone where the kernel has no IPv6.
fn listen() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, SSH_PORT))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, SSH_PORT)))
}

/// Makes the image this session's machine. Nothing here is worth a machine that does not start.
fn finish_image(console: &Console, config: &GuestConfig, login: &Login) {
    if config.overlay_device.is_some() {
        overlay::give_own_folders().iter().for_each(|remark| console.remark(remark));
    }
    identity::write(Path::new("/etc"), config).iter().for_each(|error| console.remark(&error.to_string()));
    if let Err(error) = authorized_keys::add(login, &config.authorized_key) {
        console.remark(&error.to_string());
    }
    if let Some(device) = &config.modules_device
        && let Err(error) = modules::mount_device(device)
    {
        console.remark(&error.to_string());
    }
}

/// Becomes the image's init. Returns if the image's init cannot be run: the machine has a prompt and is worth
/// keeping.
fn hand_over(console: &Console, image_init: &handover::ImageInit) {
    let mut detail = format!("{} takes over", image_init.path.display());
    if image_init.is_systemd {
        match handover::mask_ssh_units(handover::runtime_units()) {
            Ok(()) => detail.push_str("; the image's own SSH server stays off, port 22 is taken"),
            Err(error) => console.remark(&format!("cannot mask the image's own SSH server: {error}")),
        }
        if let Err(error) = handover::keep_temporary_files(handover::runtime_tmpfiles()) {
            console.remark(&format!("the init will empty /tmp: {error}"));
        }
    }
    console.reached(GuestStage::Init, &detail);
    let error = handover::exec(image_init);
    console.remark(&format!("cannot run {}: {error}", image_init.path.display()));
}
