//! The objects of a session, with what only the controller knows: their owner, their namespace, the route.

use dozlab_pod::lab_session::{Endpoints, Usage};
use dozlab_pod::{
    DiskPolicy, Entrance, LabSession, Manifests, Parts, PodOptions, SecretNames, SessionSecrets,
};
use dozlab_session::cpu::MilliCpus;
use dozlab_session::name::LoginUser;
use dozlab_session::plan::Plan;
use dozlab_session::secret::Secret;
use dozlab_session::size::ByteSize;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _};

use crate::decide::Wanted;
use crate::pod_view::Owner;

/// Port of the web terminal.
pub(crate) const TERMINAL_PORT: u16 = 8081;
/// Port of the editor.
const EDITOR_PORT: u16 = 8080;

/// What holds for all sessions of the installation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Installation {
    pub(crate) options: PodOptions,
    pub(crate) disk: Option<ByteSize>,
    pub(crate) login_user: Option<LoginUser>,
    pub(crate) terminal_image: Option<dozlab_session::image::ContainerImage>,
}

impl Installation {
    /// What leads from the public address to a session, where there is one.
    pub(crate) fn entrance(&self) -> Option<&Entrance> {
        self.options.route.as_ref().map(|route| &route.entrance)
    }
}

/// A session, resolved.
pub(crate) struct Lab {
    pub(crate) plan: Plan,
    pub(crate) options: PodOptions,
    password: Option<Secret>,
}

impl Lab {
    /// Reads an object. The error is everything that is wrong with it, for its owner.
    pub(crate) fn of(session: &LabSession, installation: &Installation) -> Result<Self, String> {
        let request = session.request(&installation.options).map_err(|error| error.to_string())?;
        let mut plan = request.plan;
        plan.disk = plan.disk.or(installation.disk);
        plan.login_user = plan.login_user.or_else(|| installation.login_user.clone());
        plan.terminal_image = plan.terminal_image.or_else(|| installation.terminal_image.clone());
        let password = plan.vscode_password.take();
        let plan = Plan::resolve(&plan).map_err(|error| error.to_string())?;
        let secret_names = Some(SecretNames::in_one(&plan.session_id));
        let route = request.options.route.as_ref();
        let editor_public_url = route.map(|route| route.editor(&plan.session_id));
        let options = PodOptions { secret_names, shared_policy: true, editor_public_url, ..request.options };
        Ok(Self { plan, options, password })
    }

    pub(crate) fn wanted(&self) -> Wanted {
        let resources = &self.plan.resources;
        let parts = self.options.parts;
        let containers =
            [(true, resources.vm), (parts.terminal, resources.terminal), (parts.editor, resources.editor)];
        let requests =
            containers.into_iter().filter(|(wanted, _)| *wanted).map(|(_, container)| container.requests);
        let (cpu, memory) = requests.fold((0, 0), |(cpu, memory): (u32, u64), amounts| {
            (cpu.saturating_add(amounts.cpu.as_millis()), memory.saturating_add(amounts.memory.as_bytes()))
        });
        Wanted {
            deadlines: self.plan.deadlines,
            pod_name: self.plan.session_id.pod_name(),
            service_name: self.plan.session_id.service_name(),
            vm_ip: self.plan.network.vm_address.to_string(),
            usage: Usage {
                running: false,
                cpu_request: Some(MilliCpus::new(cpu).to_string()),
                memory_request: Some(ByteSize::from_bytes(memory).to_string()),
                storage: Some(self.plan.disk.to_string()),
            },
        }
    }

    /// Whether any part is reached from outside the pod.
    pub(crate) fn has_service(&self) -> bool {
        let Parts { terminal, editor, ssh } = self.options.parts;
        terminal || editor || ssh
    }

    /// Whether any page is reached from outside the cluster.
    pub(crate) fn has_route(&self) -> bool {
        let Parts { terminal, editor, .. } = self.options.parts;
        self.options.route.is_some() && (terminal || editor)
    }

    /// Whether disks outlive the pod.
    pub(crate) fn keeps_disks(&self) -> bool {
        self.options.disk_policy == DiskPolicy::Keep
    }

