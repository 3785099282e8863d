//! Definitions that are right, and what is said about those that are not.

use std::fs;

use super::*;

fn open(text: &str) -> Result<Definition, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE), text).unwrap();
    let path = format!("{}/", folder.path().display());
    Definition::find(&path).map_err(|error| error.to_string())
}

#[test]
fn every_definition_of_the_program_is_sound() {
    assert_eq!(embedded_names(), ["k8s", "minimal", "vm"]);
    for name in embedded_names() {
        let definition = Definition::find(name).unwrap();
        assert_eq!(definition.name, name);
        assert!(definition.image.source_date().is_some(), "{name} has no date");
        super::super::overlay::files_beside(&definition).unwrap();
    }
}

#[test]
fn the_smallest_definition_has_a_description_and_a_base() {
    let definition = open("description = 'd'\nbase = { debian = 'bookworm' }\n").unwrap();
    assert_eq!(definition.image.base, Base::Debian(Suite::try_from("bookworm".to_owned()).unwrap()));
    assert!(!definition.image.network);
    assert_eq!(definition.image.source_date(), None);
}

#[test]
fn a_mistake_is_named_with_its_line_and_its_key() {
    let start = "description = 'd'\nbase = { debian = 'bookworm' }\n";
    for (text, line, says) in [
        ("pakages = []\n", 3, "unknown field `pakages`"),
        ("packages = ['vim', 'a b']\n", 3, "\"a b\" is no Debian package"),
        ("packages = ['-o=x']\n", 3, "is no Debian package"),
        ("user = 'A'\n", 3, "\"A\""),
        ("size = '1 GB'\n", 3, "1 GB"),
        ("date = 'yesterday'\n", 3, "date"),
        ("[[files]]\nto = '/a'\n", 3, "one of `from`, `text`, `link`"),
        ("[[files]]\nto = '/a'\ntext = ''\nlink = 'b'\n", 3, "one of `from`, `text`, `link`"),
        ("[[files]]\nto = 'a'\ntext = ''\n", 4, "no absolute path"),
        ("[[files]]\nto = '/a/../b'\ntext = ''\n", 4, "no plain path"),
        ("[[files]]\nfrom = '../a'\nto = '/a'\n", 4, "no path below the folder"),
        ("[[files]]\nto = '/a'\ntext = ''\nmode = '0888'\n", 6, "no mode in octal"),
        ("[[files]]\nto = '/a'\ntext = ''\nmoed = '0644'\n", 6, "unknown field `moed`"),
    ] {
        let said = open(&format!("{start}{text}")).unwrap_err();
        assert!(said.contains(says), "{text} says {said}");
        assert!(said.contains(&format!("line {line}")), "{text} says {said}");
        assert!(said.contains("image.toml: "), "{text} says {said}");
    }
    let said = open("description = 'd'\nbase = { debain = 'bookworm' }\n").unwrap_err();
    assert!(said.contains("unknown variant `debain`") && said.contains("line 2"), "{said}");
    let said = open("description = 'd'\n").unwrap_err();
    assert!(said.contains("missing field `base`"), "{said}");
}

#[test]
fn a_date_is_midnight_utc() {
    let start = "description = 'd'\nbase = { debian = 'bookworm' }\n";
    let definition = open(&format!("{start}date = 2026-11-01\n")).unwrap();
    assert_eq!(definition.image.source_date(), Some(1_793_491_200));
    let said = open(&format!("{start}date = 2026-11-01T10:00:00Z\n")).unwrap_err();
    assert!(said.contains("a day without a time"), "{said}");
}

#[test]
fn an_unknown_name_is_told_what_there_is() {
    let said = Definition::find("wm").unwrap_err().to_string();
    assert!(said.contains("vm") && said.contains("./wm"), "{said}");
}
