//! What is known of a lab that something is wrong with, read from the cluster.

use dozlab_pod::LabSession;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt as _;
use kube::api::ListParams;

use crate::connect::Cluster;
use crate::error::ClusterError;
use crate::sessions::millis;

/// How many lines of each log are looked at.
const LINES: i64 = 40;

/// What is known of a lab.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The time, in milliseconds since the epoch.
    pub now_ms: u64,
    /// The lab.
    pub session: LabSession,
    /// Its pod, where there is one.
    pub pod: Option<Pod>,
    /// What the cluster has noted about the two, oldest first.
    pub events: Vec<Happening>,
    /// The end of each container's log, where there is one.
    pub logs: Vec<Log>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

/// Something that the cluster has noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// Whether it is a warning.
    pub warning: bool,
    /// One word: `FailedScheduling`.
    pub reason: String,
    /// The whole of it.
    pub message: String,
    /// The container that it is about, where it is about one.
    pub container: Option<String>,
}

/// The end of a container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The container.
    pub container: String,
    /// Its last lines.
    pub lines: Vec<String>,
}

impl Cluster {
    /// Reads what is known of a lab. What may not be read is left out, and said so.
    ///
    /// # Errors
    /// The lab itself cannot be read.
    pub async fn evidence(&self, name: &str, now_ms: u64) -> Result<Evidence, ClusterError> {
        let session = self.find(Some(name)).await?;
        let mut evidence = Evidence { now_ms, session, ..Evidence::default() };
        let pod =
            evidence.session.spec.session_id.parse().map(|id: dozlab_session::id::SessionId| id.pod_name());
        let pod = pod.unwrap_or_default();
        match self.pod(&pod).await {
            Ok(found) => evidence.pod = found,
            Err(error) => evidence.unread.push(error.to_string()),
        }
        let lab = evidence.session.name_any();
        match self.events_about(&[("LabSession", &lab), ("Pod", &pod)]).await {
            Ok(events) => evidence.events = events,
            Err(error) => evidence.unread.push(error.to_string()),
        }
        for container in evidence.pod.iter().flat_map(containers) {
            match self.last_lines(&pod, &container, Some(LINES)).await {
                Ok(lines) if lines.is_empty() => {}
                Ok(lines) => evidence.logs.push(Log { container, lines }),
                Err(error) => evidence.unread.push(error.to_string()),
            }
        }
        Ok(evidence)
    }

    /// The names of a pod's containers, in the order in which they start; `None` where the pod is not there.
    ///
    /// # Errors
    /// Those of any request.
    pub async fn containers(&self, pod: &str) -> Result<Option<Vec<String>>, ClusterError> {
        Ok(self.pod(pod).await?.as_ref().map(containers))
    }

    /// A pod, if it is there.
    pub(crate) async fn pod(&self, name: &str) -> Result<Option<Pod>, ClusterError> {
        self.pods().get_opt(name).await.map_err(self.failed(&format!("read the pod {name}")))
    }

    async fn events_about(&self, objects: &[(&str, &str)]) -> Result<Vec<Happening>, ClusterError> {
        let mut events: Vec<Event> = Vec::new();
        for (kind, name) in objects {
            let fields = format!("involvedObject.kind={kind},involvedObject.name={name}");
            let list = self.events().list(&ListParams::default().fields(&fields)).await;
            events.extend(list.map_err(self.failed("list events"))?.items);
        }
        events.sort_by_key(when);
        Ok(events.into_iter().map(happening).collect())
    }
}

/// The names of a pod's containers, in the order in which they start.
fn containers(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let init = spec.init_containers.iter().flatten();
    init.chain(&spec.containers).map(|container| container.name.clone()).collect()
}

fn when(event: &Event) -> u64 {
    let precise = event.event_time.as_ref().map(|time| time.0);
    let whole = event.last_timestamp.as_ref().map(|time| time.0);
    whole.or(precise).or(event.creation_timestamp().map(|time| time.0)).map_or(0, millis)
}

fn happening(event: Event) -> Happening {
    // The kubelet says `spec.containers{firecracker-vm}`.
    let container = event.involved_object.field_path.as_deref().and_then(|path| {
        let (_, name) = path.split_once('{')?;
        Some(name.trim_end_matches('}').to_owned())
    });
    Happening {
        warning: event.type_.as_deref() == Some("Warning"),
        reason: event.reason.unwrap_or_default(),
        message: event.message.unwrap_or_default(),
        container,
    }
}
