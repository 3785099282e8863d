//! Who may pull: user and password for a registry, from the files that `docker login` and `podman login` write.
//!
//! Looked up in this order; the first file that knows the registry wins:
//!
//! 1. `$REGISTRY_AUTH_FILE`, and then no other file;
//! 2. `$XDG_RUNTIME_DIR/containers/auth.json`, `$XDG_CONFIG_HOME/containers/auth.json` (`~/.config`);
//! 3. `$DOCKER_CONFIG/config.json` (`~/.docker`).
//!
//! The forms are those of [containers-auth.json(5)](https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md)
//! and of Docker's [credential helpers](https://github.com/docker/docker-credential-helpers). A helper that a file
//! names is run, found on the `PATH`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_client::Reference;
use oci_client::secrets::RegistryAuth;
use rustix::process::Signal;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A helper may ask a person for a passphrase, but not for ever.
const HELPER_TIME: Duration = Duration::from_secs(60);
/// How Docker's files call Docker's own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The files in which credentials are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialFiles {
    files: Vec<PathBuf>,
    /// The `PATH` on which helpers are found.
    search_path: OsString,
}

/// Credentials are there but cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file cannot be read.
    #[error("cannot read the registry credentials {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what `docker login` or `podman login` writes. What is in it is secret and not shown.
    #[error("the registry credentials {} are malformed at {reason}: log in again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where.
        reason: String,
    },
    /// A helper cannot be run, or failed.
    #[error("the credential helper `{program}` failed for {registry}: {reason}")]
    Helper {
        /// The program.
        program: String,
        /// The registry.
        registry: String,
        /// What went wrong.
        reason: String,
    },
    /// Only an identity token is there.
    #[error(
        "for {registry} there is an identity token, which is not supported: log in with user and password"
    )]
    IdentityToken {
        /// The registry.
        registry: String,
    },
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: HashMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// What a helper prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

impl CredentialFiles {
    /// The usual files, as these environment variables say.
    #[must_use]
    pub fn from_env(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let search_path = lookup("PATH").unwrap_or_default();
        let folder = |name: &str| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(file) = folder("REGISTRY_AUTH_FILE") {
            return Self { files: vec![file], search_path };
        }
        let home = folder("HOME");
        let below_home = |part: &str| home.as_ref().map(|home| home.join(part));
        let config = folder("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
        let docker = folder("DOCKER_CONFIG").or_else(|| below_home(".docker"));
        let containers = |folder: PathBuf| folder.join("containers/auth.json");
        let files = [
            folder("XDG_RUNTIME_DIR").map(containers),
            config.map(containers),
            docker.map(|folder| folder.join("config.json")),
        ];
        Self { files: files.into_iter().flatten().collect(), search_path }
    }

    /// The credentials for this image's registry; anonymous where no file has any.
    pub(crate) async fn find(&self, reference: &Reference) -> Result<RegistryAuth, CredentialError> {
        for path in &self.files {
            let Some(file) = read(path)? else { continue };
            if let Some(found) = file.find(reference, path, &self.search_path).await? {
                return Ok(found);
            }
        }
        Ok(RegistryAuth::Anonymous)
    }
}

fn read(path: &Path) -> Result<Option<File>, CredentialError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CredentialError::Read { path: path.to_owned(), source }),
    };
    let place = |error: serde_json::Error| format!("line {}, column {}", error.line(), error.column());
    let malformed = |error| CredentialError::Malformed { path: path.to_owned(), reason: place(error) };
    serde_json::from_slice(&text).map(Some).map_err(malformed)
}

impl File {
    async fn find(
        &self,
        reference: &Reference,
        path: &Path,
        search_path: &OsStr,
    ) -> Result<Option<RegistryAuth>, CredentialError> {
        let registry = reference.registry();
        let server = if registry == "docker.io" { DOCKER_HUB } else { registry };
        let helper = self.cred_helpers.get(server).or_else(|| self.cred_helpers.get(registry));
        if let Some(helper) = helper.or(self.creds_store.as_ref())
            && let Some(found) = ask(helper, server, search_path).await?
        {
            return Ok(Some(found));
        }
        let keys = keys(reference);
        let Some((key, entry)) = keys.iter().find_map(|key| self.auths.get_key_value(key)) else {
            return Ok(None);
        };
        entry.auth(key, registry, path)
    }
}