    /// All objects, each belonging to the session. Volumes that are kept belong to nobody, or they would go
    /// with it; nor does the network policy, which other sessions share.
    pub(crate) fn manifests(&self, session: &LabSession, expires_at_ms: Option<u64>) -> Manifests {
        self.make(session, expires_at_ms, None)
    }

    /// The Secret, with new secrets.
    pub(crate) fn secrets(
        &self,
        session: &LabSession,
    ) -> Result<Vec<k8s_openapi::api::core::v1::Secret>, dozlab_keys::KeyPairError> {
        let secrets = SessionSecrets::generate(&self.plan.session_id, self.password.clone())?;
        Ok(self.make(session, None, Some(&secrets)).secrets)
    }

    /// The name of the network policy.
    pub(crate) fn policy_name(&self) -> String {
        let policy = Manifests::new(&self.plan, &self.options, None).network_policy;
        policy.metadata.name.unwrap_or_default()
    }

    fn make(
        &self,
        session: &LabSession,
        expires_at_ms: Option<u64>,
        secrets: Option<&SessionSecrets>,
    ) -> Manifests {
        let mut options = self.options.clone();
        options.namespace = session.namespace();
        options.expires_at = expires_at_ms.map(|ms| ms / 1000);
        let mut manifests = Manifests::new(&self.plan, &options, secrets);
        let owner = vec![owner_reference(session)];
        for secret in &mut manifests.secrets {
            secret.metadata.owner_references = Some(owner.clone());
        }
        manifests.pod.metadata.owner_references = Some(owner.clone());
        if let Some(service) = &mut manifests.service {
            service.metadata.owner_references = Some(owner.clone());
        }
        if let Some(ingress) = &mut manifests.ingress {
            ingress.metadata.owner_references = Some(owner.clone());
        }
        if let Some(route) = &mut manifests.http_route {
            route.metadata.owner_references = Some(owner);
        }
        manifests
    }

    /// Where the session's parts are reached: its pages from outside where the installation has a public address, the
    /// rest inside the cluster.
    pub(crate) fn endpoints(&self, session: &LabSession) -> Option<Endpoints> {
        if !self.has_service() {
            return None;
        }
        let namespace = session.namespace().unwrap_or_default();
        let host = format!("{}.{namespace}.svc", self.plan.session_id.service_name());
        let (parts, id) = (self.options.parts, &self.plan.session_id);
        let (editor, terminal) = match &self.options.route {
            Some(route) => (route.editor(id), route.terminal(id)),
            None => (format!("http://{host}:{EDITOR_PORT}/"), format!("http://{host}:{TERMINAL_PORT}/")),
        };
        Some(Endpoints {
            vscode: parts.editor.then_some(editor),
            terminal: parts.terminal.then_some(terminal),
            ssh: parts.ssh.then(|| format!("ssh://{host}:22")),
        })
    }
}

fn owner_reference(session: &LabSession) -> OwnerReference {
    OwnerReference {
        api_version: LabSession::api_version(&()).into_owned(),
        kind: LabSession::kind(&()).into_owned(),
        name: session.name_any(),
        uid: session.uid().unwrap_or_default(),
        controller: Some(true),
        // The finalizer sees to the order already.
        block_owner_deletion: None,
    }
}

/// What the controller needs to know of a part other than the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartView {
    pub(crate) uid: String,
    pub(crate) owner: Option<Owner>,
    /// Whether it waits for something, as a service does for the address of a load balancer.
    pub(crate) pending: bool,
    pub(crate) deleting: bool,
}

impl PartView {
    pub(crate) fn of<K: kube::Resource>(object: &K) -> Self {
        Self {
            uid: object.meta().uid.clone().unwrap_or_default(),
            owner: Owner::of(object),
            pending: false,
            deleting: object.meta().deletion_timestamp.is_some(),
        }
    }

    pub(crate) fn of_service(service: &Service) -> Self {
        let wants_balancer =
            service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer");
        let addresses =
            service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
        let pending = wants_balancer && addresses.is_none_or(Vec::is_empty);
        Self { pending, ..Self::of(service) }
    }
}
