//! The container `code-server`: serves the editor.

use dozlab_session::defaults;
use dozlab_session::size::ByteSize;
use k8s_openapi::api::core::v1::Container;

use super::container::{
    Question, Rhythm, STARTUP, env, env_from_secret, mount, mount_read_only, port, probe, resources,
};
use super::security::{self, EDITOR_USER};
use super::volumes::{SHARED, SHARED_CONFIG, VM_DATA, VSCODE_DATA, VSCODE_TMP};
use super::{EDITOR, Lab};
use crate::images;
use crate::options::SecurityProfile;
use crate::secrets::SecretKey;

/// The editor's port.
pub(super) const PORT: (&str, u16) = ("vscode", defaults::EDITOR_PORT);

/// Its home, where settings and extensions go.
const HOME: &str = "/home/coder";
/// The folder that it opens.
const WORKSPACE: &str = "/workspace";
/// The port at which the existing labs' images have their Docker daemon.
const DOCKER_PORT: u16 = 2375;

/// What it is sure to write: settings and logs of one session. Extensions come on top, up to the volumes' limits.
const EPHEMERAL_STORAGE: ByteSize = ByteSize::from_mib(128);

pub(super) fn container(lab: Lab<'_>) -> Container {
    let Lab { plan, options } = lab;
    let names = options.secret_names(&plan.session_id);
    let mut variables = vec![
        env_from_secret("PASSWORD", &names.session, SecretKey::VscodePassword),
        env("SESSION_ID", &plan.session_id),
    ];
    let mut container = Container {
        name: EDITOR.to_owned(),
        image: Some(images::name(options.images.editor.as_ref(), images::EDITOR)),
        command: Some(command()),
        ports: Some(vec![port(PORT)]),
        resources: Some(resources(plan.resources.editor, EPHEMERAL_STORAGE, &[])),
        ..Container::default()
    };
    let question = Question::Get("/healthz", defaults::EDITOR_PORT);
    match options.profile {
        SecurityProfile::Hardened => {
            variables.push(env("HOME", HOME));
            // Its proxy would make every service of the pod's loopback reachable at the editor's address.
            let command = container.command.get_or_insert_default();
            command.insert(command.len() - 1, "--disable-proxy".to_owned());
            container.security_context = Some(security::unprivileged(EDITOR_USER));
            container.volume_mounts = Some(vec![
                mount(VSCODE_DATA, HOME),
                mount(VSCODE_TMP, "/tmp"),
                mount(VM_DATA, WORKSPACE),
                mount_read_only(SHARED_CONFIG, SHARED),
            ]);
            container.startup_probe = Some(probe(question, STARTUP));
            container.liveness_probe = Some(probe(question, Rhythm::new(15, 10).timeout(5).failures(3)));
            container.readiness_probe = Some(probe(question, Rhythm::new(0, 5).timeout(3).failures(3)));
        }
        SecurityProfile::Compat => {
            let docker = format!("tcp://{}:{DOCKER_PORT}", plan.network.vm_address);
            variables.push(env("DOCKER_HOST", docker));
            container.security_context = Some(security::existing_editor());
            container.volume_mounts = Some(vec![
                mount(VSCODE_DATA, HOME),
                mount_read_only(VM_DATA, WORKSPACE),
                mount_read_only(SHARED_CONFIG, SHARED),
            ]);
            container.liveness_probe = Some(probe(question, Rhythm::new(30, 10)));
            container.readiness_probe = Some(probe(question, Rhythm::new(15, 5)));
        }
    }
    container.env = Some(variables);
    container
}

fn command() -> Vec<String> {
    let address = format!("0.0.0.0:{}", defaults::EDITOR_PORT);
    let words = ["code-server", "--bind-addr", &address, "--auth", "password", "--disable-telemetry"];
    words.into_iter().chain(["--disable-update-check", WORKSPACE]).map(str::to_owned).collect()
}
