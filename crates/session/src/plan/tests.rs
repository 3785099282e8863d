use proptest::prelude::*;

use super::*;
use crate::cpu::MilliCpus;
use crate::duration::SessionDuration;

fn request() -> PlanRequest {
    PlanRequest {
        session_id: Some("abc123".parse().unwrap()),
        image: Some("vm".parse().unwrap()),
        ..PlanRequest::default()
    }
}

fn problems(request: &PlanRequest) -> Vec<Problem> {
    Plan::resolve(request).unwrap_err().problems
}

const fn gib(gib: u32) -> ByteSize {
    ByteSize::from_gib(gib)
}

#[test]
fn a_request_for_nothing_special_is_the_lab_pod_of_the_architecture() {
    let plan = Plan::resolve(&request()).unwrap();
    assert_eq!(plan.user_id.as_str(), "local");
    assert_eq!(plan.hostname.as_str(), "lab-abc123");
    assert_eq!(plan.login_user, None);
    assert_eq!((plan.vcpus.get(), plan.memory.as_mib(), plan.disk), (1, 1024, gib(4)));
    assert_eq!(plan.network.gateway.to_string(), "172.16.0.1");
    assert_eq!(plan.network.vm_address.to_string(), "172.16.0.2");
    assert_eq!((plan.network.prefix, plan.network.tap.as_str()), (24, "tap0"));
    assert_eq!(plan.network.egress, Egress::Internet);
    assert_eq!(plan.deadlines.timeout.unwrap().to_string(), "2h");
    assert_eq!(plan.deadlines.idle_stop, None);
    assert_eq!(plan.resources.vm, defaults::VM_RESOURCES);
    assert_eq!(plan.volumes.vm_kernels, gib(8));
    assert_eq!((plan.volumes.vm_data, plan.volumes.vscode_data), (gib(5), gib(1)));
    assert_eq!(plan.terminal_image.as_str(), "dozman99/dozlab-terminal:latest");
}

#[test]
fn a_small_disk_keeps_the_volume_of_the_architecture() {
    let plan = Plan::resolve(&PlanRequest { disk: Some(ByteSize::from_mib(512)), ..request() }).unwrap();
    assert_eq!(plan.volumes.vm_kernels, gib(2));
}

#[test]
fn a_disk_that_fits_its_volume_exactly_is_accepted() {
    let limit = gib(8).checked_add(defaults::VM_KERNELS_SLACK);
    let fits = PlanRequest { disk: Some(gib(8)), vm_kernels_limit: limit, ..request() };
    assert_eq!(Some(Plan::resolve(&fits).unwrap().volumes.vm_kernels), limit);
    let a_byte_less = limit.unwrap().checked_sub(ByteSize::from_bytes(1));
    assert_eq!(problems(&PlanRequest { vm_kernels_limit: a_byte_less, ..fits }).len(), 1);
}

#[test]
fn a_disk_that_does_not_fit_its_volume_is_refused_with_the_numbers() {
    let error =
        Plan::resolve(&PlanRequest { disk: Some(gib(8)), vm_kernels_limit: Some(gib(2)), ..request() })
            .unwrap_err();
    assert_eq!(
        error.to_string(),
        "a disk of 8Gi does not fit the 2Gi limit of the volume vm-kernels: raise KERNEL_SIZE_LIMIT to at \
         least 8320Mi (the disk and 128Mi for the kernel) or lower DISK_SIZE"
    );
}

#[test]
fn a_large_vm_gets_limits_that_hold_it() {
    let large = PlanRequest { memory: Some(gib(4)), vcpus: Some("4".parse().unwrap()), ..request() };
    let resources = Plan::resolve(&large).unwrap().resources.vm;
    assert_eq!((resources.limits.memory.as_mib(), resources.requests.memory.as_mib()), (4224, 4096));
    assert_eq!((resources.limits.cpu.as_millis(), resources.requests.cpu.as_millis()), (4500, 500));
}

#[test]
fn a_number_that_nobody_wrote_is_never_the_problem() {
    let small_limits = PlanRequest {
        memory: Some(ByteSize::from_mib(256)),
        vm_memory_limit: Some(ByteSize::from_mib(512)),
        vm_cpu_limit: Some(MilliCpus::new(250)),
        ..request()
    };
    let resources = Plan::resolve(&small_limits).unwrap().resources.vm;
    assert_eq!(resources.requests, resources.limits);

    let large_requests = PlanRequest {
        vm_memory_request: Some(gib(3)),
        vm_cpu_request: Some(MilliCpus::new(3000)),
        ..request()
    };
    let resources = Plan::resolve(&large_requests).unwrap().resources.vm;
    assert_eq!(resources.requests, resources.limits);
}

