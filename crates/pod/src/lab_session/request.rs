//! From a `LabSession` to what a plan is made of. The API server has checked most of it already; objects from before a
//! rule, and servers that know no rules, are why everything is checked again here.

use std::fmt;
use std::str::FromStr;

use dozlab_session::cpu::{MilliCpus, Vcpus};
use dozlab_session::plan::PlanRequest;
use dozlab_session::secret::Secret;
use dozlab_session::size::ByteSize;

use super::spec::{CustomImages, LabSession, LabSessionSpec};
use crate::images::Images;
use crate::options::{LabRequest, Parts, PodOptions};

/// The image of a session that names none: the one that the container `init-rootfs` carries.
const CARRIED_IMAGE: &str = "file:///app/image.ext4";

/// A `LabSession` that cannot be read: everything that is wrong with it, one problem a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabSessionError {
    /// At least one.
    pub problems: Vec<LabSessionProblem>,
}

impl fmt::Display for LabSessionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(formatter, "{line_end}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LabSessionError {}

/// One field of a `LabSession` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.{field} cannot be used: {reason}")]
pub struct LabSessionProblem {
    /// The field, below `spec`.
    pub field: &'static str,
    /// What is wrong with its value, and what is allowed.
    pub reason: String,
}

impl LabSession {
    /// Reads the object. Where it says nothing, `installed` counts: what holds for all sessions of the
    /// installation, such as its images and its storage class.
    ///
    /// # Errors
    /// Some fields cannot be read; the error names every such field. What the fields come to together is checked by
    /// [`Plan::resolve`](dozlab_session::plan::Plan::resolve).
    pub fn request(&self, installed: &PodOptions) -> Result<LabRequest, LabSessionError> {
        let spec = &self.spec;
        let mut reader = Reader { problems: Vec::new() };
        let plan = reader.plan(spec);
        let custom = spec.custom_images.clone().unwrap_or_default();
        let options = PodOptions {
            profile: spec.security_profile,
            parts: parts(spec),
            disk_policy: spec.disk_policy,
            images: reader.images(&custom, &installed.images),
            lab_id: spec.lab_id.clone().filter(|id| !id.is_empty()),
            ..installed.clone()
        };
        if reader.problems.is_empty() {
            return Ok(LabRequest { plan, options });
        }
        Err(LabSessionError { problems: reader.problems })
    }
}

fn parts(spec: &LabSessionSpec) -> Parts {
    let Some(config) = &spec.config else { return Parts::default() };
    Parts { terminal: config.enable_terminal, editor: config.enable_vs_code, ssh: config.enable_ssh }
}

/// Reads fields one by one and keeps what went wrong.
struct Reader {
    problems: Vec<LabSessionProblem>,
}

impl Reader {
    fn plan(&mut self, spec: &LabSessionSpec) -> PlanRequest {
        let resources = spec.resources.as_ref();
        let memory = self.field("memory", spec.memory.as_deref(), ByteSize::from_quantity);
        let disk = self.field("disk", spec.disk.as_deref(), ByteSize::from_quantity);
        let vcpus = self.vcpus(spec);
        let older_memory = resources.map(|older| older.memory.as_str());
        let older_disk = resources.map(|older| older.storage.as_str());
        let custom = spec.custom_images.as_ref();
        let password = spec.config.as_ref().and_then(|config| config.vs_code_password.clone());
        PlanRequest {
            session_id: self.parsed("sessionId", Some(&spec.session_id)),
            user_id: self.parsed("userId", Some(&spec.user_id)),
            image: self.image(spec),
            terminal_image: self.parsed(
                "customImages.terminalImage",
                custom.and_then(|images| images.terminal_image.as_deref()),
            ),
            vscode_password: password
                .filter(|password| !password.0.is_empty())
                .map(|password| Secret::new(password.0)),
            vcpus,
            memory: memory.or_else(|| self.field("resources.memory", older_memory, ByteSize::from_quantity)),
            disk: disk.or_else(|| self.field("resources.storage", older_disk, ByteSize::from_quantity)),
            login_user: self.parsed("loginUser", spec.login_user.as_deref()),
            hostname: self.parsed("hostname", spec.hostname.as_deref()),
            egress: Some(spec.egress),
            timeout: self.parsed("timeout", spec.timeout.as_deref()),
            idle_stop: self.parsed("idleStop", spec.idle_stop.as_deref()),
            ..PlanRequest::default()
        }
    }

    fn image(&mut self, spec: &LabSessionSpec) -> Option<dozlab_session::image::ImageRef> {
        let named = |text: &'_ Option<String>| text.clone().filter(|text| !text.is_empty());
        match (named(&spec.image), named(&spec.rootfs_url)) {
            (Some(image), Some(url)) if image != url => {
                let reason = "it differs from spec.rootfsUrl: give one of them".to_owned();
                self.problems.push(LabSessionProblem { field: "image", reason });
                None
            }
            (Some(image), _) => self.parsed("image", Some(&image)),
            (None, Some(url)) => self.parsed("rootfsUrl", Some(&url)),
            (None, None) => self.parsed("image", Some(CARRIED_IMAGE)),
        }
    }

    fn vcpus(&mut self, spec: &LabSessionSpec) -> Option<Vcpus> {
        if let Some(count) = spec.vcpus {
            return self.kept("vcpus", Vcpus::try_from(count));
        }
        let cpu: MilliCpus =
            self.parsed("resources.cpu", spec.resources.as_ref().map(|older| older.cpu.as_str()))?;
        self.kept("resources.cpu", Vcpus::covering(cpu))
    }

    fn images(&mut self, custom: &CustomImages, installed: &Images) -> Images {
        let init = self.parsed("customImages.initImage", custom.init_image.as_deref());
        let network = self.parsed("customImages.networkImage", custom.network_image.as_deref());
        let vm = self.parsed("customImages.vmImage", custom.vm_image.as_deref());
        let editor = self.parsed("customImages.vscodeImage", custom.vscode_image.as_deref());
        let Images { init: init_here, network: network_here, vm: vm_here, editor: editor_here } =
            installed.clone();
        Images {
            init: init.or(init_here),
            network: network.or(network_here),
            vm: vm.or(vm_here),
            editor: editor.or(editor_here),
        }
    }

    /// An empty text counts as one that is not there, except for the two ids, which must be there.
    fn parsed<T: FromStr<Err: fmt::Display>>(
        &mut self,
        field: &'static str,
        text: Option<&str>,
    ) -> Option<T> {
        let required = matches!(field, "sessionId" | "userId");
        self.field(field, text.filter(|text| required || !text.is_empty()), str::parse)
    }

    fn field<T, E: fmt::Display>(
        &mut self,
        field: &'static str,
        text: Option<&str>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.kept(field, parse(text?))
    }

    fn kept<T, E: fmt::Display>(&mut self, field: &'static str, result: Result<T, E>) -> Option<T> {
        result
            .map_err(|error| self.problems.push(LabSessionProblem { field, reason: error.to_string() }))
            .ok()
    }
}
