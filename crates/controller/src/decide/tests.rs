use dozlab_pod::lab_session::ConditionType;
use dozlab_session::duration::SessionDuration;
use proptest::prelude::*;

use super::*;
use crate::pod_view::{Failure, Owner, PodState, Retry, Stage, millis};

const NOW: u64 = 1_800_000_000_000;
const MINUTE: u64 = 60_000;

fn wanted(timeout: Option<u64>, idle_stop: Option<u64>) -> Wanted {
    let minutes = |count: u64| SessionDuration::from_millis(count * MINUTE);
    Wanted {
        deadlines: Deadlines {
            timeout: timeout.map(minutes),
            idle_stop: idle_stop.map(minutes),
            warn_before: minutes(5),
        },
        pod_name: "lab-session-a".into(),
        service_name: "lab-service-a".into(),
        vm_ip: "172.16.0.2".into(),
        usage: Usage::default(),
    }
}

fn pod(state: PodState) -> PodView {
    PodView {
        uid: "pod-1".into(),
        owner: Some(Owner { name: "a".into(), uid: "session".into() }),
        created_ms: NOW,
        deleted_by_ms: None,
        ip: Some("10.0.0.9".into()),
        vm_ready: state == PodState::Ready,
        ready_ms: (state == PodState::Ready).then_some(NOW),
        state,
        stages: Vec::new(),
    }
}

fn broken(retry: Retry) -> PodState {
    PodState::Broken(Failure {
        reason: "VMCrashed",
        message: "it crashed".into(),
        retry,
        pod_is_finished: true,
    })
}

fn booting() -> PodState {
    PodState::Starting { stage: Stage::BootingVm, since_ms: NOW, waiting_for: None }
}

/// A session that plays through its life: each look applies the status that the one before has written.
struct Life {
    status: LabSessionStatus,
    now_ms: u64,
    generation: i64,
    deleting: bool,
    finalizer: bool,
    wanted: Wanted,
    last_used_ms: Option<u64>,
}

impl Life {
    fn new(wanted: Wanted) -> Self {
        let status = LabSessionStatus::default();
        Self {
            status,
            now_ms: NOW,
            generation: 1,
            deleting: false,
            finalizer: false,
            wanted,
            last_used_ms: None,
        }
    }

    fn look(&mut self, pod: Pod<'_>) -> Decision {
        let present = !matches!(pod, Pod::Unseen | Pod::Gone);
        let observed = Observed {
            now_ms: self.now_ms,
            session: Session {
                generation: self.generation,
                created_ms: NOW,
                deleting: self.deleting,
                has_finalizer: self.finalizer,
                status: &self.status,
            },
            wanted: Ok(&self.wanted),
            pod,
            service: if present { Service::Ready } else { Service::Missing },
            missing: if present { vec![] } else { vec![Part::NetworkPolicy, Part::Service] },
            leftovers: if present { vec![Part::Service] } else { vec![] },
            endpoints: None,
            last_used_ms: self.last_used_ms,
            status_written_ms: None,
        };
        let decision = decide(&observed, &Rules::default());
        if decision.steps.contains(&Step::WriteStatus) {
            self.status = decision.status.clone();
        }
        if decision.steps.contains(&Step::MakePod) {
            self.status.pod_uid = Some("pod-1".into());
        }
        self.finalizer |= decision.steps.contains(&Step::AddFinalizer);
        decision
    }

    fn running(wanted: Wanted) -> Self {
        let mut life = Self::new(wanted);
        life.look(Pod::Unseen);
        life.look(Pod::Ours(&pod(PodState::Ready)));
        assert_eq!(life.status.phase, Phase::Running);
        life
    }
}

fn delete_pod() -> Step {
    Step::DeletePod { uid: "pod-1".into() }
}

#[test]
fn a_start_makes_everything_in_order_and_says_so_last() {
    let mut life = Life::new(wanted(Some(120), None));
    let start = life.look(Pod::Unseen);
    assert_eq!(
        start.steps,
        [
            Step::AddFinalizer,
            Step::Make(Part::Secrets),
            Step::Make(Part::NetworkPolicy),
            Step::MakePod,
            Step::Make(Part::Service),
            Step::WriteStatus
        ]
    );
    assert_eq!(life.status.phase, Phase::Creating);
    assert_eq!(millis(life.status.expires_at.as_ref().unwrap()), NOW + 120 * MINUTE);
    let ready = life.look(Pod::Ours(&pod(PodState::Ready)));
    assert_eq!(ready.steps, [Step::WriteStatus]);
    assert_eq!(life.status.condition(ConditionType::Ready).unwrap().status, "True");
    let rest = life.look(Pod::Ours(&pod(PodState::Ready)));
    assert!(rest.steps.is_empty(), "{:?}", rest.steps);
    assert_eq!(rest.again_ms, Some(115 * MINUTE));
}

