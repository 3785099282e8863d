//! Definitions built with the real `mmdebstrap`, from Debian's mirror: a package that has no dependencies, so that
//! each build takes seconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dozlab_rootfs::NoProgress;
use dozlab_rootfs::build::{BuildError, BuildOptions, Built, Definition, Published, build};
use dozlab_rootfs::import::ImportOptions;
use serde_json::Value;

use super::support::{Entry, Lab, debugfs, inode, tar, tool, write};

const SMALL: &str = r#"
description = "busybox, and what a definition can say"
base = { debian-extract = "bookworm" }
packages = ["busybox-static"]
exclude = ["/usr/share/*"]
user = "learner"
size = "96M"
date = 2026-01-02

commands = ["/bin/busybox date -d @$SOURCE_DATE_EPOCH +%F >/etc/built"]

[[files]]
link = "busybox"
to = "/bin/sh"

[[files]]
text = "root:x:0:0::/root:/bin/sh\nlearner:x:70:70::/home:/bin/sh\n"
to = "/etc/passwd"

[[files]]
from = "beside"
to = "/srv"
owner = 70
group = 71
mode = "0640"

[[files]]
folder = true
to = "/home"
mode = "1770"
"#;

fn definition(lab: &Lab, text: &str) -> Result<Definition, String> {
    let folder = lab.path("small");
    let below = folder.join("beside/below");
    fs::create_dir_all(&below).unwrap();
    write(&folder.join("image.toml"), text.as_bytes());
    write(&below.join("file"), b"beside\n");
    Definition::find(folder.to_str().unwrap()).map_err(|error| error.to_string())
}

async fn built(lab: &Lab, text: &str, epoch: Option<i64>) -> Result<Built, BuildError> {
    let import = ImportOptions { source_date_epoch: epoch, ..ImportOptions::default() };
    let options = BuildOptions { import, ..BuildOptions::default() };
    let definition = definition(lab, text).unwrap();
    build(&lab.store, "small", &definition, options, Arc::new(NoProgress)).await
}

async fn published(lab: &Lab, built: &Built, folder: &str) -> Published {
    built.publish(&lab.store, &lab.path(folder), Arc::new(NoProgress)).await.unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn a_definition_decides_what_is_in_the_image_and_building_it_again_gives_the_same_bytes() {
    let lab = Lab::new();
    let first = built(&lab, SMALL, None).await.unwrap();
    let image = lab.blob(&first.record);

    assert_eq!((first.record.user.as_str(), first.record.size), ("learner", 96 << 20));
    let date = 1_767_312_000;
    assert_eq!(debugfs(&image, "cat /etc/built"), "2026-01-02\n");
    assert_eq!(inode(&image, "/srv/below/file"), format!("regular 0640 70 71 1 7 {date}"));
    assert_eq!(inode(&image, "/srv/below"), format!("directory 0755 70 71 2 4096 {date}"));
    assert_eq!(inode(&image, "/home"), format!("directory 01770 0 0 2 4096 {date}"));
    assert_eq!(debugfs(&image, "ls -p /usr").matches("share").count(), 0);
    // Nothing of what unpacked it, and nothing of this machine.
    for gone in ["etc/hostname", "etc/apt", "var/lib/dpkg"] {
        assert!(!debugfs(&image, &format!("stat /{gone}")).contains("Inode:"), "{gone} is in the image");
    }

    let one = published(&lab, &first, "one").await;
    let two = published(&lab, &built(&lab, SMALL, None).await.unwrap(), "two").await;
    let bytes = |path: &PathBuf| fs::read(path).unwrap();
    for (one, two) in [
        (&one.image, &two.image),
        (&one.digest_file, &two.digest_file),
        (&one.software, &two.software),
        (&one.provenance, &two.provenance),
    ] {
        assert!(bytes(one) == bytes(two), "{} differs when it is built again", one.display());
    }
    let later = built(&lab, SMALL, Some(date + 86_400)).await.unwrap();
    assert_ne!(later.record.digest, first.record.digest, "SOURCE_DATE_EPOCH goes before the date");

    documents_tell_of(&first, &one);
}

/// The files beside an image, read by others' tools and as JSON.
fn documents_tell_of(built: &Built, published: &Published) {
    let folder = published.image.parent().unwrap().to_str().unwrap();
    let checked = tool("sh", &["-c", &format!("cd '{folder}' && sha256sum --check small.ext4.zst.sha256")]);
    assert_eq!(checked, "small.ext4.zst: OK\n");
    let image = published.image.to_str().unwrap();
    let unpacked = tool("sh", &["-c", &format!("zstd -dc '{image}' | sha256sum")]);
    assert_eq!(unpacked.split_whitespace().next(), Some(built.record.digest.digits()));

    let busybox = built.packages().iter().find(|package| package.name == "busybox-static").unwrap();
    let software = json(&published.software);
    let listed = software["packages"].as_array().unwrap();
    assert_eq!((listed.len(), &listed[0]["versionInfo"]), (1, &Value::from(busybox.version.clone())));
    assert_eq!(listed[0]["checksums"][0]["checksumValue"], *busybox.sha256.as_ref().unwrap());

    let statement = json(&published.provenance);
    assert_eq!(statement["subject"][0]["digest"]["sha256"], published.digest.digits());
    assert_eq!(statement["subject"][1]["digest"]["sha256"], built.record.digest.digits());
    let definition = &statement["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"]["base"], "Debian bookworm");
    let used = definition["resolvedDependencies"].to_string();
    for dependency in ["image.toml", "beside/below/file", "debian/dists/bookworm/InRelease", &busybox.purl()]
    {
        assert!(used.contains(dependency), "{dependency} is not in {used}");
    }
}

