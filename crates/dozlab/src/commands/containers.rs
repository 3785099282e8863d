//! The lab pod's containers. Their settings come from the environment, as a container's do.

use std::process::ExitCode;
use std::sync::Arc;

use dozlab_network::NetworkSetup;
use dozlab_rootfs::init_rootfs::InitRootfs;
use dozlab_terminal::Config;
use dozlab_vm::probe::{HypervisorKind, Prober};
use dozlab_vm::supervisor::Request;
use dozlab_vm::{
    Accelerator, Firecracker, Hypervisor, Machine, Outcome as VmOutcome, Qemu, Settings, Supervisor,
};
use tokio::sync::watch;

use super::{Outcome, signals, until_interrupted, until_terminated, variable};
use crate::progress::Screen;

pub(super) async fn init_rootfs() -> Outcome {
    let init = InitRootfs::from_env(variable)?;
    let screen = Screen::new();
    until_interrupted(&screen, async {
        init.run(Arc::new(screen.clone())).await?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}

pub(super) async fn network_setup() -> Outcome {
    NetworkSetup::from_env(variable)?.run().await?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn vm() -> Outcome {
    let settings = Settings::from_env(variable)?;
    settings.make_run_folder()?;
    let kernel = settings.read_kernel()?;
    let _image = settings.hold_image()?;
    if settings.writable_disk.is_some() && !kernel.provide_overlay().await? {
        return Err(format!(
            "the kernel {} has no module for overlays, which WRITABLE_DISK_PATH needs",
            kernel.release
        )
        .into());
    }
    if variable("NETWORK_MODE").is_some() {
        // In a lab pod of the older kind nobody has made it before this container.
        NetworkSetup::from_env(variable)?.make().await?;
    }
    let machine = settings.prepare(&kernel)?;
    let (sender, requests) = watch::channel(Request::Run);
    let mut terminated = signals::termination()?;
    tokio::spawn(async move {
        loop {
            let in_order = terminated.await;
            sender.send_replace(if in_order { Request::Stop } else { Request::Kill });
            let Ok(next) = signals::termination() else { return };
            terminated = next;
        }
    });
    let user_network = settings.ssh_forward.is_some();
    let prober = Prober::new(&kernel, &settings.cache_folder, false);
    let kind = match settings.hypervisor {
        // Somebody has chosen already.
        dozlab_vm::Choice::Only(kind) => kind,
        choice => prober.choose(choice, user_network).await?,
    };
    for sentence in settings.without_effect(kind) {
        tracing::warn!("{sentence}");
    }
    let outcome = match kind {
        HypervisorKind::Firecracker => {
            let firecracker = Firecracker::new()?.with_api_socket(settings.api_socket.clone());
            supervise(firecracker, machine, settings, requests).await
        }
        HypervisorKind::QemuKvm => supervise(Qemu::new(Accelerator::Kvm)?, machine, settings, requests).await,
        HypervisorKind::QemuTcg => supervise(Qemu::new(Accelerator::Tcg)?, machine, settings, requests).await,
    }?;
    match outcome {
        VmOutcome::Stopped { .. } => Ok(ExitCode::SUCCESS),
        VmOutcome::Failed { reason } => Err(reason.into()),
    }
}

async fn supervise<H: Hypervisor>(
    hypervisor: H,
    machine: Machine,
    settings: Settings,
    requests: watch::Receiver<Request>,
) -> Result<VmOutcome, dozlab_vm::SupervisorError> {
    let supervisor = Supervisor {
        hypervisor,
        machine,
        console_log: settings.console_log,
        status: settings.status,
        grace: settings.grace,
    };
    supervisor.run(requests).await
}

pub(super) async fn terminal() -> Outcome {
    let config = Config::from_env(variable)?;
    let address = config.listen;
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener =
        listener.map_err(|error| format!("cannot listen on {address}: {error}; set HOST and PORT"))?;
    dozlab_terminal::serve(config, listener, until_terminated()?).await?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn device_plugin() -> Outcome {
    let settings = dozlab_device_plugin::Settings::from_env(variable)?;
    dozlab_device_plugin::run(settings, until_terminated()?).await?;
    Ok(ExitCode::SUCCESS)
}
