//! What can go wrong between this machine and a cluster, said so that a person can act on it.

use std::error::Error;

use kube::config::KubeconfigError;

/// Something could not be done with a cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is no kubeconfig, or it cannot be read.
    #[error("there is no cluster to talk to: {0}; set KUBECONFIG, or make ~/.kube/config as for kubectl")]
    NoKubeconfig(Box<KubeconfigError>),
    /// The kubeconfig does not have the context.
    #[error("the kubeconfig has no context `{context}`{}", known(.contexts))]
    NoContext {
        /// The context that was asked for.
        context: String,
        /// Those that there are.
        contexts: Vec<String>,
    },
    /// The kubeconfig says no context, and neither did anybody else.
    #[error("the kubeconfig has no current context: say `--cluster=CONTEXT`{}", known(.0))]
    NoCurrentContext(Vec<String>),
    /// The kubeconfig is wrong in another way.
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(Box<dyn Error + Send + Sync>),
    /// The API server does not answer.
    #[error("the cluster at {url} does not answer: {why}")]
    Unreachable {
        /// The API server.
        url: String,
        /// The innermost reason.
        why: String,
    },
    /// The API server does not know who we are.
    #[error("the cluster at {url} does not let you in: {why}; log in again, or choose another context")]
    NotLoggedIn {
        /// The API server.
        url: String,
        /// What it said.
        why: String,
    },
    /// The API server knows who we are, and refuses.
    #[error("you may not {doing}: {why}; ask whoever runs the cluster for a role that allows it")]
    Forbidden {
        /// What was tried.
        doing: String,
        /// What the API server said.
        why: String,
    },
    /// The resource is not there.
    #[error(
        "the cluster at {url} has no LabSession resource: install Dozlab there with `kubectl apply -k deploy/`"
    )]
    NotInstalled {
        /// The API server.
        url: String,
    },
    /// There is no such lab.
    #[error("there is no lab `{name}` in namespace {namespace}{}", known(.names))]
    NotFound {
        /// The name that was given.
        name: String,
        /// Where it was looked for.
        namespace: String,
        /// The labs that there are.
        names: Vec<String>,
    },
    /// No name was given, and it is not clear which is meant.
    #[error("say which lab: there are {}", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// There is a lab of this name.
    #[error(
        "lab `{name}` is there already in namespace {namespace}, and is {state}: `dozlab --cluster get {name}` shows \
         it, `dozlab --cluster rm {name}` removes it"
    )]
    Exists {
        /// Its name.
        name: String,
        /// Where it is.
        namespace: String,
        /// How it is, in lower case.
        state: &'static str,
    },
    /// The lab has ended.
    #[error("lab `{name}` has ended ({why})")]
    Ended {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// The lab has no end that could be moved.
    #[error("lab `{0}` has no timeout: there is nothing to extend")]
    Endless(String),
    /// The lab has no pod now.
    #[error(
        "lab `{name}` has no pod now, it is {state}: `dozlab --cluster doctor --session {name}` says why"
    )]
    NoPod {
        /// Its name.
        name: String,
        /// How it is, in lower case.
        state: &'static str,
    },
    /// A port of this machine cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The API server refuses an object, or a change of one.
    #[error("cannot {doing}: {why}")]
    Refused {
        /// What was tried.
        doing: String,
        /// What the API server said.
        why: String,
    },
    /// It takes too long.
    #[error(
        "lab `{name}` is still {state} after {seconds} s: does the controller run? `dozlab --cluster doctor --session \
         {name}` says more"
    )]
    Stuck {
        /// The lab.
        name: String,
        /// How it is, in lower case.
        state: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// Anything else.
    #[error("cannot {doing}: {why}")]
    Other {
        /// What was tried.
        doing: String,
        /// The innermost reason.
        why: String,
    },
}

fn known(names: &[String]) -> String {
    if names.is_empty() { "; there are none".into() } else { format!("; there are {}", names.join(", ")) }
}

/// What an error of the client means. `doing` completes "cannot …".
pub(crate) fn explain(error: kube::Error, doing: &str, url: &str) -> ClusterError {
    let (doing, url) = (doing.to_owned(), url.to_owned());
    match error {
        kube::Error::Api(status) => {
            let why = status.message.trim().to_owned();
            match status.code {
                401 => ClusterError::NotLoggedIn { url, why },
                403 => ClusterError::Forbidden { doing, why },
                // A server that knows the resource says which object it does not have.
                404 if status.reason != "NotFound" => ClusterError::NotInstalled { url },
                400..500 => ClusterError::Refused { doing, why },
                _ => ClusterError::Other { doing, why },
            }
        }
        kube::Error::UpgradeConnection(kube::client::UpgradeConnectionError::ProtocolSwitch(status))
            if status.as_u16() == 403 =>
        {
            ClusterError::Forbidden {
                doing,
                why: "it needs `get` and `create` for pods/portforward".to_owned(),
            }
        }
        kube::Error::Auth(error) => ClusterError::NotLoggedIn { url, why: innermost(&error) },
        kube::Error::Service(error) => ClusterError::Unreachable { url, why: innermost(&*error) },
        kube::Error::HyperError(error) => ClusterError::Unreachable { url, why: innermost(&error) },
        other => ClusterError::Other { doing, why: innermost(&other) },
    }
}

/// The error at the bottom, which says what happened; those above say where.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
