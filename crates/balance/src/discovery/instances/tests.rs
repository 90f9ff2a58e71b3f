mod incremental;
mod many_vanished;

use discovery::{Instance, LeaseId, Status};

use super::*;
use crate::{
    instance::outlier::Outcome,
    load_balancing::pick::{PickContext, TriedInstances, pick},
    table::routing_table::ExclusionReason,
};

const LAST_RESORT: Duration = Duration::from_secs(600);

fn instances() -> Instances {
    Instances::new(1, AddressPolicy::default(), LAST_RESORT)
}

fn registered(key: &str, value: &str) -> Registered {
    let (created, modified) = (Revision(1), Revision(1));
    let instance = Instance::parse(value.as_bytes()).unwrap();
    Registered { key: key.parse().unwrap(), instance, lease: Some(LeaseId(7)), created, modified }
}

fn add(instances: &mut Instances, key: &str, value: &str) {
    instances.apply(Update::Add(registered(key, value)), Millis(0));
}

fn remove(instances: &mut Instances, key: &str, at: u64) {
    instances.apply(Update::Remove(key.parse().unwrap()), Millis(at));
}

/// Addresses in rotation, in the last resort, and withheld with the reason; of `mail`.
fn places(instances: &mut Instances) -> (Vec<String>, Vec<String>, Vec<(String, ExclusionReason)>) {
    let built = instances.service(&"mail".parse().unwrap());
    let Some(service) = built else { return Default::default() };
    let addresses = |candidate_set: &crate::load_balancing::candidate_set::CandidateSet| {
        candidate_set.all().iter().map(|one| one.address().to_string()).collect()
    };
    let withheld = service.withheld.iter().map(|withheld| (withheld.address.to_string(), withheld.why));
    (addresses(&service.balancer.candidates), addresses(&service.balancer.last_resort), withheld.collect())
}

#[test]
fn an_instance_is_in_rotation_as_soon_as_it_is_added() {
    let mut instances = instances();
    add(&mut instances, "service/mail/a", "10.0.0.1:1");
    add(&mut instances, "service/mail", "10.0.0.2:1");
    add(&mut instances, "service/mailer/a", "10.0.0.3:1");
    assert_eq!(places(&mut instances).0, ["10.0.0.2:1", "10.0.0.1:1"], "the nameless one too, but no other service");
}

#[test]
fn identical_data_changes_nothing() {
    let mut instances = instances();
    add(&mut instances, "service/mail/a", "10.0.0.1:1");
    assert!(instances.table().is_some());
    add(&mut instances, "service/mail/a", "10.0.0.1:1");
    instances.apply(Update::Reset(vec![registered("service/mail/a", "10.0.0.1:1")]), Millis(1));
    remove(&mut instances, "service/mail/nobody", 1);
    instances.replace_overrides(BTreeMap::new());
    assert!(instances.table().is_none());
}

#[test]
fn draining_and_critical_instances_are_withheld_whoever_says_so() {
    let mut instances = instances();
    add(&mut instances, "service/mail/a", "http://10.0.0.1:1?status=draining");
    add(&mut instances, "service/mail/b", "http://10.0.0.2:1?status=critical");
    add(&mut instances, "service/mail/c", "10.0.0.3:1");
    add(&mut instances, "service/mail/d", "http://10.0.0.4:1?status=critical");
    instances.set_override("service/mail/c".parse().unwrap(), Some(Status::Draining.into()));
    instances.set_override("service/mail/d".parse().unwrap(), Some(Status::Passing.into()));
    let (in_rotation, _, withheld) = places(&mut instances);
    assert_eq!(in_rotation, ["10.0.0.4:1"], "an operator's word goes first");
    let whys: Vec<_> = withheld.into_iter().map(|(_, why)| why).collect();
    let expected = [
        ExclusionReason::Status(Status::Draining),
        ExclusionReason::Status(Status::Critical),
        ExclusionReason::Operator(Status::Draining),
    ];
    assert_eq!(whys, expected);
    instances.set_override("service/mail/c".parse().unwrap(), None);
    assert_eq!(places(&mut instances).0, ["10.0.0.3:1", "10.0.0.4:1"]);
}

