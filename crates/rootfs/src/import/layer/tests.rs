//! Layers against a model: a map from paths to what is there, changed by the few rules of the specification.

use std::collections::BTreeMap;
use std::fs;

use ::tar::{Builder, EntryType, Header};
use proptest::prelude::*;

use super::super::staging::{Limits, StagedTree};
use super::*;

/// What a test's layer has in it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Folder(String),
    File(String, u8),
    Symlink(String, String),
    Link(String, String),
    Hide(String),
    HideAll(String),
}
use Change::{File, Folder, Hide, HideAll, Link, Symlink};

/// What a tree has at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File(Vec<u8>),
    Symlink(Vec<u8>),
}

fn sibling(path: &str, name: &str) -> String {
    path.rsplit_once('/').map_or(name.to_owned(), |(parent, _)| format!("{parent}/{name}"))
}

fn tar(changes: &[Change]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for change in changes {
        let (name, kind, body, target) = match change {
            Folder(path) => (path.clone(), EntryType::Directory, vec![], ""),
            File(path, byte) => (path.clone(), EntryType::Regular, vec![*byte; 3], ""),
            Symlink(path, target) => (path.clone(), EntryType::Symlink, vec![], target.as_str()),
            Link(path, target) => (path.clone(), EntryType::Link, vec![], target.as_str()),
            Hide(path) => {
                let name = path.rsplit('/').next().unwrap();
                (sibling(path, &format!(".wh.{name}")), EntryType::Regular, vec![], "")
            }
            HideAll(path) => (format!("{path}/.wh..wh..opq"), EntryType::Regular, vec![], ""),
        };
        let mut header = Header::new_gnu();
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        gnu.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn staged(layers: &[Vec<Change>]) -> Result<(tempfile::TempDir, StagedTree), ImportError> {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { bytes: 1 << 20, entries: 1000 };
    let mut staging = Staging::new(folder.path().join("tree"), limits, None)?;
    let bad_layer = |source| ImportError::BadLayer { digest: String::new(), source };
    for layer in layers {
        apply_tar(tar(layer).as_slice(), &mut staging, &bad_layer)?;
    }
    Ok((folder, staging.finish()?))
}

/// What is staged, each path by what lies on disk there, which must be what the tree in memory says.
fn nodes(tree: &StagedTree) -> BTreeMap<String, Node> {
    let mut nodes = BTreeMap::new();
    for (path, index) in &tree.paths {
        let real = path.under(&tree.folder);
        let node = match &tree.inodes[*index].kind {
            Kind::Folder => {
                assert!(fs::symlink_metadata(&real).unwrap().is_dir());
                Node::Folder
            }
            Kind::File { .. } => Node::File(fs::read(&real).unwrap()),
            Kind::Symlink(target) => {
                assert_eq!(fs::read_link(&real).unwrap().as_os_str().as_encoded_bytes(), target);
                Node::Symlink(target.clone())
            }
            Kind::Special(_) => unreachable!("no layer here has one"),
        };
        nodes.insert(path.to_string(), node);
    }
    let mut count = 0;
    let mut folders = vec![tree.folder.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            count += 1;
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    assert_eq!(
        count + 1,
        nodes.len(),
        "something lies on disk that the tree does not know, or the other way round"
    );
    nodes.remove("");
    nodes
}

fn lay_out(layers: &[Vec<Change>]) -> BTreeMap<String, Node> {
    let (_folder, tree) = staged(layers).unwrap();
    nodes(&tree)
}

fn paths(layers: &[Vec<Change>]) -> Vec<String> {
    lay_out(layers).into_keys().collect()
}

fn file(path: &str) -> Change {
    File(path.into(), b'x')
}

#[test]
fn a_whiteout_hides_what_the_layers_below_have_and_nothing_of_its_own() {
    let below = vec![file("a/one"), file("a/two"), file("a-b"), file("a.c"), file("ab")];
    assert_eq!(paths(&[below.clone(), vec![Hide("a/one".into())]]), ["a", "a-b", "a.c", "a/two", "ab"]);
    assert_eq!(paths(&[below.clone(), vec![Hide("a".into())]]), ["a-b", "a.c", "ab"]);
    let expected = ["a", "a-b", "a.c", "a/three", "ab"];
    assert_eq!(paths(&[below.clone(), vec![Hide("a".into()), file("a/three")]]), expected);
    assert_eq!(paths(&[below.clone(), vec![file("a/three"), Hide("a".into())]]), expected);
    assert_eq!(paths(&[below.clone(), vec![HideAll("a".into()), file("a/three")]]), expected);
    assert_eq!(paths(&[below.clone(), vec![file("a/three"), HideAll("a".into())]]), expected);
    assert_eq!(paths(&[below.clone(), vec![Hide("missing".into()), HideAll("none".into())]]).len(), 6);
    assert_eq!(paths(&[below, vec![file("new"), HideAll(".".into())]]), ["new"]);
}

#[test]
fn an_entry_takes_the_place_of_another_kind() {
    let full = || vec![file("d/in/deep"), file("f"), Symlink("s".into(), "/d".into())];
    let after = |change: Change| lay_out(&[full(), vec![change]]);
    assert_eq!(after(file("d")).get("d"), Some(&Node::File(b"xxx".into())));
    assert_eq!(after(file("d")).len(), 3);
    assert_eq!(after(Folder("s".into())).get("s"), Some(&Node::Folder));
    assert_eq!(after(Folder("f".into())).get("f"), Some(&Node::Folder));
    assert_eq!(after(Folder("d".into())).get("d/in/deep"), Some(&Node::File(b"xxx".into())));
    assert_eq!(after(Symlink("d".into(), "f".into())).get("d"), Some(&Node::Symlink(b"f".into())));
    assert_eq!(after(Link("d".into(), "f".into())).get("d"), Some(&Node::File(b"xxx".into())));
}

#[test]
fn symbolic_links_among_the_parents_lead_through_the_image_alone() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap().to_owned();
    let below = vec![
        Folder("usr/lib".into()),
        Symlink("lib".into(), "usr/lib".into()),
        Symlink("up".into(), "../../../usr".into()),
        Symlink("out".into(), target.clone()),
    ];
    let above = vec![file("lib/one"), file("up/lib/two"), file("out/three"), Hide("lib/one".into())];
    let nodes = lay_out(&[below.clone(), above, vec![Hide("up/lib/two".into())]]);
    assert!(nodes.contains_key("usr/lib/one") && !nodes.contains_key("usr/lib/two"));
    assert!(nodes.contains_key(&format!("{}/three", &target[1..])));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "something was written outside");

    let circle = vec![Symlink("a".into(), "b".into()), Symlink("b".into(), "a".into()), file("a/x")];
    assert!(staged(&[circle]).err().unwrap().to_string().contains("40 symbolic links"));
    assert!(staged(&[vec![file("f"), file("f/x")]]).err().unwrap().to_string().contains("`f` is no folder"));
}

#[test]
fn a_hard_link_is_one_file_with_one_of_a_layer_below() {
    let (_folder, tree) =
        staged(&[vec![file("a"), file("b")], vec![Link("d/c".into(), "/a".into()), Hide("b".into())]])
            .unwrap();
    let index = |path: &[u8]| tree.paths[&EntryPath::parse(path).unwrap()];
    assert_eq!(index(b"a"), index(b"d/c"));
    assert_eq!(tree.inodes.len(), 3, "the root, the folder, and one file are left");
    let (_folder, tree) =
        staged(&[vec![file("a")], vec![Link("b".into(), "a".into()), File("a".into(), b'y')]]).unwrap();
    let nodes = nodes(&tree);
    assert_eq!((&nodes["a"], &nodes["b"]), (&Node::File(b"yyy".into()), &Node::File(b"xxx".into())));
    let error = staged(&[vec![file("a")], vec![Link("b".into(), "gone".into())]]).err().unwrap();
    assert!(error.to_string().contains("not in the archive before it"), "{error}");
}

#[test]
fn hostile_names_are_refused_or_stay_inside() {
    for (change, words) in [
        (file("../x"), "`..`"),
        (file("a/../../x"), "`..`"),
        (Link("a".into(), "../x".into()), "`..`"),
        (file(".wh."), "hides no name"),
        (file(".wh.."), "hides no name"),
        (file(".wh..."), "hides no name"),
        (file("a/.wh..."), "hides no name"),
        (file("a\nb"), "line break"),
        (Symlink("/".into(), "x".into()), "root must be a folder"),
    ] {
        let error = staged(&[vec![file("kept")], vec![change]]).err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(
        paths(&[vec![file("//etc/x"), file(".wh..wh.plnk"), file("a/.wh..wh.aufs")]]),
        ["etc", "etc/x"]
    );
}

/// The rules, on a map. There are no symbolic links among parents here: the generator makes none there.
fn model(layers: &[Vec<Change>]) -> BTreeMap<String, Node> {
    let mut tree: BTreeMap<String, Node> = BTreeMap::new();
    let below = |path: &str, other: &str| other.starts_with(&format!("{path}/"));
    for layer in layers {
        let added: Vec<&str> = layer
            .iter()
            .filter_map(|change| match change {
                Folder(path) | File(path, _) | Symlink(path, _) => Some(path.as_str()),
                _ => None,
            })
            .collect();
        // Hiding concerns the layers below alone, so it is done first.
        for change in layer {
            match change {
                Hide(path) => tree.retain(|other, _| other != path && !below(path, other)),
                HideAll(path) => tree.retain(|other, _| !below(path, other)),
                _ => {}
            }
        }
        for path in added {
            let change = layer.iter().rev().find(|change| match change {
                Folder(each) | File(each, _) | Symlink(each, _) => each == path,
                _ => false,
            });
            let mut parents = path;
            while let Some((parent, _)) = parents.rsplit_once('/') {
                tree.entry(parent.to_owned()).or_insert(Node::Folder);
                parents = parent;
            }
            let node = match change.unwrap() {
                File(_, byte) => Node::File(vec![*byte; 3]),
                Symlink(_, target) => Node::Symlink(target.as_bytes().into()),
                _ => Node::Folder,
            };
            if node != Node::Folder {
                tree.retain(|other, _| !below(path, other));
            }
            tree.insert(path.to_owned(), node);
        }
    }
    tree
}

/// Names of folders and of what is no folder differ, so that each layer is one that a builder could have written;
/// `x`, at the root, is now the one and now the other.
fn change() -> impl Strategy<Value = Change> {
    let folder = || prop::sample::select(vec!["a", "b", "a/c", "a/c/d", "b-a"]).prop_map(str::to_owned);
    let inside = (folder(), prop::sample::select(vec!["f", "g", "c.f"]))
        .prop_map(|(folder, name)| format!("{folder}/{name}"));
    let path = prop_oneof![inside, Just("x".to_owned())].boxed();
    prop_oneof![
        3 => (path.clone(), b'a'..=b'c').prop_map(|(path, byte)| File(path, byte)),
        1 => prop_oneof![folder(), Just("x".to_owned())].prop_map(Folder),
        1 => path.clone().prop_map(|path| Symlink(path, "a/f".into())),
        1 => prop_oneof![folder(), path].prop_map(Hide),
        1 => folder().prop_map(HideAll),
    ]
}

/// A layer has each path once.
fn layer() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(change(), 0..8).prop_map(|changes| {
        let mut seen = HashSet::new();
        let key = |change: &Change| match change {
            Folder(path) | File(path, _) | Symlink(path, _) | Link(path, _) => path.clone(),
            Hide(path) => format!("hide {path}"),
            HideAll(path) => format!("hide all {path}"),
        };
        changes.into_iter().filter(|change| seen.insert(key(change))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_layers_give_what_the_model_says(layers in prop::collection::vec(layer(), 1..5)) {
        prop_assert_eq!(lay_out(&layers), model(&layers));
    }
}