#[test]
fn a_condition_keeps_its_time_while_its_value_stays() {
    let mut life = Life::new(wanted(None, None));
    life.look(Pod::Unseen);
    let since = life.status.condition(ConditionType::Ready).unwrap().last_transition_time.clone();
    life.now_ms += MINUTE;
    life.look(Pod::Ours(&pod(booting())));
    let booting = life.status.condition(ConditionType::Ready).unwrap();
    assert_eq!((booting.reason.as_str(), &booting.last_transition_time), ("BootingVM", &since));
    life.look(Pod::Ours(&pod(PodState::Ready)));
    assert_eq!(
        millis(&life.status.condition(ConditionType::Ready).unwrap().last_transition_time),
        life.now_ms
    );
}

#[test]
fn a_failed_pod_is_noted_before_it_is_deleted_and_counted_once() {
    let mut life = Life::running(wanted(None, None));
    let crashed = pod(broken(Retry::Later));
    let first = life.look(Pod::Ours(&crashed));
    assert_eq!(first.steps, [Step::WriteStatus, delete_pod()]);
    assert_eq!((life.status.phase, life.status.restarts), (Phase::Creating, Some(1)));
    // Killed between the two: the next controller deletes, and counts no second time.
    let again = life.look(Pod::Ours(&crashed));
    assert_eq!(again.steps, [delete_pod()]);
    assert_eq!(life.status.restarts, Some(1));
    // Nothing is made before its time.
    let waiting = life.look(Pod::Gone);
    assert_eq!((waiting.steps, waiting.again_ms), (vec![], Some(5000)));
    life.now_ms += 5000;
    assert!(life.look(Pod::Gone).steps.contains(&Step::MakePod));
}

#[test]
fn pods_that_fail_in_a_row_are_waited_for_longer_and_in_the_end_given_up() {
    let mut life = Life::running(wanted(None, None));
    let mut waits = Vec::new();
    for attempt in 0..5 {
        let mut crashed = pod(broken(Retry::Later));
        crashed.uid = format!("pod-{attempt}");
        waits.push(life.look(Pod::Ours(&crashed)).again_ms.unwrap());
        life.now_ms += 10 * MINUTE;
    }
    assert_eq!(waits, [5_000, 10_000, 20_000, 40_000, 80_000]);
    let mut last = pod(broken(Retry::Later));
    last.uid = "pod-last".into();
    life.look(Pod::Ours(&last));
    assert_eq!(life.status.phase, Phase::Failed);
    assert_eq!(life.status.reason.as_deref(), Some("VMCrashed"));
}

#[test]
fn a_session_that_has_run_steadily_starts_counting_anew() {
    let mut life = Life::running(wanted(None, None));
    life.look(Pod::Ours(&pod(broken(Retry::Later))));
    life.now_ms += MINUTE;
    let mut second = pod(PodState::Ready);
    second.uid = "pod-2".into();
    life.look(Pod::Ours(&second));
    life.now_ms += 11 * MINUTE;
    second.state = broken(Retry::Later);
    life.look(Pod::Ours(&second));
    assert_eq!(life.status.retry.as_ref().unwrap().attempt, 1);
    assert_eq!(life.status.restarts, Some(2));
}

#[test]
fn a_pod_that_vanished_is_looked_for_before_it_counts_as_lost() {
    let mut life = Life::running(wanted(None, None));
    assert_eq!(life.look(Pod::Unseen).steps, [Step::LookForPod]);
    assert_eq!(life.look(Pod::Gone).steps, [Step::WriteStatus]);
    assert_eq!(life.status.reason.as_deref(), Some("PodLost"));
}

#[test]
fn a_session_ends_in_order_and_an_interrupted_end_goes_on() {
    let mut life = Life::running(wanted(Some(60), None));
    let mut its = pod(PodState::Ready);
    life.now_ms += 60 * MINUTE;
    assert_eq!(life.look(Pod::Ours(&its)).steps, [Step::WriteStatus, delete_pod()]);
    assert_eq!((life.status.phase, life.status.reason.as_deref()), (Phase::Terminating, Some("Expired")));
    assert_eq!(life.look(Pod::Ours(&its)).steps, [delete_pod()]);
    its.deleted_by_ms = Some(life.now_ms + 30_000);
    assert!(life.look(Pod::Ours(&its)).steps.is_empty());
    assert_eq!(life.look(Pod::Unseen).steps, [Step::Delete(Part::Secrets), Step::WriteStatus]);
    assert_eq!(life.status.phase, Phase::Terminated);
    assert!(life.look(Pod::Unseen).steps.is_empty());
}

#[test]
fn an_extended_session_ends_later() {
    let mut life = Life::running(wanted(Some(60), None));
    life.wanted = wanted(Some(90), None);
    life.generation = 2;
    life.now_ms += 61 * MINUTE;
    life.look(Pod::Ours(&pod(PodState::Ready)));
    assert_eq!(life.status.phase, Phase::Running);
    assert_eq!(millis(life.status.expires_at.as_ref().unwrap()), NOW + 90 * MINUTE);
    assert_eq!(life.status.observed_generation, Some(2));
}

