//! The container `terminal-sidecar`: serves the web terminal, the only one that has the session's private key.

use dozlab_session::defaults;
use dozlab_session::size::ByteSize;
use k8s_openapi::api::core::v1::{Container, EnvVar};

use super::container::{
    Question, Rhythm, STARTUP, env, env_from_secret, mount_read_only, port, probe, resources,
};
use super::security::{self, TERMINAL_USER};
use super::vm::login_user;
use super::volumes::{SHARED, SHARED_CONFIG, VM_DATA, VM_STATUS, VM_STATUS_FILE, VM_STATUS_PATH};
use super::{Lab, TERMINAL};
use crate::options::SecurityProfile;
use crate::secrets::SecretKey;

/// The terminal's port.
pub(super) const PORT: (&str, u16) = ("terminal", defaults::TERMINAL_PORT);

/// What it writes: its log.
const EPHEMERAL_STORAGE: ByteSize = ByteSize::from_mib(16);

pub(super) fn container(lab: Lab<'_>) -> Container {
    let Lab { plan, options } = lab;
    let mut container = Container {
        name: TERMINAL.to_owned(),
        image: Some(plan.terminal_image.to_string()),
        env: Some(variables(lab)),
        ports: Some(vec![port(PORT)]),
        resources: Some(resources(plan.resources.terminal, EPHEMERAL_STORAGE, &[])),
        volume_mounts: Some(vec![
            mount_read_only(VM_DATA, defaults::VM_DATA_PATH),
            mount_read_only(SHARED_CONFIG, SHARED),
            mount_read_only(VM_STATUS, VM_STATUS_PATH),
        ]),
        ..Container::default()
    };
    let alive = Question::Get("/health", defaults::TERMINAL_PORT);
    match options.profile {
        SecurityProfile::Hardened => {
            container.security_context = Some(security::unprivileged(TERMINAL_USER));
            container.startup_probe = Some(probe(alive, STARTUP));
            container.liveness_probe = Some(probe(alive, Rhythm::new(15, 10).timeout(5).failures(3)));
            container.readiness_probe = Some(probe(alive, Rhythm::new(0, 5).timeout(3).failures(3)));
        }
        SecurityProfile::Compat => {
            let ready = Question::Get("/ready", defaults::TERMINAL_PORT);
            container.liveness_probe = Some(probe(alive, Rhythm::new(10, 10)));
            container.readiness_probe = Some(probe(ready, Rhythm::new(5, 5)));
        }
    }
    container
}

fn variables(lab: Lab<'_>) -> Vec<EnvVar> {
    let Lab { plan, options } = lab;
    let names = options.secret_names(&plan.session_id);
    let mut variables = vec![
        env("SESSION_ID", &plan.session_id),
        env("VM_IP", plan.network.vm_address),
        env("VM_SSH_PORT", defaults::SSH_PORT),
        env("SSH_USER", login_user(plan)),
        env_from_secret("SSH_PRIVATE_KEY", &names.ssh, SecretKey::PrivateKey),
        env_from_secret("SSH_HOST_KEY", &names.ssh, SecretKey::HostPublicKey),
        env_from_secret("SESSION_TOKEN", &names.session, SecretKey::TerminalToken),
        env("VM_STATUS_PATH", VM_STATUS_FILE),
    ];
    if options.parts.editor {
        variables.push(env("EDITOR_URL", format!("http://127.0.0.1:{}", defaults::EDITOR_PORT)));
        variables.push(env_from_secret("EDITOR_PASSWORD", &names.session, SecretKey::VscodePassword));
    }
    if let Some(url) = &options.editor_public_url {
        variables.push(env("EDITOR_PUBLIC_URL", url));
    }
    if let Some(expires_at) = options.expires_at {
        variables.push(env("SESSION_EXPIRES_AT", expires_at));
    }
    variables
}