#[test]
fn a_drain_is_for_the_life_that_it_was_given_for() {
    let mut instances = instances();
    let of = |lease: i64| Registered { lease: Some(LeaseId(lease)), ..registered("service/mail/a", "10.0.0.1:1") };
    let mut successor = of(8);
    successor.created = Revision(7);
    instances.apply(Update::Add(of(7)), Millis(0));
    let order: Override = "draining?incarnation=0000000000000007&author=kim".parse().unwrap();
    instances.set_override("service/mail/a".parse().unwrap(), Some(order));
    assert!(places(&mut instances).0.is_empty());
    let json = serde_json::to_string(&instances.save(Millis(1))).unwrap();
    let mut restarted = self::instances();
    restarted.restore(serde_json::from_str(&json).unwrap(), Duration::ZERO, Millis(2));
    assert!(places(&mut restarted).0.is_empty(), "also by a gateway that starts without etcd");
    instances.apply(Update::Add(successor), Millis(2));
    assert_eq!(places(&mut instances).0, ["10.0.0.1:1"], "whoever gets the address next has not been drained");
}

#[test]
fn a_snapshot_of_an_earlier_version_drains_whoever_has_the_id() {
    let saved =
        r#"{"revision":1,"instances":{"service/mail/a":"10.0.0.1:1"},"overrides":{"service/mail/a":"draining"}}"#;
    let mut instances = instances();
    instances.restore(serde_json::from_str(saved).unwrap(), Duration::ZERO, Millis(0));
    assert!(places(&mut instances).0.is_empty());
}

#[test]
fn forbidden_addresses_and_foreign_protocols_are_withheld() {
    let mut instances = instances();
    add(&mut instances, "service/mail/a", "169.254.169.254:80");
    add(&mut instances, "service/mail/b", "https://10.0.0.2:1");
    let (in_rotation, _, withheld) = places(&mut instances);
    assert!(in_rotation.is_empty());
    assert!(
        matches!(withheld[..], [(_, ExclusionReason::Address(_)), (_, ExclusionReason::Scheme(_))]),
        "{withheld:?}"
    );
}

#[test]
fn an_expired_instance_becomes_the_last_resort_for_a_bounded_time() {
    let mut instances = instances();
    add(&mut instances, "service/mail/a", "10.0.0.1:1");
    remove(&mut instances, "service/mail/a", 1000);
    assert_eq!(places(&mut instances).1, ["10.0.0.1:1"]);
    instances.tick(Millis(600_999));
    assert_eq!(places(&mut instances).1.len(), 1);
    instances.tick(Millis(601_000));
    assert!(places(&mut instances).1.is_empty());
}

#[test]
fn a_suspect_that_is_found_dead_is_gone_at_once() {
    let mut instances = instances();
    add(&mut instances, "service/mail/a", "10.0.0.1:1");
    remove(&mut instances, "service/mail/a", 0);
    let (key, serial) = instances.suspects().map(|one| (one.key.clone(), one.serial)).next().unwrap();
    instances.found_dead(&key, serial + 1);
    assert_eq!(instances.suspects().count(), 1, "that was about somebody else");
    instances.found_dead(&key, serial);
    assert_eq!(instances.suspects().count(), 0);
    let service = instances.service(&"mail".parse().unwrap()).unwrap();
    assert_eq!(service.tombstones[0].cause, Cause::Expired);
}

#[test]
fn an_instance_that_deregistered_is_no_last_resort() {
    let mut instances = instances();
    add(&mut instances, "service/mail/a", "http://10.0.0.1:1?status=draining");
    remove(&mut instances, "service/mail/a", 0);
    assert_eq!(instances.suspects().count(), 0);
    let service = instances.service(&"mail".parse().unwrap()).unwrap();
    assert_eq!(service.tombstones[0].cause, Cause::Deregistered);
}

#[test]
fn a_suspect_that_registers_again_is_in_rotation_and_its_tombstone_is_gone() {
    let mut instances = instances();
    add(&mut instances, "service/mail/a", "10.0.0.1:1");
    remove(&mut instances, "service/mail/a", 0);
    add(&mut instances, "service/mail/a", "10.0.0.1:1");
    assert_eq!(places(&mut instances), (vec!["10.0.0.1:1".to_owned()], vec![], vec![]));
    assert!(instances.service(&"mail".parse().unwrap()).unwrap().tombstones.is_empty());
}

#[test]
fn a_successor_at_the_same_address_takes_the_place_of_a_suspect() {
    let mut instances = instances();
    add(&mut instances, "service/mail/before", "10.0.0.1:1");
    remove(&mut instances, "service/mail/before", 0);
    add(&mut instances, "service/mail/after", "10.0.0.1:1");
    assert_eq!(instances.suspects().count(), 0);
    add(&mut instances, "service/mail/twin", "10.0.0.1:1");
    remove(&mut instances, "service/mail/twin", 0);
    assert_eq!(instances.suspects().count(), 0, "somebody else is registered there");
}

