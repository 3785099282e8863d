use super::*;
use crate::blob::sha256;
use tar::{Builder, Header};

enum Part<'a> {
    File(&'a str, &'a [u8]),
    Link(&'a str, &'a str),
}

fn tar(parts: &[Part<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for part in parts {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        match part {
            Part::File(name, body) => {
                header.set_size(body.len() as u64);
                builder.append_data(&mut header, name, *body).unwrap();
            }
            Part::Link(name, target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, name, target).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| sha256(layer).to_string()).collect();
    serde_json::to_vec(&serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": { "User": "lab" },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    }))
    .unwrap()
}

fn docker(archive: &[u8], tag: Option<&str>) -> Result<crate::Image, ArchiveError> {
    let folder = tempfile::tempdir().unwrap();
    Ok(unpack(ArchiveKind::Docker, archive, folder.path(), tag, 1 << 20)?.image(None)?)
}

const LIST: &[u8] =
    br#"[{"Config":"c.json","RepoTags":["lab:latest"],"Layers":["one/layer.tar","two/layer.tar"]}]"#;

#[test]
fn a_docker_archive_becomes_a_layout_and_its_links_lead_to_their_layers() {
    let config = config(&[b"first", b"first"]);
    let archive = tar(&[
        Part::File("one/layer.tar", b"first"),
        Part::Link("two/layer.tar", "../one/layer.tar"),
        Part::File("c.json", &config),
        Part::File("manifest.json", LIST),
    ]);
    for tag in [None, Some("lab"), Some("lab:latest")] {
        let image = docker(&archive, tag).unwrap();
        let layers: Vec<_> = image.layers().iter().map(|layer| layer.descriptor.digest().clone()).collect();
        assert_eq!(layers, [sha256(b"first"), sha256(b"first")]);
        assert_eq!(image.configuration().config().as_ref().unwrap().user().as_deref(), Some("lab"));
    }
    let error = docker(&archive, Some("other")).unwrap_err().to_string();
    assert_eq!(error, "there is no image `other`: there are lab:latest");
}

#[test]
fn what_is_missing_or_too_large_is_said() {
    let config = config(&[b"first", b"second"]);
    for (parts, words) in [
        (vec![], "has no `manifest.json`"),
        (vec![Part::File("manifest.json", LIST)], "has no `one/layer.tar`"),
        (vec![Part::File("manifest.json", b"[]")], "list of images is empty"),
        (vec![Part::File("manifest.json", b"{")], "list of images"),
        (
            vec![
                Part::Link("one/layer.tar", "layer.tar"),
                Part::Link("one/layer.tar", "./layer.tar"),
                Part::File("c.json", &config),
                Part::File("manifest.json", LIST),
            ],
            "has no `one/layer.tar`",
        ),
        (vec![Part::File("big", &[7; 1 << 20]), Part::File("bigger", b"x")], "more than 1048576 bytes"),
    ] {
        let error = docker(&tar(&parts), None).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn an_oci_archive_is_a_layout_in_a_tar_and_nothing_of_it_lands_elsewhere() {
    let layer = b"layer";
    let config = config(&[layer]);
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(&config), "size": config.len() },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": sha256(layer), "size": layer.len() }],
    }))
    .unwrap();
    let index = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha256(&manifest), "size": manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": "v1" },
        }],
    }))
    .unwrap();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", sha256(bytes).digest());
    let (one, two, three) = (blob(layer), blob(&config), blob(&manifest));
    let archive = tar(&[
        Part::File("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        Part::File("index.json", &index),
        Part::File(&one, layer),
        Part::File(&two, &config),
        Part::File(&three, &manifest),
        Part::File("blobs/sha256/evil", b"not a digest"),
        Part::File("evil", b"somewhere else"),
    ]);
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("layout");
    let layout = unpack(ArchiveKind::Oci, archive.as_slice(), &folder, None, 1 << 20).unwrap();
    let image = layout.image(Some("v1")).unwrap();
    let mut read = Vec::new();
    layout.open_blob(&image.layers()[0].descriptor).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, layer);
    assert_eq!(fs::read_dir(folder.join("blobs/sha256")).unwrap().count(), 3);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);

    fs::write(folder.join(&two), b"{}").unwrap();
    assert!(layout.image(None).unwrap_err().to_string().contains("is damaged"));
    assert!(layout.image(Some("v2")).unwrap_err().to_string().contains("there are v1"));
}
