//! S3 and Google Cloud Storage, as a small server on loopback has them. The credentials come from the environment, so
//! each fetch is a process of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::server::{Answer, Server, content};

/// Fetches with nothing but these variables.
fn fetch(location: &str, target: &Path, variables: &[(&str, &str)]) -> Output {
    let tests = std::env::current_exe().unwrap();
    let program: PathBuf = tests.parent().and_then(Path::parent).unwrap().join("examples/fetch");
    assert!(program.exists(), "{} is not built: run the tests of the whole package", program.display());
    Command::new(program)
        .arg(location)
        .arg(target)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn s3_requests_are_signed_and_the_signature_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let body = content(2 << 20);
    let served = body.clone();
    let server = Server::new(move |request, _| {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let is_signed = query.contains("X-Amz-Signature=") && query.contains("Credential=AKIATEST");
        match (path, is_signed) {
            ("/bucket/images/vm.zst", true) => Answer::file(request, &served, "\"v1\""),
            ("/bucket/images/vm.zst", false) => Answer::new(403, b""),
            _ => Answer::new(404, b""),
        }
    });
    let variables = [
        ("AWS_ACCESS_KEY_ID", "AKIATEST"),
        ("AWS_SECRET_ACCESS_KEY", "s3cret"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL", server.address.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
    ];
    let output = fetch("s3://bucket/images/vm.zst", &target, &variables);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::read(&target).unwrap() == body);

    let output = fetch("s3://bucket/images/none", &target, &variables);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("s3://bucket/images/none") && said.contains("404"), "{said}");
    assert!(!said.contains("Signature") && !said.contains("s3cret"), "{said}");

    let public = [variables[2], variables[3], variables[4], ("AWS_SKIP_SIGNATURE", "true")];
    let output = fetch("s3://bucket/images/vm.zst", &target, &public);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("403"), "the request without credentials was signed: {said}");
}

#[test]
fn google_requests_go_to_the_bucket_and_an_emulator_needs_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let body = content(2 << 20);
    let served = body.clone();
    let server = Server::new(move |request, _| {
        if request.path == "/bucket/images/vm%20one.zst" && request.header("authorization").is_none() {
            return Answer::file(request, &served, "\"v1\"");
        }
        Answer::new(404, b"")
    });
    let account = r#"{"private_key":"x","private_key_id":"x","client_email":"x","disable_oauth":true}"#;
    let variables = [("GOOGLE_SERVICE_ACCOUNT_KEY", account), ("GOOGLE_BASE_URL", server.address.as_str())];
    let output = fetch("gs://bucket/images/vm one.zst", &target, &variables);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::read(&target).unwrap() == body);
}
