//! OCI images: archives and layouts of several layers, compared with what `debugfs` finds in the image.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use dozlab_rootfs::import::{ImportError, ImportOptions};
use dozlab_rootfs::{ImageRecord, NoProgress};
use sha2::{Digest, Sha256};
use tar::EntryType;

use super::support::{Entry, Lab, assert_is_sound, debugfs, inode, tar, write};

/// File capabilities of `ping`: version 2, `cap_net_raw` permitted and effective (`linux/capability.h`).
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn config(user: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
    serde_json::to_vec(&serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": { "User": user },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    }))
    .unwrap()
}

/// Writes a layout with these layers, which may be compressed; `plain` is what they are when they are not.
fn layout(folder: &Path, config: &[u8], layers: &[(&str, Vec<u8>)]) {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let blob = |media_type: &str, bytes: &[u8]| {
        write(&blobs.join(sha256(bytes)), bytes);
        serde_json::json!({
            "mediaType": format!("application/vnd.oci.image.{media_type}"),
            "digest": format!("sha256:{}", sha256(bytes)),
            "size": bytes.len(),
        })
    };
    let layers: Vec<_> =
        layers.iter().map(|(kind, bytes)| blob(&format!("layer.v1.{kind}"), bytes)).collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": blob("config.v1+json", config), "layers": layers,
    });
    let manifest = blob("manifest.v1+json", &serde_json::to_vec(&manifest).unwrap());
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [manifest] });
    write(&folder.join("index.json"), &serde_json::to_vec(&index).unwrap());
    write(&folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#);
}

async fn import(lab: &Lab, reference: &str) -> Result<ImageRecord, ImportError> {
    let options = ImportOptions::default();
    lab.store.import_oci("image", &reference.parse().unwrap(), options, Arc::new(NoProgress)).await
}

fn layers() -> [Vec<u8>; 3] {
    let big = (3_000_000_000, 2_000_000_000);
    [
        tar(&[
            Entry::folder("etc"),
            Entry::file("etc/passwd", b"root:x:0:0::/root:/bin/sh\nlab:x:1001:1001::/:/bin/sh\n"),
            Entry::file("etc/secret", b"below"),
            Entry { mode: 0o4755, owner: big, ..Entry::file("ping", b"program") },
            Entry::folder("cache"),
            Entry::file("cache/old", b"old"),
            Entry::symlink("lib", "usr/lib"),
        ]),
        tar(&[
            Entry::file("etc/.wh.secret", b""),
            Entry::file("cache/.wh..wh..opq", b""),
            Entry::file("cache/new", b"new"),
            Entry::hard_link("bin/ping", "ping"),
            Entry { device: (1, 3), mode: 0o666, ..Entry::new(EntryType::Char, "dev/null") },
            Entry { device: (259, 300_000), ..Entry::new(EntryType::Block, "dev/large") },
        ]),
        tar(&[
            Entry {
                records: &[("SCHILY.xattr.security.capability", CAPABILITY)],
                ..Entry::file("cap", b"x")
            },
            Entry::file("lib/through-the-link", b"x"),
            Entry::file("cache", b"now a file"),
        ]),
    ]
}

#[tokio::test]
async fn the_configurations_variables_and_folder_are_those_of_logins() {
    let lab = Lab::new();
    let plain = [tar(&[Entry::file("bin/sh", b"shell")])];
    let debian = [tar(&[
        Entry::folder("etc/profile.d"),
        Entry::file("real", b"OWN=1\n"),
        Entry::hard_link("etc/environment", "real"),
    ])];
    let odd = [tar(&[Entry::symlink("etc/environment", "/nowhere")])];
    for (name, layers, environment, profile) in [
        ("plain", &plain, "PATH=\"/opt/bin:/bin\"\nLEVEL=\"1 2\"\n", ""),
        ("debian", &debian, "PATH=\"/opt/bin:/bin\"\nLEVEL=\"1 2\"\nOWN=1\n", "export PATH='/opt/bin:/bin'"),
        ("odd", &odd, "", ""),
    ] {
        let mut configuration: serde_json::Value = serde_json::from_slice(&config("", layers)).unwrap();
        configuration["config"]["Env"] = serde_json::json!(["PATH=/opt/bin:/bin", "LEVEL=1 2", "BAD=a\nb"]);
        configuration["config"]["WorkingDir"] = "/srv/app".into();
        let folder = lab.path(name);
        layout(&folder, &serde_json::to_vec(&configuration).unwrap(), &[("tar", layers[0].clone())]);
        let image = lab.blob(&import(&lab, &format!("oci:{}", folder.display())).await.unwrap());
        assert_is_sound(&image);
        assert_eq!(debugfs(&image, "cat /etc/environment"), environment, "{name}");
        let said = debugfs(&image, "cat /etc/profile.d/image-path.sh");
        assert_eq!(said.lines().nth(1).unwrap_or_default(), profile, "{name}");
        let said = debugfs(&image, "cat /etc/profile.d/image-folder.sh");
        assert_eq!(said.contains("then cd '/srv/app'; fi"), name == "debian", "{said}");
    }
}

