//! Where things are kept on this machine.
//!
//! As the XDG base directory specification has it: images, kernels and sessions in the user's data folder, what can be
//! found out again in the cache folder.

use std::path::PathBuf;

/// The folders of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// Images, kernels, the editor, sessions.
    pub data: PathBuf,
    /// Verdicts about hypervisors; a kernel while it is built.
    pub cache: PathBuf,
}

/// There is nowhere to keep things.
#[derive(Debug, thiserror::Error)]
pub enum FoldersError {
    /// Neither a home nor a data folder is named.
    #[error("there is no place to keep labs: set HOME, or DOZLAB_DATA_DIR to a folder of your own")]
    NoHome,
    /// A folder is named by a relative path.
    #[error("{variable} is `{value}`, which is no absolute path: set it to one")]
    Relative {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
}

impl Folders {
    /// The folders that the environment names: `DOZLAB_DATA_DIR` and `DOZLAB_CACHE_DIR`, else `dozlab` in
    /// `XDG_DATA_HOME` and `XDG_CACHE_HOME`, else in `~/.local/share` and `~/.cache`.
    ///
    /// # Errors
    /// [`FoldersError`].
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, FoldersError> {
        let variable = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let folder = |own: &'static str, xdg: &'static str, in_home: &str| {
            if let Some(value) = variable(own) {
                let path = PathBuf::from(&value);
                return if path.is_absolute() {
                    Ok(path)
                } else {
                    Err(FoldersError::Relative { variable: own, value })
                };
            }
            // The specification says to pass over relative values.
            let base = variable(xdg).map(PathBuf::from).filter(|path| path.is_absolute());
            let base = base.or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(in_home)));
            base.map(|base| base.join("dozlab")).ok_or(FoldersError::NoHome)
        };
        Ok(Self {
            data: folder("DOZLAB_DATA_DIR", "XDG_DATA_HOME", ".local/share")?,
            cache: folder("DOZLAB_CACHE_DIR", "XDG_CACHE_HOME", ".cache")?,
        })
    }

    /// The image store.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// The kernels.
    #[must_use]
    pub fn kernels(&self) -> PathBuf {
        self.data.join("kernels")
    }

    /// Where kernels are built.
    #[must_use]
    pub fn kernel_build(&self) -> PathBuf {
        self.cache.join("kernel-build")
    }

    /// The editor, where we installed it.
    #[must_use]
    pub fn editor(&self) -> PathBuf {
        self.data.join("code-server")
    }

    /// The sessions.
    #[must_use]
    pub fn sessions(&self) -> PathBuf {
        self.data.join("sessions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(variables: &[(&str, &str)]) -> Result<Folders, FoldersError> {
        Folders::from_env(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn our_own_variable_wins_over_xdg_and_xdg_over_home() {
        let all = [("HOME", "/home/ada"), ("XDG_DATA_HOME", "/xdg"), ("DOZLAB_DATA_DIR", "/own")];
        assert_eq!(folders(&all).unwrap().data, PathBuf::from("/own"));
        assert_eq!(folders(&all[..2]).unwrap().data, PathBuf::from("/xdg/dozlab"));
        assert_eq!(folders(&all[..1]).unwrap().data, PathBuf::from("/home/ada/.local/share/dozlab"));
        assert_eq!(folders(&all[..1]).unwrap().cache, PathBuf::from("/home/ada/.cache/dozlab"));
    }

    #[test]
    fn no_home_is_said_and_a_relative_folder_refused() {
        assert!(matches!(folders(&[]), Err(FoldersError::NoHome)));
        let relative = folders(&[("HOME", "/h"), ("DOZLAB_DATA_DIR", "labs")]);
        assert!(matches!(relative, Err(FoldersError::Relative { .. })));
    }
}
