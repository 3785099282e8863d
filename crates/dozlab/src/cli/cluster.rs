//! `--cluster [CONTEXT]`, whose value may be left out before the verb: `dozlab --cluster up`, `dozlab --cluster kind up`.
//!
//! An option whose value may be left out takes the next word, whatever that is. So the words before the verb are looked
//! at here first: one that is a verb is no context. A context that is called like a verb is said with `=`.

use std::ffi::{OsStr, OsString};

const FLAG: &str = "--cluster";

/// The command line with the value of `--cluster`, or none, bound to it by `=`.
pub(super) fn bind_context(
    words: impl IntoIterator<Item = OsString>,
    is_verb: impl Fn(&OsStr) -> bool,
) -> Vec<OsString> {
    let mut words = words.into_iter().peekable();
    let mut bound: Vec<OsString> = words.next().into_iter().collect();
    while let Some(word) = words.next() {
        let is_flag = word.as_encoded_bytes().starts_with(b"-");
        if word == FLAG {
            let is_context = |next: &OsString| !next.as_encoded_bytes().starts_with(b"-") && !is_verb(next);
            let mut flag = OsString::from("--cluster=");
            flag.extend(words.next_if(is_context));
            bound.push(flag);
        } else {
            bound.push(word);
        }
        if !is_flag {
            break;
        }
    }
    bound.extend(words);
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(line: &str) -> String {
        let words = line.split(' ').map(OsString::from);
        let bound = bind_context(words, |word| word == "up" || word == "ls");
        bound.join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn a_context_is_told_from_a_verb() {
        assert_eq!(bound("dozlab --cluster up"), "dozlab --cluster= up");
        assert_eq!(bound("dozlab --cluster kind up vm"), "dozlab --cluster=kind up vm");
        assert_eq!(bound("dozlab -v --cluster -v ls"), "dozlab -v --cluster= -v ls");
        assert_eq!(bound("dozlab --cluster=up up"), "dozlab --cluster=up up");
        assert_eq!(bound("dozlab --cluster"), "dozlab --cluster=");
    }

    #[test]
    fn what_follows_the_verb_is_the_verbs() {
        assert_eq!(bound("dozlab up --cluster kind"), "dozlab up --cluster kind");
        assert_eq!(bound("dozlab exec a -- --cluster b"), "dozlab exec a -- --cluster b");
    }
}
