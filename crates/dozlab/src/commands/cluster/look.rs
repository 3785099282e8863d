//! `ls`, `get` and `extend` on a cluster.

use std::process::ExitCode;

use dozlab_cluster::sessions::{ends_ms, millis, phase, reason, state};
use dozlab_pod::LabSession;
use serde_json::json;

use super::Target;
use crate::cli::{Extend, Format, One};
use crate::commands::Outcome;
use crate::commands::listing::{self, Listed};
use crate::output::{self, line, until};

pub(super) async fn list(target: &Target, format: Format) -> Outcome {
    let labs: Vec<_> = target.cluster.list().await?.iter().map(listed).collect();
    listing::print(format, &labs, &target.call);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn get(target: &Target, flags: &One) -> Outcome {
    listed(&target.cluster.find(flags.name.as_deref()).await?).print(flags.output.output);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn extend(target: &Target, flags: &Extend) -> Outcome {
    let session = target.cluster.extend(&flags.name, flags.by).await?;
    let ends_ms = ends_ms(&session);
    output::print(flags.output.output, &json!({ "name": flags.name, "endsMs": ends_ms }), || {
        line(&match ends_ms {
            Some(ends_ms) => format!("lab `{}` ends {}", flags.name, until(ends_ms)),
            None => format!("lab `{}` has no end", flags.name),
        });
    });
    Ok(ExitCode::SUCCESS)
}

/// A lab on a cluster, with the fields that a lab on this machine has, and some besides.
fn listed(session: &LabSession) -> Listed {
    let spec = &session.spec;
    let status = session.status.clone().unwrap_or_default();
    let endpoints = status.endpoints.unwrap_or_default();
    let name = session.metadata.name.clone().unwrap_or_default();
    let image = spec.image.clone().or(spec.rootfs_url.clone()).unwrap_or_else(|| "carried".to_owned());
    let created_ms = session.metadata.creation_timestamp.as_ref().map_or(0, |time| millis(time.0));
    let is_running = state(session) == "running";
    Listed {
        state: state(session).to_owned(),
        // That all is well needs no words in a table.
        reason: if is_running { String::new() } else { reason(session) },
        created_ms,
        ends_ms: ends_ms(session),
        terminal: endpoints.terminal.clone().unwrap_or_default(),
        object: json!({
            "name": name,
            "namespace": session.metadata.namespace,
            "state": state(session),
            "phase": phase(session),
            "stage": status.stage,
            "reason": status.reason,
            "message": status.message,
            "image": image,
            "user": spec.login_user,
            "userId": spec.user_id,
            "createdMs": created_ms,
            "startedMs": status.start_time.map(|time| millis(time.0)),
            "endsMs": ends_ms(session),
            "terminal": endpoints.terminal,
            "editor": endpoints.vscode,
            "ssh": endpoints.ssh,
            "pod": status.pod_name,
        }),
        name,
        image,
    }
}
