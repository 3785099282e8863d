//! How to reach a lab, as `up` and `open` print it: links for a person, all of it for a script.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dozlab_local::{SessionFolder, SessionFolderError, SessionRecord, Stage};
use serde::Serialize;

use crate::cli::Format;
use crate::output::{self, line};

/// How to reach a lab. `Stages` is how long each stage of its start took, in milliseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Access<Stages> {
    pub(super) name: String,
    pub(super) terminal: Option<String>,
    pub(super) editor: Option<String>,
    pub(super) token: Option<String>,
    pub(super) editor_password: Option<String>,
    /// `null` for a lab on a cluster.
    pub(super) ssh: Option<SshAccess>,
    pub(super) stages: Stages,
    /// What else can be done: a word and a command.
    #[serde(skip)]
    pub(super) next: Option<(&'static str, String)>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SshAccess {
    host: String,
    port: u16,
    user: String,
    identity_file: PathBuf,
    known_hosts: PathBuf,
}

impl Access<BTreeMap<Stage, u64>> {
    /// The secret is in the links' fragments, which browsers do not send and servers do not log.
    pub(super) fn of(folder: &SessionFolder, record: &SessionRecord) -> Result<Self, SessionFolderError> {
        let (token, ssh) = (folder.token()?, folder.ssh(record));
        let has_editor = record.editor.is_some();
        Ok(Self {
            name: record.name().to_owned(),
            terminal: Some(format!("http://{}/#token={token}", record.terminal)),
            editor: has_editor.then(|| format!("http://{}/editor#token={token}", record.terminal)),
            editor_password: has_editor.then(|| folder.editor_password()).transpose()?,
            ssh: Some(SshAccess {
                host: ssh.address.ip().to_string(),
                port: ssh.address.port(),
                user: ssh.user,
                identity_file: ssh.identity_file,
                known_hosts: ssh.known_hosts,
            }),
            stages: record.stages.clone(),
            token: Some(token),
            next: Some(("Shell", format!("dozlab ssh {}", record.name()))),
        })
    }
}

impl<Stages: Serialize> Access<Stages> {
    pub(super) fn print(&self, format: Format) {
        output::print(format, self, || {
            line("");
            let links = [("Terminal", self.terminal.as_ref()), ("Editor", self.editor.as_ref())];
            let next = self.next.as_ref().map(|(word, command)| (*word, Some(command)));
            for (word, text) in links.into_iter().chain(next) {
                if let Some(text) = text {
                    line(&format!("  {word:<10}{text}"));
                }
            }
            line("");
        });
    }
}
