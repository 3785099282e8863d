//! `dozlab --cluster logs`: what the containers of a lab's pod have said.

use std::process::ExitCode;

use dozlab_cluster::sessions::state;
use dozlab_cluster::{ClusterError, Follow, LogLine};
use dozlab_local::{COMPONENTS, Component};

use super::Target;
use super::reach::name;
use crate::cli::Logs;
use crate::commands::Outcome;
use crate::output::line;

pub(super) async fn run(target: &Target, flags: &Logs) -> Outcome {
    if let Some(component @ (Component::Supervisor | Component::Console)) = flags.component {
        return Err(format!(
            "a lab on a cluster has no log of `{component}`: init-rootfs, network-setup, vm, terminal and editor have"
        )
        .into());
    }
    let session = target.cluster.find(flags.name.as_deref()).await?;
    let pod = session.status.as_ref().and_then(|status| status.pod_name.clone());
    let no_pod = || ClusterError::NoPod { name: name(&session), state: state(&session) };
    let pod = pod.ok_or_else(no_pod)?;
    let there = target.cluster.containers(&pod).await?.ok_or_else(no_pod)?;
    let wanted = |component: &Component| flags.component.is_none_or(|wanted| wanted == *component);
    let containers: Vec<&str> = COMPONENTS
        .iter()
        .filter(|component| wanted(component))
        .map(|component| component.as_str())
        .filter(|name| there.iter().any(|known| known == name))
        .collect();
    let follow = if flags.follow { Follow::Yes } else { Follow::No };
    // One log needs no name before its lines.
    let alone = flags.component.is_some();
    target
        .cluster
        .logs(&pod, &containers, follow, |LogLine { container, text }| {
            // A terminal obeys control characters.
            let text: String = text.chars().filter(|sign| *sign >= ' ' || *sign == '\t').collect();
            if alone { line(&text) } else { line(&format!("{container:<17}| {text}")) }
        })
        .await?;
    Ok(ExitCode::SUCCESS)
}
