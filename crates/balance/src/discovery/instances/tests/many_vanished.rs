//! Many that vanish in one go.

use super::*;

/// Four instances of `mail`, the first `vanished` of which lost their keys at 1 s.
fn mail_without(vanished: usize) -> Instances {
    let mut instances = instances();
    for n in 1..=4 {
        add(&mut instances, &format!("service/mail/{n}"), &format!("10.0.0.{n}:1"));
    }
    (1..=vanished).for_each(|n| remove(&mut instances, &format!("service/mail/{n}"), 1000));
    instances
}

#[test]
fn many_that_vanish_in_one_go_are_used_beside_the_registered_ones_for_ten_seconds() {
    let mut instances = mail_without(3);
    assert_eq!(places(&mut instances).0, ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"]);
    let service = instances.service(&"mail".parse().unwrap()).unwrap();
    let kept: Vec<_> = service.balancer.candidates.all().iter().map(|one| service.is_kept(one)).collect();
    assert_eq!(kept, [true, true, true, false]);
    instances.tick(Millis(10_999));
    assert_eq!(places(&mut instances).0.len(), 4);
    instances.tick(Millis(11_000));
    assert_eq!(places(&mut instances).0, ["10.0.0.4:1"]);
    assert_eq!(places(&mut instances).1.len(), 3, "the last resort, as if each had vanished alone");
}

#[test]
fn one_of_several_that_vanishes_is_used_no_more() {
    let mut instances = mail_without(1);
    assert_eq!(places(&mut instances).0, ["10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"]);
    assert_eq!(places(&mut instances).1, ["10.0.0.1:1"]);
}

#[test]
fn instances_that_left_are_never_kept_whoever_vanishes_with_them() {
    let mut instances = instances();
    add(&mut instances, "service/mail/0", "10.0.0.9:1");
    for n in 1..=3 {
        add(&mut instances, &format!("service/mail/{n}"), &format!("http://10.0.0.{n}:1?status=draining"));
        add(&mut instances, &format!("service/web/{n}"), &format!("10.0.1.{n}:1"));
    }
    for n in 1..=3 {
        remove(&mut instances, &format!("service/web/{n}"), 1000);
        remove(&mut instances, &format!("service/mail/{n}"), 1000);
    }
    assert_eq!(places(&mut instances).0, ["10.0.0.9:1"]);
}

#[test]
fn one_that_traffic_has_ejected_is_not_kept_and_one_that_is_found_dead_is_gone() {
    let mut instances = mail_without(0);
    let service = instances.service(&"mail".parse().unwrap()).unwrap();
    let ejected = &service.balancer.candidates.all()[0];
    ejected.record(Outcome::ConnectFailed, None, Millis(900), service.policy());
    (1..=3).for_each(|n| remove(&mut instances, &format!("service/mail/{n}"), 1000));
    assert_eq!(places(&mut instances).0, ["10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"]);
    let dead: Vec<_> = instances.suspects().map(|one| (one.key.clone(), one.serial)).collect();
    dead.iter().for_each(|(key, serial)| instances.found_dead(key, *serial));
    assert_eq!(places(&mut instances).0, ["10.0.0.4:1"]);
}

#[test]
fn one_that_is_back_is_the_same_instance_with_its_connections() {
    let mut instances = mail_without(0);
    let serials = |instances: &mut Instances| -> Vec<u64> {
        let service = instances.service(&"mail".parse().unwrap()).unwrap();
        service.balancer.candidates.all().iter().map(|one| one.serial).collect()
    };
    let before = serials(&mut instances);
    (1..=3).for_each(|n| remove(&mut instances, &format!("service/mail/{n}"), 1000));
    let back = Registered { created: Revision(9), ..registered("service/mail/1", "10.0.0.1:1") };
    instances.apply(Update::Add(back), Millis(1500));
    assert_eq!(serials(&mut instances), before);
    let service = instances.service(&"mail".parse().unwrap()).unwrap();
    assert!(service.balancer.candidates.all()[0].state.joined.is_none(), "it does not begin slowly");
    add(&mut instances, "service/mail/2", "10.0.0.7:1");
    assert_ne!(serials(&mut instances)[1], before[1], "elsewhere it is another one");
}

#[test]
fn the_first_one_back_of_a_service_that_vanished_as_a_whole_shares_with_the_others() {
    let mut instances = mail_without(4);
    assert_eq!(places(&mut instances).1.len(), 4);
    instances.tick(Millis(60_000));
    assert_eq!(places(&mut instances).1.len(), 4);
    instances.apply(Update::Add(registered("service/mail/2", "10.0.0.2:1")), Millis(60_000));
    assert_eq!(places(&mut instances).0.len(), 4);
    instances.tick(Millis(69_999));
    assert_eq!(places(&mut instances).0.len(), 4);
    instances.tick(Millis(70_000));
    assert_eq!(places(&mut instances).0, ["10.0.0.2:1"]);
}

#[test]
fn a_restart_keeps_nobody_that_vanished_before() {
    let saved = mail_without(3).save(Millis(1000));
    let mut restarted = instances();
    restarted.restore(saved, Duration::ZERO, Millis(0));
    assert_eq!(places(&mut restarted).0, ["10.0.0.4:1"]);
    assert_eq!(places(&mut restarted).1.len(), 3);
}
