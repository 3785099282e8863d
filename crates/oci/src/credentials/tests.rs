use super::*;

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn basic(user: &str, password: &str) -> RegistryAuth {
    RegistryAuth::Basic(user.into(), password.into())
}

async fn find(json: &str, image: &str) -> Result<RegistryAuth, CredentialError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    fs::write(&path, json).unwrap();
    let files = vec![folder.path().join("missing"), path];
    CredentialFiles { files, search_path: OsString::new() }.find(&reference(image)).await
}

#[test]
fn files_come_in_the_usual_order() {
    let files = |variables: &[(&str, &str)]| {
        let lookup =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
        CredentialFiles::from_env(lookup).files
    };
    assert_eq!(files(&[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/a")]), [Path::new("/a")]);
    let usual = ["/h/.config/containers/auth.json", "/h/.docker/config.json"].map(PathBuf::from);
    assert_eq!(files(&[("HOME", "/h"), ("DOCKER_CONFIG", "")]), usual);
    let all = ["/r/containers/auth.json", "/c/containers/auth.json", "/d/config.json"].map(PathBuf::from);
    assert_eq!(files(&[("XDG_RUNTIME_DIR", "/r"), ("XDG_CONFIG_HOME", "/c"), ("DOCKER_CONFIG", "/d")]), all);
    assert!(files(&[]).is_empty());
}

#[tokio::test]
async fn the_most_exact_entry_counts() {
    // me:secret, other:pass:word, plain:x
    let json = r#"{"auths": {
        "quay.io": {"auth": "bWU6c2VjcmV0"},
        "quay.io/labs": {"auth": "b3RoZXI6cGFzczp3b3Jk"},
        "https://index.docker.io/v1/": {"username": "hub", "password": "p"},
        "empty.io": {}, "token.io": {"registrytoken": "t"}
    }}"#;
    for (image, auth) in [
        ("quay.io/x", basic("me", "secret")),
        ("quay.io/labs/k8s", basic("other", "pass:word")),
        ("quay.io/labsx", basic("me", "secret")),
        ("busybox", basic("hub", "p")),
        ("token.io/x", RegistryAuth::Bearer("t".into())),
        ("empty.io/x", RegistryAuth::Anonymous),
        ("other.io/x", RegistryAuth::Anonymous),
    ] {
        assert_eq!(find(json, image).await.unwrap(), auth, "{image}");
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_said_without_the_secret() {
    for (json, words) in [
        (r#"{"auths": {"a.io": {"auth": "geheim!"}}}"#, "malformed at `auth` of `a.io`"),
        (r#"{"auths": {"a.io": {"auth": "geheim"#, "malformed at line 1"),
        (r#"{"auths": {"a.io": {"identitytoken": "geheim"}}}"#, "identity token"),
        (r#"{"credHelpers": {"a.io": "../evil"}}"#, "it is no name of a program"),
        (r#"{"credsStore": "there-is-none"}"#, "it cannot be run"),
    ] {
        let error = find(json, "a.io/x").await.unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("geheim"), "{error}");
    }
}