#[test]
fn a_reset_makes_suspects_of_all_who_are_missing() {
    let mut instances = instances();
    add(&mut instances, "service/mail/a", "10.0.0.1:1");
    add(&mut instances, "service/mail/b", "10.0.0.2:1");
    instances.apply(Update::Reset(vec![]), Millis(0));
    assert_eq!(places(&mut instances).1, ["10.0.0.1:1", "10.0.0.2:1"], "the death of etcd stops no traffic");
    instances.apply(Update::Reset(vec![registered("service/mail/a", "10.0.0.1:1")]), Millis(1));
    assert_eq!(places(&mut instances).0, ["10.0.0.1:1", "10.0.0.2:1"], "the other one has ten seconds to come back");
    instances.tick(Millis(10_001));
    let (in_rotation, last_resort, _) = places(&mut instances);
    assert_eq!((in_rotation, last_resort), (vec!["10.0.0.1:1".to_owned()], vec!["10.0.0.2:1".to_owned()]));
}

#[test]
fn what_traffic_taught_survives_a_change_of_status_but_not_a_new_registration() {
    let mut instances = instances();
    add(&mut instances, "service/mail/a", "10.0.0.1:1");
    add(&mut instances, "service/mail/b", "10.0.0.2:1");
    let eject = |instances: &Instances| {
        let service = instances.service(&"mail".parse().unwrap()).unwrap();
        let failed = Outcome::ConnectFailed;
        service.balancer.candidates.all()[0].record(failed, None, Millis(0), service.policy());
    };
    let first = |instances: &Instances| {
        let service = instances.service(&"mail".parse().unwrap()).unwrap();
        let ask = PickContext {
            core: 0,
            hash: None,
            sticky: None,
            wants_upgrade: false,
            keep_alive: Duration::ZERO,
            now: Millis(1),
        };
        pick(&service.balancer, &ask, &TriedInstances::default()).unwrap().candidate.address().to_string()
    };
    eject(&instances);
    let mut changed = registered("service/mail/a", "http://10.0.0.1:1?version=2");
    changed.modified = Revision(2);
    instances.apply(Update::Add(changed.clone()), Millis(0));
    assert_eq!(first(&instances), "10.0.0.2:1");
    changed.created = Revision(3);
    instances.apply(Update::Add(changed), Millis(0));
    assert_eq!(first(&instances), "10.0.0.1:1", "a new process starts healthy");
}

