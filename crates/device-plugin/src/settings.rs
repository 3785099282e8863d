//! The plugin's settings, from the environment of its container.

use std::path::{Path, PathBuf};

use dozlab_boot::{Kernel, KernelError};

use crate::device::DEFAULT_COUNT;

/// Where kubelets have the sockets of plugins.
const DEFAULT_FOLDER: &str = "/var/lib/kubelet/device-plugins";

/// Where the VM's container has its kernel.
const DEFAULT_KERNEL: &str = "/find/vmlinux.bin";

/// What the plugin is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `DEVICE_PLUGIN_DIR`: the kubelet's folder of sockets.
    pub folder: PathBuf,
    /// `DEVICE_COUNT`: how many containers may have a device at once.
    pub count: u32,
    /// The kernel that the probe boots, in the folder of `KERNEL_PATH`.
    pub kernel: Kernel,
    /// `CACHE_DIR`: where the probe's verdicts are remembered.
    pub cache_folder: PathBuf,
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The number is none.
    #[error("DEVICE_COUNT is `{value}`: give a number from 1 to 10000")]
    Count {
        /// What was given.
        value: String,
    },
    /// There is no kernel to probe with.
    #[error("KERNEL_PATH={}: {source}", path.display())]
    Kernel {
        /// What was given.
        path: PathBuf,
        /// Why.
        source: KernelError,
    },
}

impl Settings {
    /// Reads the settings through a function that looks up a variable. What is unset or empty has its default.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path =
            |name: &str, default: &str| PathBuf::from(given(name).unwrap_or_else(|| default.to_owned()));
        let count = match given("DEVICE_COUNT") {
            None => DEFAULT_COUNT,
            Some(value) => read_count(&value).ok_or(SettingsError::Count { value })?,
        };
        let kernel_path = path("KERNEL_PATH", DEFAULT_KERNEL);
        let kernel = Kernel::read(kernel_path.parent().unwrap_or(Path::new(".")))
            .map_err(|source| SettingsError::Kernel { path: kernel_path, source })?;
        Ok(Self {
            folder: path("DEVICE_PLUGIN_DIR", DEFAULT_FOLDER),
            count,
            kernel,
            cache_folder: path("CACHE_DIR", "/var/cache/dozlab"),
        })
    }
}

fn read_count(value: &str) -> Option<u32> {
    value.parse().ok().filter(|count| (1..=10_000).contains(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::from_env(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_count_is_a_number_of_containers() {
        for bad in ["0", "-1", "many", "10001"] {
            assert!(matches!(read(&[("DEVICE_COUNT", bad)]), Err(SettingsError::Count { .. })), "{bad}");
        }
        assert_eq!(read_count("250"), Some(250));
    }

    #[test]
    fn a_kernel_that_is_missing_is_named() {
        let error = read(&[("KERNEL_PATH", "/nowhere/vmlinux")]).unwrap_err().to_string();
        assert!(error.starts_with("KERNEL_PATH=/nowhere/vmlinux: "), "{error}");
    }
}
