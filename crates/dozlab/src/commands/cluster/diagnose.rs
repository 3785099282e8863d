//! `dozlab --cluster doctor --session ID`.

use dozlab_cluster::diagnosis::diagnose;

use super::Target;
use crate::cli::Doctor;
use crate::commands::{Outcome, doctor};
use crate::output::now_ms;

pub(super) async fn run(target: &Target, flags: &Doctor) -> Outcome {
    let Some(id) = &flags.session else {
        return Err("say which lab of the cluster: `doctor --session ID`; without --cluster, `dozlab doctor` examines \
                    this machine"
            .into());
    };
    let evidence = target.cluster.evidence(id, now_ms()).await?;
    Ok(doctor::tell(&diagnose(&evidence), flags.output.output))
}