#[test]
fn a_memory_limit_below_vm_and_hypervisor_is_refused() {
    let limit = ByteSize::from_mib(1151);
    let found = problems(&PlanRequest { vm_memory_limit: Some(limit), ..request() });
    let expected = Problem::MemoryLimitTooSmall { memory: gib(1), limit, needed: ByteSize::from_mib(1152) };
    assert_eq!(found, [expected]);
    let enough = PlanRequest { vm_memory_limit: Some(ByteSize::from_mib(1152)), ..request() };
    assert!(Plan::resolve(&enough).is_ok());
}

#[test]
fn every_problem_is_reported_at_once_on_a_line_of_its_own() {
    let address = "10.0.0.7".parse().unwrap();
    let broken = PlanRequest {
        memory: Some(ByteSize::from_mib(64)),
        disk: Some(gib(17 * 1024)),
        vm_kernels_limit: Some(gib(1)),
        vm_data_limit: Some(ByteSize::ZERO),
        vm_memory_request: Some(gib(3)),
        vm_memory_limit: Some(gib(2)),
        vm_cpu_request: Some(MilliCpus::new(1)),
        vm_cpu_limit: Some(MilliCpus::new(0)),
        gateway: Some(address),
        vm_address: Some(address),
        timeout: Some(TimeLimit::After(SessionDuration::from_secs(0))),
        idle_stop: Some(SessionDuration::from_secs(0)),
        ..PlanRequest::default()
    };
    let found = problems(&broken);
    for expected in [
        Problem::MemoryOutOfRange { memory: ByteSize::from_mib(64) },
        Problem::DiskOutOfRange { disk: gib(17 * 1024) },
        Problem::AddressesEqual { address },
        Problem::TimeoutZero,
        Problem::IdleStopZero,
        Problem::VolumeLimitZero { volume: "vm-data", variable: "VM_DATA_SIZE_LIMIT" },
        Problem::MemoryRequestAboveLimit { request: gib(3), limit: gib(2) },
        Problem::CpuLimitZero,
        Problem::CpuRequestAboveLimit { request: MilliCpus::new(1), limit: MilliCpus::new(0) },
        Problem::NoSessionId,
        Problem::NoImage,
    ] {
        assert!(found.contains(&expected), "{expected:?} is not among {found:?}");
    }
    assert!(found.iter().any(|problem| matches!(problem, Problem::DiskDoesNotFitVolume { .. })));
    assert_eq!(found.len(), 12);
    assert_eq!(PlanError { problems: found }.to_string().lines().count(), 12);
}

#[test]
fn addresses_must_be_two_hosts_of_one_network() {
    let with = |gateway: &str, vm_address: &str, prefix| PlanRequest {
        gateway: Some(gateway.parse().unwrap()),
        vm_address: Some(vm_address.parse().unwrap()),
        prefix: Some(prefix),
        ..request()
    };
    assert!(Plan::resolve(&with("10.1.2.1", "10.1.2.2", 30)).is_ok());
    assert!(matches!(
        problems(&with("10.1.2.1", "10.1.3.2", 24))[..],
        [Problem::AddressesInDifferentNetworks { .. }]
    ));
    assert!(matches!(
        problems(&with("10.1.2.0", "10.1.2.3", 30))[..],
        [
            Problem::NotAHostAddress { variable: "GATEWAY_IP", .. },
            Problem::NotAHostAddress { variable: "VM_IP", .. }
        ]
    ));
    for prefix in [0, 31, 32, 33, 255] {
        assert_eq!(problems(&with("10.1.2.1", "10.1.2.2", prefix)), [Problem::PrefixOutOfRange { prefix }]);
    }
}

#[test]
fn an_egress_policy_is_one_of_three_words() {
    for egress in Egress::ALL {
        assert_eq!(egress.as_str().parse(), Ok(egress));
        assert_eq!(serde_json::to_string(&egress).unwrap(), format!("\"{egress}\""));
    }
    let refusal = "all".parse::<Egress>().unwrap_err().to_string();
    assert_eq!(refusal, "\"all\" is not an egress policy: it must be internet, open or none");
}

