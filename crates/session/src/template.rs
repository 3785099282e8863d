//! The variables of the lab pod's template, `${SESSION_ID}` and its fellows, read into a [`PlanRequest`].
//!
//! They are the ones of `LAB_POD_ARCHITECTURE.md`, "Configuration Variables". A variable that is set to
//! nothing counts as unset, as in the template's own `${DISK_SIZE:-4G}`.

use std::fmt;
use std::str::FromStr;

use crate::plan::PlanRequest;
use crate::secret::Secret;
use crate::size::ByteSize;
use crate::text::write_lines;

/// The variables, in the order of the architecture's tables.
pub const VARIABLES: [&str; 15] = [
    "SESSION_ID",
    "USER_ID",
    "ROOTFS_IMAGE_URL",
    "VSCODE_PASSWORD",
    "DISK_SIZE",
    "VM_CPU",
    "VM_MEMORY",
    "TERMINAL_IMAGE",
    "VM_MEMORY_LIMIT",
    "VM_CPU_LIMIT",
    "VM_MEMORY_REQUEST",
    "VM_CPU_REQUEST",
    "KERNEL_SIZE_LIMIT",
    "VM_DATA_SIZE_LIMIT",
    "VSCODE_DATA_SIZE_LIMIT",
];

/// Template variables that cannot be read: all of them, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// At least one.
    pub variables: Vec<VariableError>,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_lines(formatter, &self.variables)
    }
}

impl std::error::Error for TemplateError {}

/// One template variable that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the variable {name} cannot be used: {reason}")]
pub struct VariableError {
    /// The variable's name.
    pub name: &'static str,
    /// What was wrong with its value, and what is allowed.
    pub reason: String,
}

