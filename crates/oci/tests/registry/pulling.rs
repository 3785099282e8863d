//! By tag, by digest, for this platform, with and without a password, over a bad connection, and changed on the way.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use dozlab_oci::credentials::CredentialFiles;
use dozlab_oci::registry::{PullError, PullOptions, RemoteImage};
use dozlab_oci::{Image, ImageReference};

use super::cutter::Cutter;
use super::server::{PASSWORD, Registry, USER, several, sha256, single};

async fn pull(reference: &str, folder: &Path, options: &PullOptions) -> Result<Image, PullError> {
    let ImageReference::Registry(reference) = reference.parse().unwrap() else { panic!("{reference}") };
    let arrived = AtomicU64::new(0);
    let remote = RemoteImage::find(&reference, options).await?;
    let image = remote.download(folder, &|count| arrived.store(count, Ordering::Relaxed)).await?;
    assert!(arrived.into_inner() >= remote.size());
    Ok(image)
}

fn layer(image: &Image) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.layout().open_blob(&image.layers()[0].descriptor).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Bytes that do not repeat.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(count)
    .collect()
}

#[tokio::test]
async fn an_image_is_pulled_by_tag_and_by_digest() {
    let registry = Registry::start(false);
    let here = tempfile::tempdir().unwrap();
    let body = noise(300_000);
    let digest = single(&here.path().join("pushed"), &body);
    registry.push(&here.path().join("pushed"), "labs/one:v1");
    for (number, name) in ["labs/one:v1".to_owned(), format!("labs/one@{digest}")].iter().enumerate() {
        let folder = here.path().join(number.to_string());
        let reference = format!("oci://{}/{name}", registry.address);
        let image = pull(&reference, &folder, &PullOptions::default()).await.unwrap();
        assert_eq!(image.digest().to_string(), digest);
        assert_eq!(layer(&image), body);
    }
    for name in ["labs/one:v2", "labs/none:v1"] {
        let reference = format!("oci://{}/{name}", registry.address);
        let error = pull(&reference, &here.path().join("x"), &PullOptions::default()).await.unwrap_err();
        assert!(matches!(error, PullError::NotFound { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn of_several_platforms_this_machines_is_pulled() {
    let registry = Registry::start(false);
    let here = tempfile::tempdir().unwrap();
    several(&here.path().join("all"), &[("s390x", b"other"), ("amd64", b"amd64"), ("arm64", b"arm64")]);
    registry.push(&here.path().join("all"), "all");
    let reference = format!("oci://{}/all", registry.address);
    let image = pull(&reference, &here.path().join("one"), &PullOptions::default()).await.unwrap();
    let expected = if cfg!(target_arch = "x86_64") { b"amd64" } else { b"arm64" };
    assert_eq!(layer(&image), expected);

    several(&here.path().join("few"), &[("s390x", b"other"), ("riscv64", b"riscv")]);
    registry.push(&here.path().join("few"), "few");
    let reference = format!("oci://{}/few", registry.address);
    let error =
        pull(&reference, &here.path().join("two"), &PullOptions::default()).await.unwrap_err().to_string();
    assert!(error.contains("only for: linux/s390x, linux/riscv64"), "{error}");
}

#[tokio::test]
async fn a_password_is_taken_from_the_usual_file_or_a_helper() {
    let registry = Registry::start(true);
    let here = tempfile::tempdir().unwrap();
    single(&here.path().join("pushed"), b"layer");
    registry.push(&here.path().join("pushed"), "secret");
    let reference = format!("oci://{}/secret", registry.address);
    let attempt = async |name: &str, config: String| {
        fs::write(here.path().join("config.json"), config).unwrap();
        let file = here.path().join("config.json").into_os_string();
        let search_path = format!("{}:/usr/bin:/bin", here.path().display());
        let lookup = |name: &str| match name {
            "REGISTRY_AUTH_FILE" => Some(file.clone()),
            "PATH" => Some(search_path.clone().into()),
            _ => None,
        };
        let options =
            PullOptions { credentials: CredentialFiles::from_env(lookup), ..PullOptions::default() };
        pull(&reference, &here.path().join(name), &options).await
    };
    let address = &registry.address;
    let entry = |password: &str| {
        format!(r#"{{"auths": {{"{address}": {{"username": "{USER}", "password": "{password}"}}}}}}"#)
    };
    assert_eq!(layer(&attempt("right", entry(PASSWORD)).await.unwrap()), b"layer");
    for (name, config) in [("wrong", entry("falsch")), ("none", "{}".to_owned())] {
        let error = attempt(name, config).await.unwrap_err();
        assert!(matches!(error, PullError::Unauthorized { .. }), "{error}");
        assert!(!error.to_string().contains("falsch"), "{error}");
    }

    let helper = here.path().join("docker-credential-dozlabtest");
    let answer = format!(r#"{{"ServerURL":"x","Username":"{USER}","Secret":"{PASSWORD}"}}"#);
    fs::write(
        &helper,
        format!("#!/bin/sh\n[ \"$1\" = get ] && [ \"$(cat)\" = {address} ] && echo '{answer}'\n"),
    )
    .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&helper, mode).unwrap();
    let helped = attempt("helped", r#"{"credsStore": "dozlabtest"}"#.to_owned()).await;
    assert_eq!(layer(&helped.unwrap()), b"layer");
}

#[tokio::test]
async fn a_broken_connection_is_taken_up_where_it_broke() {
    let registry = Registry::start(false);
    let here = tempfile::tempdir().unwrap();
    let body = noise(2_000_000);
    single(&here.path().join("pushed"), &body);
    registry.push(&here.path().join("pushed"), "large");
    let cutter = Cutter::start(&registry.address, 3, 700_000).await;
    let reference = format!("oci://{}/large", cutter.address);
    let image = pull(&reference, &here.path().join("pulled"), &PullOptions::default()).await.unwrap();
    assert_eq!(layer(&image), body);
    assert!(cutter.connections.load(Ordering::Relaxed) >= 3);
}

#[tokio::test]
async fn what_was_changed_in_the_registry_is_refused() {
    let registry = Registry::start(false);
    let here = tempfile::tempdir().unwrap();
    let body = noise(100_000);
    let digest = single(&here.path().join("pushed"), &body);
    registry.push(&here.path().join("pushed"), "lab");
    let reference = format!("oci://{}/lab", registry.address);

    let mut changed = body.clone();
    changed[50_000] ^= 1;
    for (name, bytes) in [("changed", changed), ("longer", [body.as_slice(), b"x"].concat())] {
        fs::write(registry.blob(&sha256(&body)), bytes).unwrap();
        let error = pull(&reference, &here.path().join(name), &PullOptions::default()).await.unwrap_err();
        assert!(matches!(error, PullError::Tampered { .. }), "{name}: {error}");
    }
    let manifest = registry.blob(&digest);
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"schemaVersion\":2", "\"schemaVersion\": 2")).unwrap();
    let by_digest = format!("oci://{}/lab@{digest}", registry.address);
    let error = pull(&by_digest, &here.path().join("manifest"), &PullOptions::default()).await.unwrap_err();
    assert!(matches!(error, PullError::Tampered { .. }), "{error}");
}