#[tokio::test]
async fn commands_have_no_network_and_a_failed_one_is_shown_and_leaves_nothing() {
    let lab = Lab::new();
    // Of the interfaces that a command sees, none leads anywhere.
    let text = SMALL.replace(
        "date -d @$SOURCE_DATE_EPOCH +%F >/etc/built",
        "ip -o link | /bin/busybox grep -v LOOPBACK || echo alone: no interface >&2; exit 3",
    );
    let error = built(&lab, &text, None).await.unwrap_err().to_string();
    assert!(error.contains("alone: no interface"), "{error}");
    lab.assert_store_is_empty();

    let error = built(&lab, &SMALL.replace("96M", "40M"), None).await.unwrap_err().to_string();
    assert!(error.contains("more than the size of"), "{error}");
    let error =
        built(&lab, &SMALL.replace("\"learner\"", "\"stranger\""), None).await.unwrap_err().to_string();
    assert!(error.contains("no user `stranger`"), "{error}");
    let error = built(&lab, &SMALL.replace("\"beside\"", "\"nowhere\""), None).await.unwrap_err().to_string();
    assert!(error.contains("small/nowhere"), "{error}");
    lab.assert_store_is_empty();
}

#[tokio::test]
async fn an_oci_image_can_be_the_base_and_keeps_what_it_has() {
    let lab = Lab::new();
    // As `docker save` writes it: busybox, with an owner, a hard link and an extended attribute to keep.
    let program = fs::read("/bin/busybox").unwrap();
    let layer = tar(&[
        Entry { mode: 0o755, ..Entry::file("bin/busybox", &program) },
        Entry::symlink("bin/sh", "busybox"),
        Entry { owner: (33, 44), mode: 0o4750, ..Entry::file("srv/kept", b"kept\n") },
        Entry { owner: (33, 44), mode: 0o4750, ..Entry::hard_link("srv/again", "srv/kept") },
        Entry { records: &[("SCHILY.xattr.user.colour", b"blue")], ..Entry::file("srv/blue", b"") },
        Entry::file("etc/passwd", b"root:x:0:0::/root:/bin/sh\n"),
        Entry::file("lib/apk/db/installed", b"P:busybox\nV:1.36.1-r29\nA:x86_64\n\n"),
    ]);
    let manifest = br#"[{"Config":"c.json","RepoTags":["base:1"],"Layers":["l/layer.tar"]}]"#;
    let layer_digest = tool(
        "sh",
        &["-c", &{
            write(&lab.path("layer.tar"), &layer);
            format!("sha256sum <'{}' | cut -c1-64 | tr -d '\\n'", lab.path("layer.tar").display())
        }],
    );
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["sha256:{layer_digest}"]}}}}"#
    );
    let archive = tar(&[
        Entry::file("c.json", config.as_bytes()),
        Entry::file("l/layer.tar", &layer),
        Entry::file("manifest.json", manifest),
    ]);
    let text = r#"