#[tokio::test]
async fn layers_of_every_compression_give_the_image_that_they_describe() {
    let lab = Lab::new();
    let layers = layers();
    let compressed = [
        ("tar+gzip", gzip(&layers[0])),
        ("tar+zstd", zstd::encode_all(&layers[1][..], 1).unwrap()),
        ("tar", layers[2].clone()),
    ];
    layout(&lab.path("layout"), &config("lab", &layers), &compressed);
    let record = import(&lab, &format!("oci:{}", lab.path("layout").display())).await.unwrap();
    assert_eq!(record.user, "lab");
    assert!(record.source.starts_with("oci:/"));
    let image = lab.blob(&record);
    assert_is_sound(&image);

    let time = 1_700_000_000;
    // `debugfs` shows an owner above 2^31 as the negative number of the same 32 bits.
    let owner = 3_000_000_000_u32.cast_signed();
    assert_eq!(inode(&image, "/ping"), format!("regular 04755 {owner} 2000000000 2 7 {time}"));
    assert_eq!(inode(&image, "/bin/ping"), inode(&image, "/ping"));
    assert_eq!(inode(&image, "/cache"), format!("regular 0644 0 0 1 10 {time}"));
    assert_eq!(inode(&image, "/usr/lib/through-the-link"), format!("regular 0644 0 0 1 1 {time}"));
    assert!(
        !debugfs(&image, "ls -p /etc").contains("secret") && !debugfs(&image, "ls -p /").contains(".wh.")
    );
    assert!(debugfs(&image, "stat /dev/null").contains("Device major/minor number: 01:03"));
    assert!(debugfs(&image, "stat /dev/large").contains("Device major/minor number: 259:300000"));
    let value: String = CAPABILITY.iter().map(|byte| format!("{byte:02x} ")).collect();
    assert!(debugfs(&image, "ea_get -x /cap security.capability").contains(value.trim_end()));
}

#[tokio::test]
async fn a_docker_archive_and_a_layout_of_the_same_layers_give_the_same_image() {
    let lab = Lab::new();
    let layers = layers();
    let config = config("", &layers);
    layout(&lab.path("layout"), &config, &layers.clone().map(|layer| ("tar", layer)));
    let record = import(&lab, &format!("oci:{}", lab.path("layout").display())).await.unwrap();
    assert_eq!(record.user, "root");

    let list = br#"[{"Config":"c.json","RepoTags":["lab:latest"],"Layers":["0.tar","1.tar","2.tar"]}]"#;
    let archive = tar(&[
        Entry::file("0.tar", &layers[0]),
        Entry::file("1.tar", &layers[1]),
        Entry::file("2.tar", &layers[2]),
        Entry::file("c.json", &config),
        Entry::file("manifest.json", list),
    ]);
    write(&lab.path("image.tar.gz"), &gzip(&archive));
    let other =
        import(&lab, &format!("docker-archive:{}", lab.path("image.tar.gz").display())).await.unwrap();
    assert_eq!(other.digest, record.digest);
}

#[tokio::test]
async fn what_was_changed_on_the_way_is_refused_and_leaves_nothing() {
    let lab = Lab::new();
    let layers = layers();
    let config = config("", &layers);
    let reference = format!("oci:{}", lab.path("layout").display());
    let blob = |bytes: &[u8]| lab.path("layout/blobs/sha256").join(sha256(bytes));
    let changed = |bytes: &[u8]| [&bytes[..600], b"!", &bytes[601..]].concat();

    layout(&lab.path("layout"), &config, &layers.clone().map(|layer| ("tar", layer)));
    write(&blob(&layers[2]), &changed(&layers[2]));
    let error = import(&lab, &reference).await.unwrap_err().to_string();
    assert!(error.contains("cannot be unpacked") && error.contains("is damaged"), "{error}");

    // The blob is what the manifest says, but not what the configuration says.
    let other = tar(&[Entry::file("etc/passwd", b"evil")]);
    layout(
        &lab.path("layout"),
        &config,
        &[("tar", layers[0].clone()), ("tar", layers[1].clone()), ("tar", other)],
    );
    let error = import(&lab, &reference).await.unwrap_err().to_string();
    assert!(error.contains("it unpacks to sha256:"), "{error}");

    std::fs::remove_file(blob(&layers[0])).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", blob(&layers[0])).unwrap();
    let error = import(&lab, &reference).await.unwrap_err().to_string();
    assert!(error.contains("cannot read"), "{error}");
    lab.assert_store_is_empty();
}