/// What an entry for this image may be called, the most exact first: `host/name/space`, `host/name`, `host`, and
/// Docker's URLs of the host.
fn keys(reference: &Reference) -> Vec<String> {
    let (registry, mut path) = (reference.registry(), reference.repository());
    let mut keys = Vec::new();
    loop {
        keys.push(format!("{registry}/{path}"));
        let Some((shorter, _)) = path.rsplit_once('/') else { break };
        path = shorter;
    }
    let hosts: &[&str] = if registry == "docker.io" {
        &["docker.io", "index.docker.io"]
    } else {
        std::slice::from_ref(&registry)
    };
    for host in hosts {
        keys.extend([
            (*host).to_owned(),
            format!("https://{host}"),
            format!("https://{host}/v1/"),
            format!("https://{host}/v2/"),
            format!("http://{host}"),
        ]);
    }
    keys
}

impl Entry {
    fn auth(&self, key: &str, registry: &str, path: &Path) -> Result<Option<RegistryAuth>, CredentialError> {
        if let Some(token) = non_empty(self.registrytoken.as_ref()) {
            return Ok(Some(RegistryAuth::Bearer(token.clone())));
        }
        if non_empty(self.identitytoken.as_ref()).is_some() {
            return Err(CredentialError::IdentityToken { registry: registry.to_owned() });
        }
        if let Some(auth) = non_empty(self.auth.as_ref()) {
            let malformed = || CredentialError::Malformed {
                path: path.to_owned(),
                reason: format!("`auth` of `{}`", key.escape_debug()),
            };
            let decoded = STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let decoded = decoded.ok_or_else(malformed)?;
            let (user, password) = decoded.split_once(':').ok_or_else(malformed)?;
            // Docker once padded passwords with NULs.
            let password = password.trim_end_matches('\0');
            return Ok(Some(RegistryAuth::Basic(user.to_owned(), password.to_owned())));
        }
        // An empty entry says that a helper has the secret, or that there is none.
        Ok(match (&self.username, &self.password) {
            (Some(user), Some(password)) => Some(RegistryAuth::Basic(user.clone(), password.clone())),
            _ => None,
        })
    }
}

fn non_empty(text: Option<&String>) -> Option<&String> {
    text.filter(|text| !text.is_empty())
}

/// Asks `docker-credential-HELPER`; `None` where it knows nothing of the registry.
async fn ask(
    helper: &str,
    registry: &str,
    search_path: &OsStr,
) -> Result<Option<RegistryAuth>, CredentialError> {
    let program = format!("docker-credential-{helper}");
    let failed = |reason: String| CredentialError::Helper {
        program: program.escape_debug().to_string(),
        registry: registry.to_owned(),
        reason,
    };
    let is_name = !helper.is_empty()
        && helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !is_name {
        return Err(failed("it is no name of a program".to_owned()));
    }
    let mut command = Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    command.env("PATH", search_path);
    dozlab_process::bind_to_parent(&mut command, Signal::KILL);
    let mut child = command.spawn().map_err(|error| failed(format!("it cannot be run: {error}")))?;
    let mut stdin = child.stdin.take().expect("standard input was asked to be a pipe");
    let talk = async {
        // A helper that does not read says why by its exit status.
        let _ = stdin.write_all(registry.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(HELPER_TIME, talk)
        .await
        .map_err(|_| failed(format!("no answer within {} s", HELPER_TIME.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(format!("{}: {}", output.status, said.trim().escape_debug())));
    }
    let answer: HelperAnswer = serde_json::from_slice(&output.stdout)
        .map_err(|_| failed("its answer is not understood".to_owned()))?;
    if answer.username == "<token>" {
        return Err(CredentialError::IdentityToken { registry: registry.to_owned() });
    }
    Ok(Some(RegistryAuth::Basic(answer.username, answer.secret)))
}

#[cfg(test)]
mod tests;
