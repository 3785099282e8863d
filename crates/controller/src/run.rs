//! The controller as a process: it connects, waits for its turn, fills its caches, works, and stops in order.

use std::sync::Arc;
use std::time::Duration;

use dozlab_pod::{Entrance, HTTPRoute, LabSession};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher;
use kube::{Client, Config, Resource};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::http::{ListenError, Readiness, serve_metrics, serve_probes};
use crate::lease::{Election, LeaseError};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::parts::PartView;
use crate::pod_view::PodView;
use crate::policies::{Policies, PolicyView};
use crate::reconcile::Context;
use crate::settings::Settings;
use crate::sweep;
use crate::traces::{Export, ExportError, Traces};
use crate::turns::{Name, take_turns};
use crate::world::{Views, follow, neighbours, owner, watch_parts, watch_sessions};
use crate::writes::Writes;

/// Name of the Lease that the working controller holds; that of the existing controller.
const LEASE: &str = "dozlab-controller-leader-election";
/// What all parts of a lab have, and nothing else.
const LABELS: &str = "app=lab-environment";
/// How long a connection to the API server may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// The controller cannot work, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// There is no cluster to connect to.
    #[error("no cluster to connect to: {0}; a pod needs a service account, others a kubeconfig")]
    Config(Box<dyn std::error::Error + Send + Sync>),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Traces cannot be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The lease cannot be had, or was lost. Somebody else may be working now, so this process must not.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The first lists took too long.
    #[error(
        "the cluster's objects could not be listed within {0} s: the log says which and why; is LabSession \
         installed (kubectl apply -k deploy/), HTTPRoute too where there is a gateway, and does the controller's role \
         allow list and watch?"
    )]
    NotSynced(u64),
}

/// Runs the controller until `stop` is cancelled.
///
/// # Errors
/// [`ControllerError`]; a lease that is lost ends it at once, with whatever was under way.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<(), ControllerError> {
    for flag in settings.without_effect() {
        warn!(flag, "this flag has no effect any more");
    }
    let identity = identity();
    let export = Export::to(&settings.otlp_endpoint, &identity)?;
    let traces = export.as_ref().map(Export::traces).unwrap_or_default();
    let metrics = Arc::new(Metrics::new());
    let ready = Readiness::default();
    serve_metrics(settings.metrics_bind_address, Arc::clone(&metrics), stop.clone()).await?;
    serve_probes(settings.health_probe_bind_address, ready.clone(), stop.clone()).await?;

    let mut config = Config::infer().await.map_err(|error| ControllerError::Config(error.into()))?;
    config.connect_timeout = Some(CONNECT_DEADLINE);
    let own_namespace = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(|error| ControllerError::Config(error.into()))?;

    let election = settings.leader_elect.then(|| {
        let namespace = settings.leader_election_namespace.as_deref().unwrap_or(&own_namespace);
        Election::new(client.clone(), namespace, LEASE, &identity)
    });
    if let Some(election) = &election {
        // One that waits for its turn is as it should be.
        ready.set(true);
        tokio::select! {
            won = election.win() => won?,
            () = stop.cancelled() => return Ok(()),
        }
        ready.set(false);
        info!(identity, "this controller works now");
    }
    metrics.leads(true);

    let writes = Writes::new(client.clone(), Arc::clone(&metrics), traces.clone(), identity);
    let work = work(&settings, client, metrics, traces, writes, &ready, stop);
    let outcome = match &election {
        Some(election) => tokio::select! {
            outcome = work => outcome,
            lost = election.keep() => Err(lost.into()),
        },
        None => work.await,
    };
    if let Some(election) = &election {
        election.release().await;
    }
    // The next controller does not wait for it.
    if let Some(export) = export {
        export.end().await;
    }
    outcome
}

