//! Starting a child whose life is bound to ours, and ending it in order.

use std::io;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getppid, kill_process_group, set_parent_process_death_signal, waitid,
};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;

use crate::{Identity, last_lines};

/// How much of what a child says on standard error is kept.
const LAST_WORDS: usize = 8 * 1024;

/// How often a child that was asked to end is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Makes the child of this command receive `signal` when the thread that spawns it ends, and lead a process group of
/// its own.
///
/// The kernel binds the signal to the spawning *thread*: spawn from a thread that lives as long as the program, which
/// the main thread of a current-thread runtime does.
pub fn bind_to_parent(command: &mut Command, signal: Signal) -> &mut Command {
    command.process_group(0);
    let parent = rustix::process::getpid();
    #[allow(unsafe_code)]
    // SAFETY: the closure runs between fork and exec and only makes two system calls that are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(signal))?;
            // The parent may have died before the call above took effect.
            if getppid() != Some(parent) {
                return Err(io::Error::other("the parent process has ended"));
            }
            Ok(())
        })
    }
}

/// A running child, bound to us, that is ended in order: SIGTERM to it, then SIGKILL to its whole group.
#[derive(Debug)]
pub struct BoundChild {
    child: Child,
    identity: Identity,
    last_words: Option<JoinHandle<Vec<u8>>>,
}

impl BoundChild {
    /// Starts the command, bound to this process by [`bind_to_parent`] with SIGTERM, or with SIGKILL where the program
    /// is known to linger. If its standard error is a pipe, it is read from now on, for [`Self::last_words`].
    ///
    /// # Errors
    /// Whatever kept the program from being started; `NotFound` means that there is no such program.
    pub fn spawn(command: &mut Command, when_parent_dies: Signal) -> io::Result<Self> {
        let mut child = bind_to_parent(command, when_parent_dies).kill_on_drop(true).spawn()?;
        let pid = child.id().expect("a child that was not waited for has a pid");
        let identity = Identity::of(pid).unwrap_or(Identity { pid, start_ticks: 0 });
        let last_words = child.stderr.take().map(|stderr| tokio::spawn(keep_last_words(stderr)));
        Ok(Self { child, identity, last_words })
    }

