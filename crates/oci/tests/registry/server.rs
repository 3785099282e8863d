//! The registry, and what is pushed to it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sha2::{Digest, Sha256};

pub(crate) const USER: &str = "lab";
pub(crate) const PASSWORD: &str = "geheim";
/// The password's bcrypt hash, with the fewest rounds.
const HTPASSWD: &str = "lab:$2b$04$34jeeJBgqx89zGmeU/4/neZH8os3Q4wXjteP7teX5cJK9lMO2Kud6\n";

/// A registry that lives as long as this value.
pub(crate) struct Registry {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) address: String,
    with_password: bool,
    process: Child,
}

impl Registry {
    pub(crate) fn start(with_password: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("htpasswd"), HTPASSWD).unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
             storage: {{filesystem: {{rootdirectory: '{}'}}, cache: {{}}}}\n",
            path("storage")
        );
        if with_password {
            config.push_str(&format!("auth: {{htpasswd: {{realm: lab, path: '{}'}}}}\n", path("htpasswd")));
        }
        fs::write(path("config.yml"), config).unwrap();
        let mut command = Command::new("docker-registry");
        command.args(["serve", &path("config.yml")]).stdin(Stdio::null()).stderr(Stdio::piped());
        command.env("OTEL_TRACES_EXPORTER", "none").process_group(0).stdout(Stdio::null());
        let mut process = command.spawn().expect("the Debian package docker-registry is installed");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("listening on ")?;
            Some(rest.chars().take_while(|each| each.is_ascii_digit() || ".:".contains(*each)).collect())
        });
        // It must not block on a full pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { folder, address: address.expect("the registry says where it listens"), with_password, process }
    }

    /// Pushes a layout with `skopeo`.
    pub(crate) fn push(&self, layout: &Path, name: &str) {
        let mut command = Command::new("skopeo");
        command.args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--all",
            "--preserve-digests",
            "--dest-tls-verify=false",
        ]);
        if self.with_password {
            command.arg(format!("--dest-creds={USER}:{PASSWORD}"));
        }
        command.arg(format!("oci:{}", layout.display())).arg(format!("docker://{}/{name}", self.address));
        let output = command.output().expect("the Debian package skopeo is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The file in which the registry keeps a blob.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        let digits = digest.strip_prefix("sha256:").unwrap();
        let blobs = self.folder.path().join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&digits[..2]).join(digits).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

fn blob(layout: &Path, media_type: &str, bytes: &[u8]) -> serde_json::Value {
    let digest = sha256(bytes);
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(digest.strip_prefix("sha256:").unwrap()), bytes).unwrap();
    let media_type = format!("application/vnd.oci.image.{media_type}");
    serde_json::json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
}

fn json(value: &serde_json::Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

/// The manifest of an image of one layer.
fn manifest(layout: &Path, architecture: &str, layer: &[u8]) -> serde_json::Value {
    let config = json(&serde_json::json!({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [sha256(layer)] },
    }));
    let manifest = json(&serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(layout, "config.v1+json", &config), "layers": [blob(layout, "layer.v1.tar", layer)],
    }));
    let mut manifest = blob(layout, "manifest.v1+json", &manifest);
    manifest["platform"] = serde_json::json!({ "architecture": architecture, "os": "linux" });
    manifest
}

fn write_layout(layout: &Path, entry: serde_json::Value) {
    fs::write(layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [entry] });
    fs::write(layout.join("index.json"), json(&index)).unwrap();
}

/// A layout of an image of one layer; returns the manifest's digest.
pub(crate) fn single(layout: &Path, layer: &[u8]) -> String {
    let manifest = manifest(layout, "amd64", layer);
    let digest = manifest["digest"].as_str().unwrap().to_owned();
    write_layout(layout, manifest);
    digest
}

/// A layout of an image for several architectures, each with a layer of its own.
pub(crate) fn several(layout: &Path, layers: &[(&str, &[u8])]) {
    let manifests: Vec<_> = layers.iter().map(|(name, layer)| manifest(layout, name, layer)).collect();
    let index = json(&serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests,
    }));
    let index = blob(layout, "index.v1+json", &index);
    write_layout(layout, index);
}
