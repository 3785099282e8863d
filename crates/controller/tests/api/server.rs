//! A real API server, which ends with the process that started it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

/// etcd and an API server, which end with this process: their script reads a pipe of ours.
pub(crate) struct Server {
    pub(crate) folder: PathBuf,
    script: Mutex<Script>,
}

struct Script {
    words: ChildStdin,
    answers: BufReader<ChildStdout>,
    _child: Child,
}

impl Server {
    pub(crate) fn start(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kube-apiserver");
        let mut child = Command::new(script)
            .arg("run")
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let words = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let server = Self { folder, script: Mutex::new(Script { words, answers, _child: child }) };
        server.wait_for("ready");
        server
    }

    /// Stops the API server, or starts it again.
    pub(crate) fn switch(&self, word: &str) {
        writeln!(self.script.lock().unwrap().words, "{word}").unwrap();
        self.wait_for(word);
    }

    fn wait_for(&self, word: &str) {
        let mut answer = String::new();
        self.script.lock().unwrap().answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), word, "see {}", self.folder.display());
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }
}
