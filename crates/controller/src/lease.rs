//! One controller at a time: a Lease that its holder renews.
//!
//! Whoever holds the Lease object works; the others wait until it was not renewed for [`DURATION`]. Each
//! write carries the resource version that was read, so of two that take an expired lease at once the API
//! server refuses one. A holder that could not renew in time ends itself before another can begin. The clocks
//! of two machines are never compared: a waiting one measures with its own clock for how long the lease has
//! not changed.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// How long a lease counts after it was renewed last.
pub const DURATION: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How long the holder goes on without having renewed it: less than [`DURATION`], so that two never work at
/// once.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// How often those who wait look at it.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long one request may take.
const REQUEST_DEADLINE: Duration = Duration::from_secs(4);

/// A lease, wanted or held by this process.
pub struct Election {
    leases: Api<Lease>,
    name: String,
    identity: String,
}

/// The lease cannot be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The API server forbids it.
    #[error("the lease {name} cannot be used: {source}; the role needs get, create and update on leases")]
    Forbidden {
        /// The lease.
        name: String,
        /// What the API server said.
        source: Box<Error>,
    },
    /// It was not renewed in time, or somebody else has it.
    #[error("the lease {name} was lost: {reason}")]
    Lost {
        /// The lease.
        name: String,
        /// How.
        reason: String,
    },
}

impl Election {
    /// The lease of this name. `identity` must differ between processes: the pod's name.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        let leases = Api::namespaced(client, namespace);
        Self { leases, name: name.to_owned(), identity: identity.to_owned() }
    }

    /// Waits until this process holds the lease.
    ///
    /// # Errors
    /// The API server forbids the use of the lease. Everything else is waited out.
    pub async fn win(&self) -> Result<(), LeaseError> {
        // The lease as it was seen last, and since when it has been so.
        let mut seen: Option<(String, Instant)> = None;
        loop {
            match self.try_to_take(&mut seen).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(Error::Api(status)) if status.is_forbidden() => {
                    return Err(self.forbidden(Error::Api(status)));
                }
                Err(error) => warn!(lease = self.name, %error, "the lease cannot be looked at"),
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Renews the lease for as long as that works.
    ///
    /// # Errors
    /// Always, in the end: the lease was lost. The process must stop working at once.
    pub async fn keep(&self) -> LeaseError {
        let mut renewed = Instant::now();
        loop {
            sleep(RENEW_EVERY).await;
            match timeout(REQUEST_DEADLINE, self.renew()).await {
                Ok(Ok(())) => renewed = Instant::now(),
                Ok(Err(RenewError::Taken(holder))) => return self.lost(format!("{holder} has it now")),
                Ok(Err(RenewError::Api(Error::Api(status)))) if status.is_forbidden() => {
                    return self.forbidden(Error::Api(status));
                }
                Ok(Err(RenewError::Api(error))) => {
                    warn!(lease = self.name, %error, "the lease was not renewed")
                }
                Err(_) => warn!(lease = self.name, "the API server did not answer in time"),
            }
            if renewed.elapsed() >= GIVE_UP_AFTER {
                return self.lost(format!("it could not be renewed for {} s", GIVE_UP_AFTER.as_secs()));
            }
        }
    }

    /// Lets go of the lease, so that the next need not wait for it to run out. That it fails does no harm.
    pub async fn release(&self) {
        let released = async {
            let mut lease = self.leases.get(&self.name).await?;
            if holder(&lease) == Some(&self.identity) {
                lease.spec.get_or_insert_default().holder_identity = None;
                self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<(), Error>(())
        };
        if timeout(REQUEST_DEADLINE, released).await.is_ok_and(|result| result.is_ok()) {
            info!(lease = self.name, "lease released");
        }
    }

    async fn try_to_take(&self, seen: &mut Option<(String, Instant)>) -> Result<bool, Error> {
        let Some(mut lease) = timed(self.leases.get_opt(&self.name)).await? else {
            return self.create().await;
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match seen {
            Some((known, since)) if *known == version => *since,
            _ => seen.insert((version, Instant::now())).1,
        };
        let held_by_another = holder(&lease).is_some_and(|holder| *holder != self.identity);
        if held_by_another && since.elapsed() < DURATION {
            return Ok(false);
        }
        let spec = lease.spec.get_or_insert_default();
        let changes = spec.lease_transitions.unwrap_or(0);
        *spec = self.spec(changes + 1);
        match timed(self.leases.replace(&self.name, &PostParams::default(), &lease)).await {
            Ok(_) => Ok(true),
            Err(Error::Api(status)) if status.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn create(&self) -> Result<bool, Error> {
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(self.spec(0)) };
        match timed(self.leases.create(&PostParams::default(), &lease)).await {
            Ok(_) => Ok(true),
            Err(Error::Api(status)) if status.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn renew(&self) -> Result<(), RenewError> {
        let mut lease = self.leases.get(&self.name).await?;
        if holder(&lease) != Some(&self.identity) {
            let holder = holder(&lease).cloned().unwrap_or_else(|| "nobody".to_owned());
            return Err(RenewError::Taken(holder));
        }
        lease.spec.get_or_insert_default().renew_time = Some(MicroTime(Timestamp::now()));
        self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        Ok(())
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    fn forbidden(&self, source: Error) -> LeaseError {
        LeaseError::Forbidden { name: self.name.clone(), source: Box::new(source) }
    }

    fn lost(&self, reason: String) -> LeaseError {
        LeaseError::Lost { name: self.name.clone(), reason }
    }
}

enum RenewError {
    Taken(String),
    Api(Error),
}

impl From<Error> for RenewError {
    fn from(error: Error) -> Self {
        Self::Api(error)
    }
}

fn holder(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref()?.holder_identity.as_ref().filter(|holder| !holder.is_empty())
}

/// A request that does not wait for ever.
async fn timed<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(REQUEST_DEADLINE, request)
        .await
        .unwrap_or_else(|_| Err(Error::Service("no answer in time".into())))
}