#[test]
fn what_is_saved_is_restored() {
    let mut before = instances();
    add(&mut before, "service/mail/a", "10.0.0.1:1");
    add(&mut before, "service/mail/b", "http://10.0.0.2:1?weight=3");
    before.set_override("service/mail/a".parse().unwrap(), Some(Status::Draining.into()));
    before.at(Source::Etcd, Revision(9));
    add(&mut before, "service/mail/gone", "10.0.0.3:1");
    remove(&mut before, "service/mail/gone", 5_000);
    before.set_policy(&"mail".parse().unwrap(), Some(r#"{"retries":{"attempts_max":7}}"#.into())).unwrap();
    let json = serde_json::to_string(&before.save(Millis(6_000))).unwrap();
    let mut after = instances();
    let saved: Saved = serde_json::from_str(&json).unwrap();
    assert_eq!(saved.revision, Revision(9));
    assert!(after.restore(saved, Duration::from_secs(10), Millis(100_000)).is_empty());
    assert_eq!(places(&mut after), places(&mut before));
    assert_eq!(after.suspects().count(), 1, "who vanished is asked, still");
    let service = after.service(&"mail".parse().unwrap()).unwrap();
    assert_eq!(service.policy().retries.attempts_max, 7);
    assert_eq!(
        service.tombstones.last().unwrap().at,
        Millis(89_000),
        "one second before it was saved, ten seconds ago"
    );
    let older = r#"{"revision":1,"instances":{"service/mail/a":"10.0.0.1:1"}}"#;
    assert!(instances().restore(serde_json::from_str(older).unwrap(), Duration::ZERO, Millis(0)).is_empty());
}

#[test]
fn the_table_shares_what_did_not_change() {
    let mut instances = instances();
    add(&mut instances, "service/mail/a", "10.0.0.1:1");
    add(&mut instances, "service/userlist/a", "10.0.0.2:1");
    let before = instances.table().unwrap();
    add(&mut instances, "service/mail/b", "10.0.0.3:1");
    let after = instances.table().unwrap();
    let same = |name| std::ptr::eq(before.service(name).unwrap(), after.service(name).unwrap());
    assert!(same("userlist") && !same("mail"));
    let (mail_before, mail_after) = (before.service("mail").unwrap(), after.service("mail").unwrap());
    assert!(Arc::ptr_eq(&mail_before.balancer.cores, &mail_after.balancer.cores), "counters survive");
}

#[test]
fn the_next_table_knows_at_once_which_of_many_are_unhealthy() {
    let mut instances = instances();
    (0..100).for_each(|n| add(&mut instances, &format!("service/mail/{n}"), &format!("10.0.0.{n}:1")));
    let before = instances.table().unwrap();
    let balancer = &before.service("mail").unwrap().balancer;
    balancer.candidates.all()[0].state.outlier.checked(false);
    assert!(balancer.assess(Millis(1)).has_unhealthy);
    add(&mut instances, "service/mail/100", "10.0.1.1:1");
    let after = instances.table().unwrap();
    let balancer = &after.service("mail").unwrap().balancer;
    assert!(balancer.assess(Millis(2)).has_unhealthy, "carried over");
    assert_eq!(balancer.candidates.weighted_set().ring().unwrap().unhealthy(0, 8).count(), 1);
}

#[test]
fn ten_thousand_that_expire_and_return_are_followed_one_by_one() {
    let mut instances = instances();
    let address = |n: u32| format!("10.{}.{}.{}:1", n >> 16, n >> 8 & 255, n & 255);
    let all: Vec<_> = (0..10_000).map(|n| registered(&format!("service/mail/{n}"), &address(n))).collect();
    instances.apply(Update::Reset(all.clone()), Millis(0));
    for registered in &all {
        instances.apply(Update::Remove(registered.key.clone()), Millis(1));
    }
    assert_eq!(instances.suspects().count(), 10_000);
    for registered in all {
        instances.apply(Update::Add(registered), Millis(2));
    }
    assert_eq!(instances.suspects().count(), 0);
    assert_eq!(places(&mut instances).0.len(), 10_000);
}

#[test]
fn the_last_resort_never_leads_to_another_service() {
    let mut instances = instances();
    add(&mut instances, "service/mail/a", "10.0.0.1:1");
    remove(&mut instances, "service/mail/a", 0);
    add(&mut instances, "service/userlist/a", "10.0.0.1:1");
    assert_eq!(instances.suspects().count(), 0, "userlist would get the requests for mail");
    let service = instances.service(&"mail".parse().unwrap()).unwrap();
    assert_eq!(service.tombstones.len(), 1, "mail is dead nevertheless");
    add(&mut instances, "service/mail/a", "10.0.0.1:1");
    remove(&mut instances, "service/mail/a", 1);
    assert_eq!(instances.suspects().count(), 0, "userlist is registered there");
    let service = instances.service(&"mail".parse().unwrap()).unwrap();
    assert_eq!(service.tombstones.len(), 1, "mail is dead nevertheless");
}

#[test]
fn two_services_of_one_process_that_vanish_together_are_both_the_last_resort() {
    let mut instances = instances();
    add(&mut instances, "service/mail/a", "10.0.0.1:1");
    add(&mut instances, "service/mail/twin", "10.0.0.1:1");
    add(&mut instances, "service/userlist/a", "10.0.0.1:1");
    instances.apply(Update::Reset(vec![]), Millis(0));
    let suspects: Vec<_> = instances.suspects().map(|suspect| suspect.key.to_string()).collect();
    assert_eq!(suspects, ["service/mail/a", "service/userlist/a"], "each address once for each service");
}

#[test]
fn names_that_come_and_go_do_not_fill_the_table() {
    let mut instances = Instances::new(1, AddressPolicy::default(), Duration::ZERO);
    for n in 0..1100 {
        let key = format!("service/s{n}/a");
        add(&mut instances, &key, "10.0.0.1:1");
        remove(&mut instances, &key, n);
    }
    let table = instances.table().unwrap();
    assert_eq!(table.services().len(), 1024);
    // The same when the table was built in between.
    for n in 1100..1200 {
        let key = format!("service/s{n}/a");
        add(&mut instances, &key, "10.0.0.1:1");
        remove(&mut instances, &key, n);
        instances.table();
    }
    instances.at(Source::Etcd, Revision(1));
    let table = instances.table().unwrap();
    assert_eq!(table.services().len(), 1024);
    assert!(table.service("s0").is_none() && table.service("s1199").is_some());
}

#[test]
fn a_forbidden_address_is_never_asked_whether_it_lives() {
    let mut instances = instances();
    add(&mut instances, "service/mail/a", "169.254.169.254:80");
    remove(&mut instances, "service/mail/a", 0);
    assert_eq!(instances.suspects().count(), 0);
}