description = "an OCI base"
base = { oci = "docker-archive:base.tar" }
date = 2026-01-02
commands = ["/bin/busybox chown 7:8 /srv/blue; /bin/busybox touch /srv/made"]
"#;
    let definition = definition(&lab, text).unwrap();
    write(&lab.path("small/base.tar"), &archive);
    let digest = |built: &Built| built.record.digest.clone();
    let mut digests = Vec::new();
    for _ in 0..2 {
        let made = build(&lab.store, "oci", &definition, BuildOptions::default(), Arc::new(NoProgress)).await;
        digests.push(made.unwrap());
    }
    assert_eq!(digest(&digests[0]), digest(&digests[1]));
    let [package] = digests[0].packages() else { panic!("the image says that it has one package") };
    assert_eq!(package.purl(), "pkg:apk/alpine/busybox@1.36.1-r29?arch=x86_64");
    let published = digests[0].publish(&lab.store, &lab.path("out"), Arc::new(NoProgress)).await.unwrap();
    let (software, provenance) = (json(&published.software), json(&published.provenance));
    assert_eq!(software["packages"][0]["externalRefs"][0]["referenceLocator"], package.purl());
    assert_eq!(software["packages"][0]["checksums"], Value::Null, "nobody has checked one");
    assert!(!provenance.to_string().contains("pkg:apk"), "it is part of the base");
    let image = lab.blob(&digests[0].record);
    let old = 1_700_000_000;
    assert_eq!(inode(&image, "/srv/kept"), format!("regular 04750 33 44 2 5 {old}"));
    assert_eq!(inode(&image, "/srv/blue"), format!("regular 0644 7 8 1 0 {old}"));
    assert!(debugfs(&image, "ea_get /srv/blue user.colour").contains("blue"));
    assert_eq!(
        debugfs(&image, "stat /srv/made").lines().filter(|line| line.contains("mtime: 0x6957")).count(),
        1
    );
    assert!(definition_error(&format!("{text}packages = ['vim']\n")).contains("need a base of Debian"));
}

fn definition_error(text: &str) -> String {
    let lab = Lab::new();
    definition(&lab, text).unwrap_err()
}

#[tokio::test]
async fn programs_come_from_a_source_s_address_with_its_digest_or_from_a_folder() {
    let lab = Lab::new();
    let upstream = lab.path("upstream");
    fs::create_dir(&upstream).unwrap();
    write(&upstream.join("tool"), b"#!/bin/sh\n");
    let url = format!("file://{}", upstream.display());
    let text =
        format!("{SMALL}\n[sources.tools]\nurl = \"{url}\"\nfiles = [\"tool\"]\nto = \"/usr/local/bin\"\n");
    // No file with a digest, then a wrong one.
    let error = built(&lab, &text, None).await.unwrap_err().to_string();
    assert!(error.contains("tool.sha256"), "{error}");
    write(&upstream.join("tool.sha256"), format!("{}\n", "0".repeat(64)).as_bytes());
    let error = built(&lab, &text, None).await.unwrap_err().to_string();
    assert!(error.contains(&"0".repeat(64)), "{error}");

    let wanted = tool("sha256sum", &[upstream.join("tool").to_str().unwrap()]);
    write(&upstream.join("tool.sha256"), wanted.as_bytes());
    let made = built(&lab, &text, None).await.unwrap();
    let modified = 1_767_312_000;
    assert_eq!(
        inode(&lab.blob(&made.record), "/usr/local/bin/tool"),
        format!("regular 0755 0 0 1 10 {modified}")
    );
    let published = published(&lab, &made, "out").await;
    assert!(json(&published.provenance).to_string().contains(&wanted[..64]));

    let definition = definition(&lab, &text.replace(&url, "file:///nonexistent")).unwrap();
    let sources = [("tools".to_owned(), upstream)].into();
    let options = BuildOptions { sources, ..BuildOptions::default() };
    let from_folder = build(&lab.store, "small", &definition, options, Arc::new(NoProgress)).await.unwrap();
    assert_eq!(from_folder.record.digest, made.record.digest);
}
