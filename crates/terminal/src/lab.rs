//! What all requests of one session share.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::activity::Activity;
use crate::config::Config;
use crate::dialler::Dialler;
use crate::editor::Editor;
use crate::metrics::Metrics;
use crate::ssh::Target;
use crate::vm_watch;

/// The session, as its terminal knows it.
pub(crate) struct Lab {
    /// The session's id.
    pub(crate) session_id: String,
    /// When the session ends, if it does.
    pub(crate) expires_at: Option<SystemTime>,
    /// When this process began to serve.
    pub(crate) started: Instant,
    /// Who may use it.
    pub(crate) access: Access,
    /// The way into the VM.
    pub(crate) dialler: Dialler,
    /// The editor, if there is one.
    pub(crate) editor: Option<Editor>,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// Where the learner's activity is noted.
    pub(crate) activity: Activity,
    /// One permit for each terminal that may still be opened.
    pub(crate) places: Arc<Semaphore>,
    /// Cancelled when the session ends.
    pub(crate) shutdown: CancellationToken,
}

impl Lab {
    /// Starts to follow and to dial the VM.
    pub(crate) fn start(config: Config, shutdown: CancellationToken) -> Arc<Self> {
        let metrics = Arc::new(Metrics::new());
        let view = vm_watch::follow(config.vm_status_path, shutdown.clone());
        let target = Target {
            address: config.vm_address,
            user: config.ssh_user,
            private_key: Arc::new(config.ssh_private_key),
            host_key: config.ssh_host_key,
        };
        let dialler = Dialler::start(target, view, Arc::clone(&metrics), shutdown.clone());
        Arc::new(Self {
            access: Access::new(&config.session_id, config.session_token, config.allowed_origins),
            session_id: config.session_id,
            expires_at: config.expires_at,
            started: Instant::now(),
            dialler,
            editor: config.editor.map(Editor::new),
            metrics,
            activity: Activity::new(config.idle_file),
            places: Arc::new(Semaphore::new(config.max_terminals.into())),
            shutdown,
        })
    }
}
