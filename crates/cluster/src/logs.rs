//! What a lab's containers say.

use std::future::ready;
use std::time::Duration;

use futures_util::{AsyncBufReadExt as _, StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;

use crate::connect::Cluster;
use crate::error::ClusterError;

/// How often a container is looked at that has not started.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Whether to go on with what is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// What there is.
    No,
    /// And what is added, until the container ends.
    Yes,
}

/// A line of a container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The container.
    pub container: String,
    /// The line, without its end.
    pub text: String,
}

impl Cluster {
    /// Shows the lines of some of a pod's containers, in the order of the containers; where it goes on, in the order in
    /// which they come. A container that has not started has none.
    ///
    /// # Errors
    /// [`ClusterError::Forbidden`], and those of any request.
    pub async fn logs(
        &self,
        pod: &str,
        containers: &[&str],
        follow: Follow,
        mut show: impl FnMut(LogLine),
    ) -> Result<(), ClusterError> {
        if follow == Follow::No {
            for container in containers {
                for text in self.last_lines(pod, container, None).await? {
                    show(LogLine { container: (*container).to_owned(), text });
                }
            }
            return Ok(());
        }
        let lines = containers.iter().map(|container| Box::pin(self.lines(pod, container)));
        let mut lines = stream::select_all(lines);
        while let Some(line) = lines.next().await {
            show(line?);
        }
        Ok(())
    }

    /// The end of a container's log; nothing where it has not started.
    pub(crate) async fn last_lines(
        &self,
        pod: &str,
        container: &str,
        count: Option<i64>,
    ) -> Result<Vec<String>, ClusterError> {
        let parameters =
            LogParams { container: Some(container.to_owned()), tail_lines: count, ..LogParams::default() };
        match self.pods().logs(pod, &parameters).await {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if has_none(&error) => Ok(Vec::new()),
            Err(error) => Err(self.failed(&format!("read the log of {container} in {pod}"))(error)),
        }
    }

    /// A container's lines from the beginning to its end, once it has started.
    fn lines(
        &self,
        pod: &str,
        container: &str,
    ) -> impl futures_util::Stream<Item = Result<LogLine, ClusterError>> + use<> {
        let (cluster, pod, container) = (self.clone(), pod.to_owned(), container.to_owned());
        let opened = async move {
            let parameters =
                LogParams { container: Some(container.clone()), follow: true, ..LogParams::default() };
            loop {
                match cluster.pods().log_stream(&pod, &parameters).await {
                    Ok(log) => return Ok(Some((container, log))),
                    Err(error) if has_none(&error) && is_over(&cluster, &pod).await => return Ok(None),
                    Err(error) if has_none(&error) => tokio::time::sleep(LOOK_EVERY).await,
                    Err(error) => {
                        let doing = format!("read the log of {container} in {pod}");
                        return Err(cluster.failed(&doing)(error));
                    }
                }
            }
        };
        stream::once(opened).flat_map(|opened| match opened {
            Ok(Some((container, log))) => log
                .lines()
                // A log that breaks off has ended.
                .take_while(|line| ready(line.is_ok()))
                .filter_map(move |line| {
                    let container = container.clone();
                    ready(line.ok().map(|text| Ok(LogLine { container, text })))
                })
                .boxed(),
            Ok(None) => stream::empty().boxed(),
            Err(error) => stream::once(ready(Err(error))).boxed(),
        })
    }
}

/// The API server's answer for a container that has not started: 400 and a sentence.
fn has_none(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 400)
}

async fn is_over(cluster: &Cluster, pod: &str) -> bool {
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
    match cluster.pods().get(pod).await {
        Ok(pod) => matches!(phase(&pod).as_deref(), Some("Failed" | "Succeeded")),
        Err(_) => true,
    }
}
