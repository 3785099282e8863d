use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;

use russh::keys::Algorithm;
use russh::keys::ssh_key::LineEnding;

use super::*;

const TOKEN: &str = "correct-horse-battery-staple";

/// A complete environment.
fn complete() -> HashMap<&'static str, String> {
    let random_key = || PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    HashMap::from([
        ("SESSION_ID", "lab-1".to_owned()),
        ("SESSION_TOKEN", TOKEN.to_owned()),
        ("VM_IP", "172.16.0.2".to_owned()),
        ("SSH_PRIVATE_KEY", random_key().to_openssh(LineEnding::LF).unwrap().to_string()),
        ("SSH_HOST_KEY", random_key().public_key().to_openssh().unwrap()),
    ])
}

fn read(environment: &HashMap<&'static str, String>) -> Result<Config, ConfigError> {
    Config::from_env(|name| environment.get(name).cloned())
}

/// The configuration with some variables besides or instead of the complete ones.
fn with(variables: &[(&'static str, &str)]) -> Result<Config, ConfigError> {
    let mut environment = complete();
    environment.extend(variables.iter().map(|(name, value)| (*name, (*value).to_owned())));
    read(&environment)
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = with(&[("SSH_USER", ""), ("PORT", " ")]).unwrap();
    assert_eq!(config.listen, "0.0.0.0:8081".parse().unwrap());
    assert_eq!(config.vm_address, "172.16.0.2:22".parse().unwrap());
    assert_eq!(config.ssh_user, "lab-user");
    assert_eq!(config.max_terminals, 32);
    assert!(config.allowed_origins.is_empty() && config.editor.is_none() && config.expires_at.is_none());
}

#[test]
fn each_required_variable_is_missed_by_name() {
    for required in ["SESSION_ID", "SESSION_TOKEN", "SSH_PRIVATE_KEY", "SSH_HOST_KEY"] {
        let mut environment = complete();
        environment.remove(required);
        let error = read(&environment).unwrap_err();
        assert!(matches!(error, ConfigError::Missing { variable, .. } if variable == required), "{error}");
        assert!(error.to_string().starts_with(&format!("{required} is not set: ")), "{error}");
    }
}

#[test]
fn values_that_make_no_sense_are_refused_with_what_is_expected() {
    for (variable, value, expected) in [
        ("SESSION_ID", "a b", "letters, digits"),
        ("SESSION_ID", "../x", "letters, digits"),
        ("SESSION_TOKEN", "fifteen-letters", "at least 16 characters"),
        ("VM_IP", "vm.example", "not an IP address"),
        ("VM_SSH_PORT", "66000", "a TCP port"),
        ("HOST", "everywhere", "an IP address"),
        ("PORT", "-1", "a TCP port"),
        ("MAX_CONCURRENT_SESSIONS", "many", "a number of terminals"),
        ("SSH_PRIVATE_KEY", "-----BEGIN NONSENSE-----", "private key in PEM"),
        ("SSH_HOST_KEY", "ssh-ed25519 nonsense", "public key line"),
        ("ALLOWED_ORIGINS", "https://a.example, b.example", "`b.example` is not an origin"),
        ("EDITOR_URL", "127.0.0.1:8080", "not an address"),
        ("EDITOR_URL", "https://editor.example", "not plain http"),
        ("SESSION_EXPIRES_AT", "tomorrow", "seconds since the epoch"),
    ] {
        let error = with(&[(variable, value), ("EDITOR_PASSWORD", "x")]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{variable} is wrong: ")) && error.contains(expected), "{error}");
    }
}

#[test]
fn secrets_are_neither_in_errors_nor_in_debug_output() {
    let config = with(&[("EDITOR_URL", "http://127.0.0.1:8080"), ("EDITOR_PASSWORD", "hush-hush")]).unwrap();
    let shown = format!("{config:?} {:?}", config.session_token);
    assert!(!shown.contains(TOKEN) && !shown.contains("hush") && !shown.contains("PRIVATE"), "{shown}");
    let error = with(&[("SESSION_TOKEN", "short-secret")]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("short-secret"));
}

#[test]
fn secrets_and_keys_are_read_from_files_that_variables_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut environment = complete();
    for (variable, file_variable) in [
        ("SESSION_TOKEN", "SESSION_TOKEN_FILE"),
        ("SSH_PRIVATE_KEY", "SSH_PRIVATE_KEY_FILE"),
        ("SSH_HOST_KEY", "SSH_HOST_KEY_FILE"),
    ] {
        let path = folder.path().join(variable);
        fs::write(&path, environment.remove(variable).unwrap() + "\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        environment.insert(file_variable, path.to_str().unwrap().to_owned());
    }
    let config = read(&environment).unwrap();
    assert_eq!(config.session_token.reveal(), TOKEN, "the line end does not count");

    environment.insert("SSH_HOST_KEY_FILE", "/no/such/key".to_owned());
    let error = read(&environment).unwrap_err().to_string();
    assert!(error.starts_with("cannot read /no/such/key, which SSH_HOST_KEY_FILE names: "), "{error}");
}

#[test]
fn the_vms_address_comes_from_the_network_config_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network-config");
    let mut environment = complete();
    environment.insert("NETWORK_CONFIG_PATH", path.to_str().unwrap().to_owned());
    fs::write(&path, "GATEWAY_IP=172.16.0.1\nVM_IP=172.16.0.9\nPOD_IP=10.0.0.7\nTAP_DEVICE=tap0\n").unwrap();
    assert_eq!(read(&environment).unwrap().vm_address.to_string(), "172.16.0.9:22");

    fs::write(&path, "GATEWAY_IP=172.16.0.1\n").unwrap();
    assert_eq!(read(&environment).unwrap().vm_address.to_string(), "172.16.0.2:22");
    environment.remove("VM_IP");
    let error = read(&environment).unwrap_err();
    assert!(matches!(error, ConfigError::Missing { variable: "VM_IP", .. }), "{error}");
    fs::write(&path, "VM_IP=\n").unwrap();
    assert!(read(&environment).unwrap_err().to_string().contains("is not an IP address"));
    fs::remove_file(&path).unwrap();
    assert!(matches!(read(&environment), Err(ConfigError::File { .. })));
}

#[test]
fn the_end_of_the_session_is_read_in_both_notations() {
    let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_882_400);
    for value in ["1769882400", "2026-01-31T18:00:00Z", "2026-01-31T20:00:00+02:00"] {
        assert_eq!(with(&[("SESSION_EXPIRES_AT", value)]).unwrap().expires_at, Some(expected), "{value}");
    }
}

#[test]
fn an_editor_needs_its_password() {
    let url = ("EDITOR_URL", "http://127.0.0.1:8080");
    let error = with(&[url]).unwrap_err();
    assert!(matches!(error, ConfigError::Missing { variable: "EDITOR_PASSWORD", .. }), "{error}");
    let editor = with(&[url, ("EDITOR_PASSWORD", "hush-hush\n")]).unwrap().editor.unwrap();
    assert_eq!((editor.url.port_u16(), editor.password.reveal()), (Some(8080), "hush-hush"));
}
