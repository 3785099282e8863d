use super::*;

/// All commands that a person may give, with the words that lead to each.
fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
    let mut verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set()).peekable();
    if verbs.peek().is_none() {
        found.push((path.trim().to_owned(), command.clone()));
    }
    verbs.for_each(|verb| leaves(verb, &format!("{path} {}", verb.get_name()), found));
}

fn all() -> Vec<(String, clap::Command)> {
    let mut found = Vec::new();
    leaves(&Cli::command(), "", &mut found);
    assert!(found.len() > 20);
    found
}

#[test]
fn the_grammar_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_help_teaches_by_example_or_names_the_environment() {
    for (path, command) in all() {
        if ["completions", "controller", "crd"].contains(&path.as_str()) {
            continue;
        }
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let teaches = help.contains(&format!("dozlab {path}")) || help.contains(&format!("--cluster {path}"));
        assert!(
            help.starts_with("Environment:") || (help.contains("Examples:") && teaches),
            "{path}: {help}"
        );
    }
}

#[test]
fn examples_are_commands_that_are_understood() {
    for (path, command) in all() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples = help.lines().skip_while(|line| *line != "Examples:").skip(1);
        for example in examples.filter_map(|line| line.trim().strip_prefix("dozlab ")) {
            // Two spaces begin the explanation, and a pipe or `&&` another command.
            let words = example.split("  ").next().unwrap_or_default();
            let words = words.split(['|', '&']).next().unwrap_or_default();
            let words = ["dozlab"].into_iter().chain(words.split_ascii_whitespace()).map(Into::into);
            let is_verb = |word: &std::ffi::OsStr| {
                word.to_str().is_some_and(|word| Cli::command().find_subcommand(word).is_some())
            };
            if let Err(error) = Cli::try_parse_from(cluster::bind_context(words, is_verb)) {
                panic!("{path}: `{example}`: {error}");
            }
        }
    }
}

#[test]
fn what_prints_a_result_prints_it_for_programs_too() {
    let results = [
        "up",
        "ls",
        "get",
        "open",
        "gc",
        "doctor",
        "extend",
        "image import",
        "image build",
        "image ls",
        "image inspect",
        "image verify",
        "image prune",
        "image rm",
        "kernel import",
        "kernel build",
        "kernel use",
        "kernel ls",
        "editor install",
    ];
    let all = all();
    for path in results {
        let (_, command) = all.iter().find(|(known, _)| known == path).unwrap_or_else(|| panic!("{path}"));
        assert!(command.get_arguments().any(|flag| flag.get_long() == Some("output")), "{path}");
    }
}
