//! The network policies, which the sessions of a namespace share: made when the first session needs one, put
//! right when somebody changes or deletes one, removed when the namespace has no session any more.
//!
//! A policy belongs to no session, so no session's end may take it. Each process applies a policy once even
//! if it is there: the controller before this one may have known less that is to be denied.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use dozlab_pod::POLICY_LABEL;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt as _;

use crate::world::{Key, Views};

/// What counts of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PolicyView {
    pub(crate) uid: String,
    /// The version of its rules.
    generation: i64,
    /// Whether it is one that sessions share, and so was made by a controller.
    pub(crate) is_shared: bool,
}

impl PolicyView {
    pub(crate) fn of(policy: &NetworkPolicy) -> Self {
        Self {
            uid: policy.uid().unwrap_or_default(),
            generation: policy.metadata.generation.unwrap_or(0),
            is_shared: policy.labels().contains_key(POLICY_LABEL),
        }
    }
}

/// The policies that are there, and those that this process has applied.
pub(crate) struct Policies {
    pub(crate) seen: std::sync::Arc<Views<PolicyView>>,
    applied: Mutex<HashMap<Key, PolicyView>>,
    turn: tokio::sync::Mutex<()>,
}

impl Policies {
    pub(crate) fn new() -> Self {
        Self {
            seen: std::sync::Arc::new(Views::new()),
            applied: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Whether the policy is there with the rules that this process gave it.
    pub(crate) fn is_in_force(&self, key: &Key) -> bool {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(applied), Some(seen)) = (applied.get(key), self.seen.get(key)) else { return false };
        // The watch may be behind, and show an older generation.
        seen.uid == applied.uid && seen.generation <= applied.generation
    }

    /// Puts a policy in force by `apply`, if nobody else has done so meanwhile.
    pub(crate) async fn put_in_force<E>(
        &self,
        key: Key,
        apply: impl Future<Output = Result<NetworkPolicy, E>>,
    ) -> Result<(), E> {
        // Many sessions begin at once, and one write does for all.
        let _turn = self.turn.lock().await;
        if self.is_in_force(&key) {
            return Ok(());
        }
        let view = PolicyView::of(&apply.await?);
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), view.clone());
        self.seen.made(key, view);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn policy(uid: &str, generation: i64) -> NetworkPolicy {
        let mut policy = NetworkPolicy::default();
        policy.metadata.uid = Some(uid.into());
        policy.metadata.generation = Some(generation);
        policy
    }

    #[tokio::test]
    async fn a_policy_is_applied_once_and_again_when_somebody_has_changed_it() {
        let policies = Policies::new();
        let key = Key::new("labs", "lab-internet");
        policies.seen.replace(key.clone(), PolicyView::of(&policy("old", 3)));
        assert!(!policies.is_in_force(&key), "whoever made it may have known less");
        let apply = |answer| std::future::ready(Ok::<_, Infallible>(answer));
        policies.put_in_force(key.clone(), apply(policy("old", 4))).await.unwrap();
        assert!(policies.is_in_force(&key), "the watch does not show it yet");
        let never = async { panic!("it is in force already") };
        policies.put_in_force::<Infallible>(key.clone(), never).await.unwrap();
        policies.seen.replace(key.clone(), PolicyView::of(&policy("old", 5)));
        assert!(!policies.is_in_force(&key), "somebody has changed it");
        policies.put_in_force(key.clone(), apply(policy("old", 6))).await.unwrap();
        policies.seen.gone(&key);
        assert!(!policies.is_in_force(&key), "somebody has deleted it");
    }
}
