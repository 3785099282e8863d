//! `dozlab render`: a `LabSession`, or the template's variables, with flags on top, as objects of Kubernetes.

use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use dozlab_pod::{DiskPolicy, LabRequest, LabSession, Manifests, PodOptions, SecretNames, SessionSecrets};
use dozlab_session::plan::{Plan, PlanRequest};

use super::{Outcome, variable};
use crate::cli::{Render, SecretSource, set};

pub(super) fn run(flags: &Render) -> Outcome {
    let mut request = match &flags.file {
        Some(path) => LabSession::from_yaml(&read(path)?)?.request(&PodOptions::default())?,
        None => LabRequest { plan: PlanRequest::from_template(variable)?, ..LabRequest::default() },
    };
    amend_plan(&mut request.plan, flags);
    amend_options(&mut request.options, flags);
    let plan = Plan::resolve(&request.plan)?;
    let usual = SecretNames::of(&plan.session_id);
    request.options.secret_names = Some(SecretNames {
        session: flags.secrets_name.clone().unwrap_or(usual.session),
        ssh: flags.ssh_secret_name.clone().unwrap_or(usual.ssh),
    });
    let secrets = match flags.secrets {
        SecretSource::Generate => {
            Some(SessionSecrets::generate(&plan.session_id, request.plan.vscode_password)?)
        }
        SecretSource::Omit => None,
    };
    let yaml = Manifests::new(&plan, &request.options, secrets.as_ref()).to_yaml()?;
    io::stdout().write_all(yaml.as_bytes()).map_err(|error| format!("cannot write the objects: {error}"))?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    let result = if path == Path::new("-") {
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    result.map_err(|error| format!("cannot read {}: {error}", path.display()).into())
}

fn amend_plan(plan: &mut PlanRequest, flags: &Render) {
    set(&mut plan.session_id, &flags.name);
    set(&mut plan.user_id, &flags.user_id);
    set(&mut plan.image, &flags.image);
    set(&mut plan.terminal_image, &flags.terminal_image);
    flags.machine.amend(plan);
}

fn amend_options(options: &mut PodOptions, flags: &Render) {
    options.profile = flags.profile.unwrap_or(options.profile);
    options.parts.editor &= !flags.no_editor;
    options.emulated |= flags.emulated;
    if flags.keep_disks {
        options.disk_policy = DiskPolicy::Keep;
    }
    set(&mut options.storage_class, &flags.storage_class);
    set(&mut options.image_cache, &flags.image_cache_path);
    set(&mut options.namespace, &flags.namespace);
    set(&mut options.images.init, &flags.init_image);
    set(&mut options.images.network, &flags.network_image);
    set(&mut options.images.vm, &flags.vm_image);
    set(&mut options.images.editor, &flags.editor_image);
}