#[test]
fn an_idle_stop_must_come_before_the_timeout() {
    let with = |timeout: Option<&str>, idle_stop: &str| PlanRequest {
        timeout: timeout.map(|text| text.parse().unwrap()),
        idle_stop: Some(idle_stop.parse().unwrap()),
        ..request()
    };
    assert!(Plan::resolve(&with(None, "30m")).is_ok());
    assert!(Plan::resolve(&with(Some("none"), "48h")).is_ok());
    assert!(matches!(problems(&with(None, "2h"))[..], [Problem::IdleStopNotBeforeTimeout { .. }]));
    assert!(matches!(problems(&with(Some("1h"), "90m"))[..], [Problem::IdleStopNotBeforeTimeout { .. }]));
}

#[test]
fn memory_and_disk_are_rounded_up_to_whole_mib() {
    let odd = ByteSize::from_quantity("4G").unwrap();
    let plan = Plan::resolve(&PlanRequest { memory: Some(odd), disk: Some(odd), ..request() }).unwrap();
    assert_eq!((plan.memory, plan.disk), (ByteSize::from_mib(3815), ByteSize::from_mib(3815)));
}

#[test]
fn a_plan_is_stored_as_json_and_read_back() {
    let plan = Plan::resolve(&PlanRequest {
        vscode_password: Some(crate::secret::Secret::new("geheim".into())),
        timeout: Some(TimeLimit::None),
        login_user: Some("root".parse().unwrap()),
        ..request()
    })
    .unwrap();
    let json = serde_json::to_string_pretty(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
    assert!(!json.contains("geheim"));
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["sessionId"], "abc123");
    assert_eq!(value["network"]["vmAddress"], "172.16.0.2");
    assert_eq!(value["network"]["egress"], "internet");
    assert_eq!(value["resources"]["vm"]["limits"], serde_json::json!({ "cpu": "1500m", "memory": "2Gi" }));
    assert_eq!(value["deadlines"]["timeout"], serde_json::Value::Null);
}

#[test]
fn a_request_survives_json_without_its_password() {
    let asked =
        PlanRequest { vscode_password: Some(crate::secret::Secret::new("geheim".into())), ..request() };
    let json = serde_json::to_string(&asked).unwrap();
    assert!(!json.contains("geheim"));
    assert_eq!(serde_json::from_str::<PlanRequest>(&json).unwrap(), request());
    assert_eq!(serde_json::from_str::<PlanRequest>("{}").unwrap(), PlanRequest::default());
}

proptest! {
    #[test]
    fn a_plan_keeps_its_promises_or_is_refused(
        memory in proptest::option::of(any::<u64>().prop_map(|n| n >> 28)),
        disk in proptest::option::of(any::<u64>()),
        kernels in proptest::option::of(any::<u64>()),
        memory_limit in proptest::option::of(any::<u64>().prop_map(|n| n >> 28)),
        memory_request in proptest::option::of(any::<u64>().prop_map(|n| n >> 28)),
        cpu_limit in proptest::option::of(any::<u32>()),
        cpu_request in proptest::option::of(any::<u32>()),
    ) {
        let asked = PlanRequest {
            memory: memory.map(ByteSize::from_bytes),
            disk: disk.map(|bytes| ByteSize::from_bytes(bytes >> 18)),
            vm_kernels_limit: kernels.map(|bytes| ByteSize::from_bytes(bytes >> 17)),
            vm_memory_limit: memory_limit.map(ByteSize::from_bytes),
            vm_memory_request: memory_request.map(ByteSize::from_bytes),
            vm_cpu_limit: cpu_limit.map(MilliCpus::new),
            vm_cpu_request: cpu_request.map(MilliCpus::new),
            ..request()
        };
        match Plan::resolve(&asked) {
            Ok(plan) => {
                let vm = plan.resources.vm;
                prop_assert!(plan.disk < plan.volumes.vm_kernels);
                prop_assert!(plan.memory < vm.limits.memory);
                prop_assert!(vm.requests.memory <= vm.limits.memory && vm.requests.cpu <= vm.limits.cpu);
                prop_assert!(asked.memory.is_none_or(|memory| plan.memory >= memory));
                prop_assert!(asked.disk.is_none_or(|disk| plan.disk >= disk));
            }
            Err(error) => prop_assert!(!error.problems.is_empty()),
        }
    }

    #[test]
    fn the_largest_numbers_are_refused_and_do_not_overflow(memory in u64::MAX - 9.., disk in u64::MAX - 9..) {
        let asked = PlanRequest {
            memory: Some(ByteSize::from_bytes(memory)),
            disk: Some(ByteSize::from_bytes(disk)),
            ..request()
        };
        prop_assert_eq!(problems(&asked).len(), 2);
    }
}
