//! Being a plugin of the kubelet: a socket beside the kubelet's own, a registration, and both again whenever the
//! kubelet restarts.
//!
//! A kubelet that starts empties the folder of sockets and makes its own anew. It does not call plugins that it does
//! not know; so whoever finds their socket gone, or another kubelet behind `kubelet.sock`, starts over.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Endpoint, Server};

use crate::api::device_plugin::device_plugin_server::DevicePluginServer;
use crate::api::registration::registration_client::RegistrationClient;
use crate::api::{DevicePluginOptions, RegisterRequest, VERSION};
use crate::device::SharedDevice;
use crate::health::Condition;
use crate::service::DeviceService;

/// The kubelet's socket, in the folder of sockets.
pub const KUBELET_SOCKET: &str = "kubelet.sock";

/// How often the two sockets are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The longest time between two attempts to register. They begin a second apart and double.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// How long the kubelet may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The plugin cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// The folder is not there.
    #[error(
        "{} is no folder of a kubelet: run this on a node, with that folder of the host mounted", folder.display()
    )]
    NoFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// The plugin's own socket cannot be made.
    #[error("cannot listen on {}: {source}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server ended by itself.
    #[error("the server on {} ended: {source}", path.display())]
    Serve {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// Serves one device until the token is cancelled, and removes its socket then.
///
/// # Errors
/// [`KubeletError`]. A kubelet that is not there, or refuses, is none: it is asked again.
pub async fn serve(
    device: SharedDevice,
    folder: &Path,
    condition: watch::Receiver<Condition>,
    shutdown: CancellationToken,
) -> Result<(), KubeletError> {
    if !folder.is_dir() {
        return Err(KubeletError::NoFolder { folder: folder.to_owned() });
    }
    while !shutdown.is_cancelled() {
        serve_one_kubelet(&device, folder, condition.clone(), &shutdown).await?;
    }
    Ok(())
}

/// Serves until the kubelet is another one, or the token is cancelled.
async fn serve_one_kubelet(
    device: &SharedDevice,
    folder: &Path,
    condition: watch::Receiver<Condition>,
    shutdown: &CancellationToken,
) -> Result<(), KubeletError> {
    let path = folder.join(device.endpoint());
    let (listener, own) = listen(&path)?;
    let over = shutdown.child_token();
    let service = DeviceService { device: device.clone(), condition, over: over.clone() };
    let serving = async {
        let served = Server::builder()
            .add_service(DevicePluginServer::new(service))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), over.clone().cancelled_owned())
            .await;
        over.cancel();
        served
    };
    let following = async {
        let kubelet = register(device, &folder.join(KUBELET_SOCKET), &path, own, &over).await;
        follow(&folder.join(KUBELET_SOCKET), kubelet, &path, own, &over).await;
        over.cancel();
    };
    let (served, ()) = tokio::join!(serving, following);
    if Identity::of(&path) == Some(own) {
        let _ = fs::remove_file(&path);
    }
    served.map_err(|source| KubeletError::Serve { path, source })
}

fn listen(path: &Path) -> Result<(UnixListener, Identity), KubeletError> {
    let failed = |source| KubeletError::Listen { path: path.to_owned(), source };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    let own = Identity::of(path).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    Ok((listener, own))
}

/// Registers until the kubelet agrees, and returns which kubelet that was; `None` where there is nothing to register
/// any more: the plugin's socket is gone, or it is to end.
async fn register(
    device: &SharedDevice,
    kubelet: &Path,
    path: &Path,
    own: Identity,
    shutdown: &CancellationToken,
) -> Option<Identity> {
    let mut pause = LOOK;
    loop {
        let found = Identity::of(kubelet);
        let outcome = match found {
            Some(_) => register_once(device, kubelet).await,
            None => Err("there is no such socket: the kubelet is not running, or has another folder".into()),
        };
        match outcome {
            Ok(()) => {
                tracing::info!(resource = device.resource, kubelet = %kubelet.display(), "registered");
                return found;
            }
            Err(reason) => {
                let (resource, kubelet) = (device.resource, kubelet.display());
                tracing::warn!(resource, %kubelet, reason, "not registered yet");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(pause) => {}
        }
        if Identity::of(path) != Some(own) {
            return None;
        }
        // A kubelet that has just come is not kept waiting.
        pause = if found.is_some() { (pause * 2).min(MAX_PAUSE) } else { LOOK };
    }
}

async fn register_once(device: &SharedDevice, kubelet: &Path) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", kubelet.display()));
    let endpoint = endpoint.map_err(|error| error.to_string())?.connect_timeout(PATIENCE).timeout(PATIENCE);
    let channel = endpoint.connect().await.map_err(|error| chain(&error))?;
    let request = RegisterRequest {
        version: VERSION.to_owned(),
        endpoint: device.endpoint(),
        resource_name: device.resource.to_owned(),
        options: Some(DevicePluginOptions::default()),
    };
    let registered = RegistrationClient::new(channel).register(request).await;
    registered.map(drop).map_err(|status| format!("the kubelet refuses: {}", status.message()))
}

/// An error and what is behind it: a transport's own message says little.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Returns when this kubelet has gone for another, when the plugin's socket is gone, or when it is to end.
async fn follow(
    kubelet: &Path,
    registered: Option<Identity>,
    path: &Path,
    own: Identity,
    shutdown: &CancellationToken,
) {
    while registered.is_some() && Identity::of(path) == Some(own) {
        // No kubelet is no reason to start over; its socket comes back with the next one.
        if Identity::of(kubelet).is_some_and(|now| Some(now) != registered) {
            return;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Which file a path names. Inodes are given out again, so the time of creation counts too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::symlink_metadata(path).ok()?;
        Some(Self { device: file.dev(), inode: file.ino(), changed: (file.ctime(), file.ctime_nsec()) })
    }
}
