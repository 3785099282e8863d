//! The kernel's command line.

/// The parameters of a kernel command line, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandLine(Vec<(String, Option<String>)>);

impl CommandLine {
    /// Reads the text of `/proc/cmdline`. Double quotes hold words together, as the kernel's own parser has
    /// it; what comes after `--` is for init.
    pub(crate) fn parse(text: &str) -> Self {
        let mut parameters = Vec::new();
        for word in words(text) {
            if word == "--" {
                break;
            }
            let parameter = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            parameters.push(parameter);
        }
        Self(parameters)
    }

    /// The value of the last parameter of that name, which is the one that counts.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(found, _)| found == name)?.1.as_deref()
    }

    /// Whether the parameter is there, with a value or without.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(found, _)| found == name)
    }
}

/// The words of the line, without the quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            _ if character.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(character),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_and_flags_are_found() {
        let line = CommandLine::parse(
            "console=ttyS0 quiet dozlab.time=1.250 dyndbg=\"file a +p\" dozlab.time=2.5\n",
        );
        assert_eq!(line.value("dozlab.time"), Some("2.5"));
        assert_eq!(line.value("dyndbg"), Some("file a +p"));
        assert_eq!(line.value("quiet"), None);
        assert!(line.has("quiet") && line.has("console"));
        assert!(!line.has("dozlab.probe"));
    }

    #[test]
    fn what_is_for_init_is_no_parameter() {
        assert!(!CommandLine::parse("quiet -- dozlab.probe").has("dozlab.probe"));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,100}") {
            let _ = CommandLine::parse(&text);
        }

        #[test]
        fn a_parameter_reads_back(name in "[a-z.]{2,9}", value in "[a-z0-9.,/ ]{0,9}") {
            let line = CommandLine::parse(&format!("a=b {name}=\"{value}\" c"));
            prop_assert_eq!(line.value(&name), Some(value.as_str()));
        }
    }
}