    /// Who the child is, for a state file.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The child itself: its pipes.
    pub fn inner(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the child's end. May be dropped and called again.
    ///
    /// # Errors
    /// The kernel's refusal to wait.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends the child: SIGTERM, and SIGKILL to its process group when it still runs after `grace`. What it left in its
    /// group is killed in any case. A child that has ended already is no error; one whose end was waited for has no
    /// group any more that is surely its own, so nothing is signalled then.
    ///
    /// # Errors
    /// The kernel's refusal to wait.
    pub async fn end(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        if self.child.id().is_some() {
            let _ = self.identity.signal(Signal::TERM);
            let deadline = Instant::now() + grace;
            while !self.has_ended() && Instant::now() < deadline {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            // Before it is waited for: until then its pid, and so the group's number, is nobody else's.
            self.kill_group();
        }
        self.child.wait().await
    }

    /// Whether the child has ended. It is not waited for.
    fn has_ended(&self) -> bool {
        let Some(pid) = i32::try_from(self.identity.pid).ok().and_then(Pid::from_raw) else { return true };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
    }

    /// What a child that has ended said last on standard error, at most four lines. May be dropped and called again, until
    /// it has returned once.
    pub async fn last_words(&mut self) -> String {
        let Some(reader) = &mut self.last_words else { return String::new() };
        // Something that the child started may still hold the pipe open, so its end is not waited for for long.
        let said = tokio::time::timeout(Duration::from_millis(500), reader).await;
        self.last_words = None;
        match said {
            Ok(Ok(said)) => last_lines(&said, 4),
            _ => String::new(),
        }
    }

    fn kill_group(&self) {
        if let Some(group) = i32::try_from(self.identity.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads standard error to its end, so that the child never waits for us, and keeps the last of it.
async fn keep_last_words(mut stderr: ChildStderr) -> Vec<u8> {
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        said.extend_from_slice(&buffer[..count]);
        if said.len() > 2 * LAST_WORDS {
            said.drain(..said.len() - LAST_WORDS);
        }
    }
    said
}

impl Drop for BoundChild {
    fn drop(&mut self) {
        // Once waited for, the pid (and so the group's number) may be somebody else's.
        if self.child.id().is_some() {
            self.kill_group();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[tokio::test]
    async fn a_child_that_ignores_sigterm_is_killed_with_what_it_started() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; sleep 300 & echo $!; wait; sleep 300"]).stdout(Stdio::piped());
        let mut child = BoundChild::spawn(&mut command, Signal::KILL).unwrap();
        let mut stdout = child.inner().stdout.take().unwrap();
        let mut printed = Vec::new();
        while !printed.ends_with(b"\n") {
            let mut byte = [0];
            stdout.read_exact(&mut byte).await.unwrap();
            printed.push(byte[0]);
        }
        let grandchild: u32 = String::from_utf8(printed).unwrap().trim().parse().unwrap();
        let grandchild = Identity::of(grandchild).unwrap();

        let status = child.end(Duration::from_millis(100)).await.unwrap();

        assert!(!status.success());
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while grandchild.is_running() {
            assert!(std::time::Instant::now() < deadline, "the grandchild survived its group's SIGKILL");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn what_a_child_left_in_its_group_is_killed_after_the_childs_own_end() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 300 >/dev/null & echo $!"]).stdout(Stdio::piped());
        let mut child = BoundChild::spawn(&mut command, Signal::KILL).unwrap();
        let mut printed = String::new();
        child.inner().stdout.take().unwrap().read_to_string(&mut printed).await.unwrap();
        let left = Identity::of(printed.trim().parse().unwrap()).unwrap();

        assert!(child.end(Duration::from_secs(60)).await.unwrap().success());

        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while left.is_running() {
            assert!(std::time::Instant::now() < deadline, "what was left survived");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(child.end(Duration::ZERO).await.unwrap().success());
    }

    #[tokio::test]
    async fn a_child_that_never_stops_complaining_is_neither_blocked_nor_remembered_whole() {
        let mut command = Command::new("sh");
        command.args(["-c", "seq 1 200000 >&2; echo last >&2; exit 7"]).stderr(Stdio::piped());
        let mut child = BoundChild::spawn(&mut command, Signal::KILL).unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(7));
        assert_eq!(child.last_words().await, "199998\n199999\n200000\nlast");
    }

    #[tokio::test]
    async fn last_words_that_were_not_waited_for_can_be_asked_for_again() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 0.2 & echo last >&2; exit 7"]).stderr(Stdio::piped());
        let mut child = BoundChild::spawn(&mut command, Signal::KILL).unwrap();
        child.wait().await.unwrap();
        // As in a `select!` in which something else comes first: polled once, then dropped.
        tokio::select! {
            biased;
            _ = child.last_words() => panic!("the sleeping process holds the pipe open"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(child.last_words().await, "last");
    }

    #[tokio::test]
    async fn a_child_ends_when_its_parent_is_killed() {
        // The middle process is this test binary's stand-in for a supervisor: a shell cannot bind its children, so the
        // binding is made from here, with a thread that ends in the parent's place.
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut command = Command::new("sleep");
                let child = bind_to_parent(command.arg("300"), Signal::KILL).spawn().unwrap();
                sender.send(Identity::of(child.id().unwrap()).unwrap()).unwrap();
                std::mem::forget(child);
            });
        })
        .join()
        .unwrap();
        let child = receiver.recv().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while child.is_running() {
            assert!(std::time::Instant::now() < deadline, "the child outlived the thread that spawned it");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
