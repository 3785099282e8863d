//! The session's secrets, and the Secrets that hold them.
//!
//! There are two, by the names of existing ones: `lab-session-ID-secrets` with the editor's password and the secret of
//! the terminal's links, and `lab-session-ID-ssh` with the learner's key pair and the VM's. Under the controller one
//! holds everything, which is a write less for each session. Containers get single keys of them, as variables: the
//! private key goes to the terminal alone, the VM's host key to the VM's container alone.

use std::collections::BTreeMap;
use std::fmt;

use dozlab_keys::{KeyPair, KeyPairError, token};
use dozlab_session::id::SessionId;
use dozlab_session::secret::Secret as SecretText;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::pod::Lab;

/// Length of the token in the terminal's links, in characters of about six bits.
const TOKEN_LENGTH: usize = 32;
/// Length of an editor's password that nobody chose.
const PASSWORD_LENGTH: usize = 24;

/// The names of the Secrets that the pod refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretNames {
    /// Holds the editor's password and the terminal's token.
    pub session: String,
    /// Holds the two key pairs.
    pub ssh: String,
}

impl SecretNames {
    /// The usual names: `lab-session-ID-secrets` and `lab-session-ID-ssh`.
    #[must_use]
    pub fn of(id: &SessionId) -> Self {
        Self { session: id.secrets_name(), ssh: format!("{}-ssh", id.pod_name()) }
    }

    /// One Secret for everything, `lab-session-ID-ssh`: that of sessions that the controller makes.
    #[must_use]
    pub fn in_one(id: &SessionId) -> Self {
        let Self { ssh, .. } = Self::of(id);
        Self { session: ssh.clone(), ssh }
    }
}

/// A key in one of the Secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKey {
    /// The editor's password; in the session's Secret.
    VscodePassword,
    /// The secret in the terminal's links; in the session's Secret.
    TerminalToken,
    /// The learner's private key; in the Secret of the keys, like all that follow.
    PrivateKey,
    /// The learner's public key.
    PublicKey,
    /// The VM's host key.
    HostKey,
    /// Its public half.
    HostPublicKey,
}

impl SecretKey {
    /// The key's name. Those of the password and of the learner's pair are the existing ones.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VscodePassword => "vscode-password",
            Self::TerminalToken => "terminal-token",
            Self::PrivateKey => "id_ed25519",
            Self::PublicKey => "id_ed25519.pub",
            Self::HostKey => "ssh_host_ed25519_key",
            Self::HostPublicKey => "ssh_host_ed25519_key.pub",
        }
    }
}

/// All secrets of one session.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionSecrets {
    /// The editor's password.
    pub vscode_password: SecretText,
    /// The secret in the terminal's links.
    pub terminal_token: SecretText,
    /// The learner's key pair.
    pub learner: KeyPair,
    /// The VM's host key pair.
    pub host: KeyPair,
}

/// Shows no part of any.
impl fmt::Debug for SessionSecrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SessionSecrets").finish_non_exhaustive()
    }
}

impl SessionSecrets {
    /// Makes the secrets of a session, but for an editor's password that somebody chose.
    ///
    /// # Errors
    /// [`KeyPairError`].
    pub fn generate(id: &SessionId, vscode_password: Option<SecretText>) -> Result<Self, KeyPairError> {
        Ok(Self {
            vscode_password: vscode_password.unwrap_or_else(|| SecretText::new(token(PASSWORD_LENGTH))),
            terminal_token: SecretText::new(token(TOKEN_LENGTH)),
            learner: KeyPair::generate(&format!("dozlab-session-{id}"))?,
            host: KeyPair::generate(&format!("dozlab-vm-{id}"))?,
        })
    }

    /// The Secrets that hold them: two, or one where both have the same name.
    pub(crate) fn objects(&self, lab: Lab<'_>) -> Vec<Secret> {
        let names = lab.options.secret_names(&lab.plan.session_id);
        let for_people = [
            (SecretKey::VscodePassword, self.vscode_password.reveal()),
            (SecretKey::TerminalToken, self.terminal_token.reveal()),
        ];
        let keys = [
            (SecretKey::PrivateKey, self.learner.private.as_str()),
            (SecretKey::PublicKey, &self.learner.public),
            (SecretKey::HostKey, &self.host.private),
            (SecretKey::HostPublicKey, &self.host.public),
        ];
        if names.session == names.ssh {
            return vec![secret(lab, names.ssh, &[&for_people[..], &keys].concat())];
        }
        vec![secret(lab, names.session, &for_people), secret(lab, names.ssh, &keys)]
    }
}

fn secret(lab: Lab<'_>, name: String, content: &[(SecretKey, &str)]) -> Secret {
    let content = content.iter().map(|(key, text)| (key.as_str().to_owned(), ByteString((*text).into())));
    Secret {
        metadata: lab.metadata(name),
        type_: Some("Opaque".to_owned()),
        data: Some(content.collect::<BTreeMap<_, _>>()),
        ..Secret::default()
    }
}
