//! What a lab's machine is, wherever it runs: the flags that `up` and `render` share.

use clap::Args;
use dozlab_session::cpu::Vcpus;
use dozlab_session::duration::{SessionDuration, TimeLimit};
use dozlab_session::name::{Hostname, LoginUser};
use dozlab_session::plan::{Egress, PlanRequest};
use dozlab_session::size::{ByteSize, SizeError};

/// The machine, and how long it lasts.
#[derive(Clone, Debug, Args)]
pub(crate) struct Machine {
    /// Virtual CPUs, 1 to 32 [default: 1]
    #[arg(long, value_name = "N")]
    cpus: Option<Vcpus>,
    /// Memory: 2G, 1536Mi, or a number of MiB [default: 1024]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<ByteSize>,
    /// The disk's size: 8G, 512M [default: 4G]
    #[arg(long, value_name = "SIZE", value_parser = disk)]
    disk: Option<ByteSize>,
    /// The user to be in the machine [default: the image's; root in a pod]
    #[arg(long)]
    user: Option<LoginUser>,
    /// The machine's host name [default: lab-NAME]
    #[arg(long)]
    hostname: Option<Hostname>,
    /// What the machine may reach: internet (public addresses only), open (private networks too), none
    #[arg(long, value_name = "POLICY")]
    egress: Option<Egress>,
    /// End the lab after this time, 2h or 90m, or `none` [default: none here, 2h in a pod]
    #[arg(long, value_name = "TIME")]
    timeout: Option<TimeLimit>,
    /// End the lab when nobody has used it for this time; use is typing in its web terminal, and here also a browser
    /// that has its editor open and an `ssh` or `exec` that runs
    #[arg(long, value_name = "TIME")]
    idle_stop: Option<SessionDuration>,
}

impl Machine {
    /// A flag that was given replaces what the request has.
    pub(crate) fn amend(&self, plan: &mut PlanRequest) {
        set(&mut plan.vcpus, &self.cpus);
        set(&mut plan.memory, &self.memory);
        set(&mut plan.disk, &self.disk);
        set(&mut plan.login_user, &self.user);
        set(&mut plan.hostname, &self.hostname);
        set(&mut plan.egress, &self.egress);
        set(&mut plan.timeout, &self.timeout);
        set(&mut plan.idle_stop, &self.idle_stop);
    }
}

/// A flag that was given replaces what was said elsewhere.
pub(crate) fn set<T: Clone>(field: &mut Option<T>, flag: &Option<T>) {
    if flag.is_some() {
        field.clone_from(flag);
    }
}

fn memory(text: &str) -> Result<ByteSize, SizeError> {
    ByteSize::from_memory(text)
}

fn disk(text: &str) -> Result<ByteSize, SizeError> {
    ByteSize::from_disk_size(text)
}
