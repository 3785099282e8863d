//! A kernel's configuration as a fragment: what must hold, over everything off.
//!
//! Kconfig (`Documentation/kbuild/kconfig.rst` of Linux) takes a wish whose conditions are not met for no wish and
//! says nothing. So the configuration that comes out is read again and compared with what was asked for.

use std::fmt;

use sha2::{Digest, Sha256};

/// Lines of `CONFIG_NAME=value` and `# CONFIG_NAME is not set`, as in a kernel's `.config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    text: String,
}

/// A symbol that did not become what the fragment asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// The symbol, with `CONFIG_`.
    pub symbol: String,
    /// The value asked for; `n` for "is not set".
    pub wanted: String,
    /// The value that the configuration has.
    pub found: String,
}

impl fmt::Display for Unmet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} is {}, not {}", self.symbol, self.found, self.wanted)
    }
}

/// A line of a fragment cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "line {number} of the kernel's configuration is neither `CONFIG_NAME=value`, `# CONFIG_NAME is not set` nor a \
     comment: {line}"
)]
pub struct FragmentError {
    /// Counted from one.
    pub number: usize,
    /// The line.
    pub line: String,
}

impl Fragment {
    /// The configuration of the slim kernel: everything a lab needs, built in, and nothing else.
    #[must_use]
    pub fn slim() -> Self {
        Self { text: include_str!("../../kernel/slim.config").to_owned() }
    }

    /// A configuration of one's own.
    ///
    /// # Errors
    /// [`FragmentError`] for the first line that makes no sense.
    pub fn parse(text: String) -> Result<Self, FragmentError> {
        for (index, line) in text.lines().enumerate() {
            let meaningless = !line.trim().is_empty() && !line.starts_with('#') && setting(line).is_none();
            if meaningless {
                return Err(FragmentError { number: index + 1, line: line.to_owned() });
            }
        }
        Ok(Self { text })
    }

    /// The fragment as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The symbols that have another value in this `.config`.
    pub(crate) fn unmet(&self, configuration: &str) -> Vec<Unmet> {
        let found: std::collections::HashMap<&str, &str> =
            configuration.lines().filter_map(setting).collect();
        let wanted = self.text.lines().filter_map(setting);
        let unmet = wanted.filter_map(|(symbol, wanted)| {
            // What a configuration does not mention cannot be set in it.
            let found = found.get(symbol).copied().unwrap_or("n");
            (found != wanted).then(|| Unmet {
                symbol: symbol.to_owned(),
                wanted: wanted.to_owned(),
                found: found.to_owned(),
            })
        });
        unmet.collect()
    }

    /// What a kernel is known by: the SHA-256 over the way of building, the source's version and the fragment.
    pub(crate) fn recipe(&self, way_of_building: u32, source_version: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{way_of_building}\n{source_version}\n"));
        hash.update(&self.text);
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A line's symbol and value, `n` for one that is not set; `None` for a comment.
fn setting(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_end();
    if let Some(comment) = line.strip_prefix("# ") {
        let symbol = comment.strip_suffix(" is not set")?;
        return is_symbol(symbol).then_some((symbol, "n"));
    }
    let (symbol, value) = line.split_once('=')?;
    (is_symbol(symbol) && !value.is_empty()).then_some((symbol, value))
}

fn is_symbol(word: &str) -> bool {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    word.strip_prefix("CONFIG_").is_some_and(|name| !name.is_empty() && name.chars().all(is_part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(text: &str) -> Fragment {
        Fragment::parse(text.to_owned()).unwrap()
    }

    #[test]
    fn what_kconfig_dropped_or_changed_is_found() {
        let wished = fragment(
            "# A comment\nCONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\nCONFIG_D=\"a=b\"\nCONFIG_E=16\n# CONFIG_F is not set\n",
        );
        let configuration =
            "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=y\nCONFIG_D=\"a=b\"\nCONFIG_E=64\nCONFIG_OTHER=y\n";
        let unmet = wished.unmet(configuration);
        let shown: Vec<_> = unmet.iter().map(Unmet::to_string).collect();
        assert_eq!(shown, ["CONFIG_B is n, not y", "CONFIG_C is y, not n", "CONFIG_E is 64, not 16"]);
    }

    #[test]
    fn a_line_that_kconfig_would_pass_over_is_refused() {
        for line in ["CONFIG_A", "CONFIG_A =y", "A=y", "CONFIG_A=", "CONFIG_A-B=y"] {
            let error = Fragment::parse(format!("CONFIG_X=y\n\n{line}\n")).unwrap_err();
            assert_eq!(error, FragmentError { number: 3, line: line.to_owned() });
        }
    }

    #[test]
    fn the_slim_kernels_fragment_has_each_symbol_once() {
        let slim = Fragment::slim();
        let mut seen = std::collections::HashSet::new();
        for (symbol, _) in Fragment::parse(slim.text.clone()).unwrap().text.lines().filter_map(setting) {
            assert!(seen.insert(symbol.to_owned()), "{symbol} is there twice");
        }
    }

    #[test]
    fn another_source_configuration_or_way_is_another_recipe() {
        let known = fragment("CONFIG_A=y").recipe(1, "6.1.1-1");
        assert_eq!(known, fragment("CONFIG_A=y").recipe(1, "6.1.1-1"));
        let others = [
            fragment("CONFIG_A=n").recipe(1, "6.1.1-1"),
            fragment("CONFIG_A=y").recipe(2, "6.1.1-1"),
            fragment("CONFIG_A=y").recipe(1, "6.1.1-2"),
        ];
        assert!(!others.contains(&known));
    }
}