impl PlanRequest {
    /// Reads the template variables through a function that looks one up by its name: the environment, a map.
    ///
    /// # Errors
    ///
    /// Some values cannot be read; the error names every such variable.
    pub fn from_template(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, TemplateError> {
        let mut reader = Reader { lookup, errors: Vec::new() };
        let request = Self {
            session_id: reader.parsed("SESSION_ID"),
            user_id: reader.parsed("USER_ID"),
            image: reader.parsed("ROOTFS_IMAGE_URL"),
            vscode_password: reader.text("VSCODE_PASSWORD").map(Secret::new),
            disk: reader.read("DISK_SIZE", ByteSize::from_disk_size),
            vcpus: reader.parsed("VM_CPU"),
            memory: reader.read("VM_MEMORY", ByteSize::from_memory),
            terminal_image: reader.parsed("TERMINAL_IMAGE"),
            vm_memory_limit: reader.read("VM_MEMORY_LIMIT", ByteSize::from_quantity),
            vm_cpu_limit: reader.parsed("VM_CPU_LIMIT"),
            vm_memory_request: reader.read("VM_MEMORY_REQUEST", ByteSize::from_quantity),
            vm_cpu_request: reader.parsed("VM_CPU_REQUEST"),
            vm_kernels_limit: reader.read("KERNEL_SIZE_LIMIT", ByteSize::from_quantity),
            vm_data_limit: reader.read("VM_DATA_SIZE_LIMIT", ByteSize::from_quantity),
            vscode_data_limit: reader.read("VSCODE_DATA_SIZE_LIMIT", ByteSize::from_quantity),
            ..Self::default()
        };
        if reader.errors.is_empty() { Ok(request) } else { Err(TemplateError { variables: reader.errors }) }
    }
}

/// Reads variables one by one and keeps what went wrong.
struct Reader<Lookup> {
    lookup: Lookup,
    errors: Vec<VariableError>,
}

impl<Lookup: Fn(&str) -> Option<String>> Reader<Lookup> {
    fn text(&self, name: &'static str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    fn read<T, E: fmt::Display>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.text(name)?;
        match parse(&value) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.errors.push(VariableError { name, reason: error.to_string() });
                None
            }
        }
    }

    fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, name: &'static str) -> Option<T> {
        self.read(name, str::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(variables: &[(&str, &str)]) -> Result<PlanRequest, TemplateError> {
        PlanRequest::from_template(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_architectures_example_is_read() {
        let request = request(&[
            ("SESSION_ID", "abc123"),
            ("USER_ID", "user-456"),
            ("ROOTFS_IMAGE_URL", "https://storage.example.org/dozlab-k8s.ext4"),
            ("VSCODE_PASSWORD", "securepass123"),
            ("DISK_SIZE", "4G"),
            ("VM_CPU", "1"),
            ("VM_MEMORY", "1024"),
            ("TERMINAL_IMAGE", "dozman99/dozlab-terminal:latest"),
            ("VM_MEMORY_LIMIT", "2Gi"),
            ("VM_CPU_LIMIT", "1500m"),
            ("VM_MEMORY_REQUEST", "1Gi"),
            ("VM_CPU_REQUEST", "500m"),
            ("KERNEL_SIZE_LIMIT", "8Gi"),
            ("VM_DATA_SIZE_LIMIT", "5Gi"),
            ("VSCODE_DATA_SIZE_LIMIT", "1Gi"),
        ])
        .unwrap();
        assert_eq!(request.session_id.as_ref().unwrap().as_str(), "abc123");
        assert_eq!(request.user_id.as_ref().unwrap().as_str(), "user-456");
        assert!(request.image.as_ref().unwrap().is_url());
        assert_eq!(request.vscode_password.as_ref().unwrap().reveal(), "securepass123");
        assert_eq!(request.disk, Some(ByteSize::from_gib(4)));
        assert_eq!(request.vcpus.unwrap().get(), 1);
        assert_eq!(request.memory, Some(ByteSize::from_mib(1024)));
        assert_eq!(request.vm_memory_limit, Some(ByteSize::from_gib(2)));
        assert_eq!(request.vm_cpu_limit.unwrap().as_millis(), 1500);
        assert_eq!(request.vm_memory_request, Some(ByteSize::from_gib(1)));
        assert_eq!(request.vm_cpu_request.unwrap().as_millis(), 500);
        assert_eq!(request.vm_kernels_limit, Some(ByteSize::from_gib(8)));
        assert_eq!(request.vm_data_limit, Some(ByteSize::from_gib(5)));
        assert_eq!(request.vscode_data_limit, Some(ByteSize::from_gib(1)));
        assert!(!format!("{request:?}").contains("securepass123"));
    }

    #[test]
    fn a_variable_set_to_nothing_is_unset() {
        assert_eq!(request(&VARIABLES.map(|name| (name, ""))), Ok(PlanRequest::default()));
        assert_eq!(request(&[]), Ok(PlanRequest::default()));
    }

    #[test]
    fn every_variable_that_cannot_be_read_is_named() {
        let error = request(&[("DISK_SIZE", "big"), ("VM_CPU", "64"), ("VM_MEMORY", "1024")]).unwrap_err();
        let lines: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("the variable DISK_SIZE cannot be used: \"big\" is not a disk size"));
        assert_eq!(
            lines[1],
            "the variable VM_CPU cannot be used: a VM cannot have 64 virtual CPUs: the hypervisor takes 1 to \
             32"
        );
    }

    #[test]
    fn exactly_the_listed_variables_are_asked_for() {
        let asked = std::cell::RefCell::new(Vec::new());
        let nothing_set = PlanRequest::from_template(|name| {
            asked.borrow_mut().push(name.to_owned());
            None
        });
        assert_eq!(nothing_set, Ok(PlanRequest::default()));
        let mut asked = asked.into_inner();
        let mut listed = VARIABLES.map(str::to_owned).to_vec();
        asked.sort();
        listed.sort();
        assert_eq!(asked, listed);
    }

    proptest! {
        #[test]
        fn reading_never_panics(value in ".{0,30}|[0-9]{1,25}[kKmMgGi]{0,2}") {
            let _ = PlanRequest::from_template(|_| Some(value.clone()));
        }
    }
}