/// Fills the caches and works until `stop`, and a while longer with what was begun.
async fn work(
    settings: &Settings,
    client: Client,
    metrics: Arc<Metrics>,
    traces: Traces,
    writes: Writes,
    ready: &Readiness,
    stop: CancellationToken,
) -> Result<(), ControllerError> {
    let writer = Writer::<LabSession>::new(());
    let context = Arc::new(Context {
        sessions: writer.as_reader(),
        pods: Arc::new(Views::new()),
        services: Arc::new(Views::new()),
        policies: Policies::new(),
        claims: Arc::new(Views::new()),
        routes: Arc::new(Views::new()),
        memory: Memory::default(),
        metrics,
        traces,
        writes,
        installation: settings.installation(),
        rules: settings.rules(),
        sync_period: settings.sync_period(),
    });
    let queue = watch_everything(settings, &client, &context, writer);

    let filled = async {
        context.pods.filled().await;
        context.services.filled().await;
        context.policies.seen.filled().await;
        context.claims.filled().await;
        if context.installation.entrance().is_some() {
            context.routes.filled().await;
        }
        // The writer lives in its task as long as the process.
        let _ = context.sessions.wait_until_ready().await;
    };
    let patience = Duration::from(settings.cache_sync_timeout);
    tokio::select! {
        filled = timeout(patience, filled) => {
            filled.map_err(|_| ControllerError::NotSynced(patience.as_secs()))?;
        }
        () = stop.cancelled() => return Ok(()),
    }
    ready.set(true);
    info!(sessions = context.sessions.len(), "the controller works");
    tokio::spawn(sweep::count(Arc::clone(&context)));
    tokio::spawn(sweep::sweep(Arc::clone(&context)));

    let at_once = usize::from(settings.max_concurrent_reconciles);
    let mut looks = std::pin::pin!(take_turns(queue, Arc::clone(&context), at_once, stop.clone()));
    tokio::select! {
        () = &mut looks => {}
        () = stop.cancelled() => {
            let patience = Duration::from(settings.graceful_shutdown_timeout);
            if timeout(patience, looks).await.is_err() {
                error!("what was begun is left to the next controller after {} s", patience.as_secs());
            }
        }
    }
    Ok(())
}

fn watch_everything(
    settings: &Settings,
    client: &Client,
    context: &Context,
    writer: Writer<LabSession>,
) -> mpsc::UnboundedReceiver<Name> {
    let (sender, queue) = mpsc::unbounded_channel();
    let labelled = || watcher::Config::default().labels(LABELS);
    let sessions = || context.sessions.clone();
    follow(watch_sessions(api(settings, client), watcher::Config::default(), writer), sender.clone());
    let (pods, seen) = (api::<Pod>(settings, client), Arc::clone(&context.pods));
    follow(watch_parts(pods, labelled(), "pods", seen, sessions(), PodView::of, owner), sender.clone());
    let (services, seen) = (api::<Service>(settings, client), Arc::clone(&context.services));
    let view = PartView::of_service;
    follow(watch_parts(services, labelled(), "services", seen, sessions(), view, owner), sender.clone());
    let (policies, seen) = (api::<NetworkPolicy>(settings, client), Arc::clone(&context.policies.seen));
    let (kind, view) = ("networkpolicies", PolicyView::of);
    follow(watch_parts(policies, labelled(), kind, seen, sessions(), view, neighbours), sender.clone());
    let seen = Arc::clone(&context.routes);
    match context.installation.entrance() {
        Some(Entrance::Ingress { .. }) => {
            let (api, kind, view) = (api::<Ingress>(settings, client), "ingresses", PartView::of);
            follow(watch_parts(api, labelled(), kind, seen, sessions(), view, owner), sender.clone());
        }
        Some(Entrance::Gateway(_)) => {
            let (api, kind, view) = (api::<HTTPRoute>(settings, client), "httproutes", PartView::of);
            follow(watch_parts(api, labelled(), kind, seen, sessions(), view, owner), sender.clone());
        }
        None => {}
    }
    let (claims, seen) = (api::<PersistentVolumeClaim>(settings, client), Arc::clone(&context.claims));
    let kind = "persistentvolumeclaims";
    follow(watch_parts(claims, labelled(), kind, seen, sessions(), PartView::of, owner), sender);
    queue
}

fn api<K>(settings: &Settings, client: &Client) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match settings.namespace.as_str() {
        "" => Api::all(client.clone()),
        namespace => Api::namespaced(client.clone(), namespace),
    }
}

/// This process, among the replicas: the pod's name, and something that a restarted process does not share.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").ok().filter(|host| !host.is_empty());
    let host = host.unwrap_or_else(|| "dozlab-controller".to_owned());
    format!("{host}_{}_{:x}", std::process::id(), crate::reconcile::now_ms())
}
