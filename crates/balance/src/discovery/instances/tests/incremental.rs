//! What is built from the change alone is what would be built from everything.

use proptest::prelude::*;

use super::*;
use crate::table::routing_table::RoutingTable;

const SERVICES: [&str; 2] = ["mail", "web"];
/// Enough that a change of one is built from the change, and few enough that they meet.
const IDS: u8 = 14;

#[derive(Debug, Clone)]
enum Step {
    Add(Value),
    Remove(usize, u8),
    Reset(Vec<Value>),
    Policy(usize, Option<&'static str>),
    Policies(Option<&'static str>),
    Override(usize, u8, Option<Status>),
    Overrides(u8, Status),
    Tick(u64),
    FoundDead(usize),
    Table,
}

#[derive(Debug, Clone)]
struct Value {
    service: usize,
    id: u8,
    port: u8,
    status: &'static str,
    /// Which life of it.
    life: i64,
}

fn values() -> impl Strategy<Value = Value> {
    let status = prop_oneof![
        8 => Just("passing"), 1 => Just("draining"), 1 => Just("critical"),
    ];
    (0..SERVICES.len(), 0..IDS, 1..24_u8, status, 1..3_i64).prop_map(|(service, id, port, status, life)| Value {
        service,
        id,
        port,
        status,
        life,
    })
}

fn policies() -> impl Strategy<Value = Option<&'static str>> {
    const TEXTS: [&str; 5] = [
        r#"{"breaker":{"in_flight_max":7}}"#,
        r#"{"load_balancing":{"policy":"hash"}}"#,
        r#"{"load_balancing":{"sticky":{}}}"#,
        r#"{"auth":{"keys":{}}}"#,
        "nonsense",
    ];
    prop::option::of(prop::sample::select(&TEXTS[..]))
}

fn steps() -> impl Strategy<Value = Step> {
    let service = 0..SERVICES.len();
    let status = || prop::sample::select(&[Status::Draining, Status::Passing, Status::Critical][..]);
    prop_oneof![
        12 => values().prop_map(Step::Add),
        8 => (service.clone(), 0..IDS).prop_map(|(service, id)| Step::Remove(service, id)),
        1 => prop::collection::vec(values(), 0..20).prop_map(Step::Reset),
        1 => (service.clone(), policies()).prop_map(|(service, text)| Step::Policy(service, text)),
        1 => policies().prop_map(Step::Policies),
        2 => (service, 0..IDS, prop::option::of(status())).prop_map(|(service, id, status)| Step::Override(service, id, status)),
        1 => (0..IDS, status()).prop_map(|(id, status)| Step::Overrides(id, status)),
        2 => (1..15_000_u64).prop_map(Step::Tick),
        2 => (0..8_usize).prop_map(Step::FoundDead),
        12 => Just(Step::Table),
    ]
}

fn key(service: usize, id: u8) -> InstanceKey {
    // The first is nameless.
    let key = if id == 0 { String::new() } else { format!("/{id}") };
    format!("service/{}{key}", SERVICES[service]).parse().unwrap()
}

fn registered_as(value: &Value) -> Registered {
    let Value { service, id, port, status, life } = value;
    let key = key(*service, *id).to_string();
    let lease = Some(LeaseId(*life));
    Registered {
        lease,
        created: Revision(*life),
        ..registered(&key, &format!("http://10.0.0.1:{port}?status={status}"))
    }
}

fn apply(instances: &mut Instances, step: Step, now: &mut u64) {
    let at = Millis(*now);
    match step {
        Step::Add(value) => instances.apply(Update::Add(registered_as(&value)), at),
        Step::Remove(service, id) => instances.apply(Update::Remove(key(service, id)), at),
        Step::Reset(values) => {
            let all: BTreeMap<_, _> = values.iter().map(registered_as).map(|one| (one.key.clone(), one)).collect();
            instances.apply(Update::Reset(all.into_values().collect()), at);
        }
        Step::Policy(service, text) => {
            let _mistake = instances.set_policy(&SERVICES[service].parse().unwrap(), text.map(str::to_owned));
        }
        Step::Policies(text) => {
            let all = text.map(|text| ("mail".parse().unwrap(), text.to_owned()));
            instances.replace_policies(all.into_iter().collect());
        }
        Step::Override(service, id, status) => instances.set_override(key(service, id), status.map(Into::into)),
        Step::Overrides(id, status) => instances.replace_overrides([(key(0, id), status.into())].into()),
        Step::Tick(ms) => {
            *now += ms;
            instances.tick(Millis(*now));
        }
        Step::FoundDead(n) => {
            let dead = instances.suspects().nth(n).map(|one| (one.key.clone(), one.serial));
            if let Some((key, serial)) = dead {
                instances.found_dead(&key, serial);
            }
        }
        Step::Table => {}
    }
}

/// All that there is to see of a service.
fn shown(service: &Service) -> impl PartialEq + std::fmt::Debug {
    let identity = |one: &Arc<Candidate>| (one.key.clone(), one.serial, Arc::as_ptr(one) as usize);
    let set = |set: &crate::load_balancing::candidate_set::CandidateSet| {
        let cookies: Vec<_> = set.all().iter().map(|one| set.with_cookie(one.cookie()).map(identity)).collect();
        (set.all().iter().map(identity).collect::<Vec<_>>(), cookies, set.maglev().map(|maglev| maglev.at(7)))
    };
    let balancer = &service.balancer;
    let of_set = (set(&balancer.candidates), set(&balancer.last_resort), service.unregistered.clone());
    let policy = (Arc::as_ptr(service.policy()) as usize, balancer.effective_policy.mistake.clone());
    let access = service.access.as_ref().map(|access| Arc::as_ptr(access) as usize);
    let once = (balancer.has_withheld, service.tombstones.clone(), service.prefix.clone(), service.name.clone());
    (of_set, service.withheld.to_vec(), policy, access, once)
}

fn compare(instances: &Instances, table: &RoutingTable) -> Result<(), TestCaseError> {
    let names: Vec<ServiceName> = SERVICES.iter().map(|name| name.parse().unwrap()).collect();
    for name in &names {
        let whole = instances.service(name);
        let built = table.service(name.as_str());
        prop_assert_eq!(built.map(shown), whole.as_ref().map(shown));
        let policy = instances.policies.of(name);
        let given = table.policy(name.as_str());
        if policy.source == crate::load_balancing::effective_policy::PolicySource::Etcd {
            prop_assert!(given.is_some_and(|given| std::ptr::eq(given, &*policy.policy)));
        }
        for one in built.into_iter().flat_map(|service| service.balancer.candidates.all()) {
            prop_assert_eq!(one.state.load.in_flight_max(), policy.policy.breaker.in_flight_max);
        }
    }
    let broken = names.iter().filter(|name| instances.policies.of(name).mistake.is_some()).count();
    prop_assert_eq!(table.policies_broken, broken);
    prop_assert_eq!(table.services().len(), names.iter().filter(|name| instances.service(name).is_some()).count());
    Ok(())
}

proptest! {
    #[test]
    fn a_table_made_from_its_changes_is_the_one_made_from_everything(all in prop::collection::vec(steps(), 1..120)) {
        let (mut instances, mut now) = (instances(), 0);
        let everyone = (0..IDS).map(|id| Value { service: 0, id, port: id + 1, status: "passing", life: 1 });
        everyone.for_each(|value| apply(&mut instances, Step::Add(value), &mut 0));
        let mut last = instances.table().unwrap();
        for step in all.into_iter().chain([Step::Table]) {
            if let Step::Table = step {
                last = instances.table().unwrap_or(last);
                compare(&instances, &last)?;
            } else {
                apply(&mut instances, step, &mut now);
            }
        }
    }
}