#[test]
fn only_a_terminal_that_answers_ends_an_idle_session() {
    let mut life = Life::running(wanted(None, Some(30)));
    let its = pod(PodState::Ready);
    life.now_ms += 31 * MINUTE;
    assert!(life.look(Pod::Ours(&its)).steps.is_empty());
    life.last_used_ms = Some(NOW + 20 * MINUTE);
    assert_eq!(life.look(Pod::Ours(&its)).again_ms, Some(19 * MINUTE));
    life.now_ms += 19 * MINUTE;
    life.look(Pod::Ours(&its));
    assert_eq!((life.status.phase, life.status.reason.as_deref()), (Phase::Terminating, Some("Idle")));
}

#[test]
fn a_deleted_object_waits_for_its_pod_but_not_for_a_lost_node() {
    let mut life = Life::running(wanted(None, None));
    let mut its = pod(PodState::Ready);
    life.deleting = true;
    assert_eq!(life.look(Pod::Ours(&its)).steps, [Step::WriteStatus, delete_pod()]);
    its.deleted_by_ms = Some(life.now_ms + 30_000);
    assert!(life.look(Pod::Ours(&its)).steps.is_empty());
    life.now_ms += 91_000;
    assert!(life.look(Pod::Ours(&its)).steps.contains(&Step::RemoveFinalizer));
    assert_eq!(life.look(Pod::Unseen).steps, [Step::Delete(Part::Secrets), Step::RemoveFinalizer]);
}

#[test]
fn a_failed_session_is_tried_again_when_it_is_changed() {
    let mut life = Life::new(wanted(None, None));
    life.look(Pod::Unseen);
    let its = pod(broken(Retry::Never));
    assert_eq!(
        life.look(Pod::Ours(&its)).steps,
        [Step::WriteStatus],
        "a pod that has ended is kept for its logs"
    );
    assert_eq!(life.status.phase, Phase::Failed);
    assert!(life.look(Pod::Ours(&its)).steps.is_empty());
    life.generation = 2;
    life.look(Pod::Ours(&its));
    assert_eq!(life.status.phase, Phase::Creating);
    assert!(life.look(Pod::Gone).steps.contains(&Step::MakePod));
}

#[test]
fn stages_in_quick_succession_are_written_once() {
    let mut life = Life::new(wanted(None, None));
    life.look(Pod::Unseen);
    let its = pod(booting());
    let observed = Observed {
        now_ms: NOW + 400,
        session: Session {
            generation: 1,
            created_ms: NOW,
            deleting: false,
            has_finalizer: true,
            status: &life.status,
        },
        wanted: Ok(&life.wanted),
        pod: Pod::Ours(&its),
        service: Service::Ready,
        missing: vec![],
        leftovers: vec![],
        endpoints: None,
        last_used_ms: None,
        status_written_ms: Some(NOW),
    };
    let soon = decide(&observed, &Rules::default());
    assert_eq!((soon.steps, soon.again_ms), (vec![], Some(4600)));
    let later = decide(&Observed { now_ms: NOW + 5000, ..observed }, &Rules::default());
    assert_eq!(later.steps, [Step::WriteStatus]);
}

fn states() -> impl Strategy<Value = Option<PodState>> {
    prop_oneof![
        Just(None),
        Just(Some(PodState::Ready)),
        Just(Some(PodState::PoweredOff)),
        Just(Some(booting())),
        Just(Some(broken(Retry::Later))),
        Just(Some(broken(Retry::Never))),
    ]
}

proptest! {
    /// Whatever happens in whatever order: phases follow each other as they may, and a deletion comes to its
    /// end.
    #[test]
    fn no_history_leads_astray(
        history in prop::collection::vec((states(), 0u32..3, 0u64..40 * MINUTE, any::<bool>()), 1..40),
    ) {
        let mut life = Life::new(wanted(Some(120), None));
        for (state, incarnation, passed_ms, changed) in history {
            life.now_ms += passed_ms;
            life.generation += i64::from(changed);
            let before = life.status.phase;
            let view = state.map(|state| PodView { uid: format!("pod-{incarnation}"), ..pod(state) });
            let seen = || view.as_ref().map_or(Pod::Gone, Pod::Ours);
            life.look(seen());
            let after = life.status.phase;
            // A pod that is ready at the first sight, or lost and ready at once, passes through Creating
            // unseen.
            let possible = before == after || before.can_become(after)
                || (before.can_become(Phase::Creating) && Phase::Creating.can_become(after))
                || (before != Phase::Terminated && after == Phase::Terminated);
            prop_assert!(possible, "{before} became {after}");
        }
        life.deleting = true;
        life.look(Pod::Gone);
        let last = life.look(Pod::Gone);
        prop_assert!(!life.finalizer || last.steps.contains(&Step::RemoveFinalizer));
    }
}
