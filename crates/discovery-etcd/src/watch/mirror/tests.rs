use discovery::Status;

use super::*;

fn entry(key: &str, value: &str, modified: i64) -> Entry {
    Entry { key: key.into(), value: value.into(), lease: 7, created: 1, modified }
}

fn put(key: &str, value: &str, modified: i64) -> Event {
    Event::Put(entry(key, value, modified))
}

fn delete(key: &str, modified: i64) -> Event {
    Event::Delete { key: key.into(), modified }
}

fn registered(key: &str, value: &str, modified: i64) -> Registered {
    entry(key, value, modified).registered().unwrap()
}

fn list(revision: i64, instances: &[(&str, &str, i64)]) -> Snapshot {
    let instances = instances.iter().map(|(key, value, modified)| registered(key, value, *modified)).collect();
    Snapshot { revision: Revision(revision), instances, ..Snapshot::default() }
}

fn mirror(snapshot: Snapshot) -> Mirror {
    let mut mirror = Mirror::default();
    mirror.reset(snapshot);
    mirror
}

#[test]
fn the_first_list_is_a_change_even_when_it_is_empty() {
    let changes = Mirror::default().reset(list(5, &[]));
    assert_eq!(changes.updates, [Update::Reset(vec![])]);
    assert_eq!(changes.overrides, [OverrideUpdate::Reset(BTreeMap::new())]);
}

#[test]
fn api_keys_are_followed_and_a_revoked_one_is_gone_with_its_event() {
    let mut mirror = Mirror::default();
    let id = || AccessKeyId::of_key(b"config/key/ci").unwrap();
    let listed = Snapshot { access_keys: [(id(), "a".to_owned())].into(), ..list(5, &[]) };
    let first = mirror.reset(listed.clone());
    assert_eq!(first.access_keys, [AccessKeyUpdate::Reset(listed.access_keys.clone())]);
    assert!(mirror.reset(listed.clone()).is_empty());
    let gone = Event::Delete { key: b"config/key/ci".to_vec(), modified: 6 };
    let changes = mirror.apply(Range::Policies, std::slice::from_ref(&gone));
    assert_eq!((changes.access_keys.as_slice(), changes.policies.len()), (&[AccessKeyUpdate::Unset(id())][..], 0));
    // A list that was made before the event does not bring it back.
    let mut touched = Touched::new();
    touch_event(&mut touched, Range::Policies, &gone);
    assert_eq!(mirror.differences(&listed, &touched), 0);
    assert!(mirror.adopt(listed, &touched).is_empty());
}

#[test]
fn policies_are_followed_and_other_configuration_is_left_alone() {
    let mail = || "mail".parse::<discovery::ServiceName>().unwrap();
    let listed = Snapshot { policies: [(mail(), "{}".to_owned())].into(), ..list(5, &[]) };
    let mut mirror = Mirror::default();
    let first = mirror.reset(listed.clone());
    assert_eq!(first.policies, [PolicyUpdate::Reset(listed.policies.clone())]);
    assert!(mirror.reset(listed.clone()).is_empty());
    let changes = mirror.apply(Range::Policies, &[put("config/mail", "{}", 6), put("config/mail/smtp", "x", 7)]);
    assert!(changes.is_empty(), "the same text, and keys of others");
    let changes = mirror.apply(Range::Policies, &[put("config/mail", "nonsense", 8), delete("config/Mail", 9)]);
    assert_eq!(changes.policies, [PolicyUpdate::Set(mail(), "nonsense".to_owned())], "its reader judges it");
    assert_eq!(mirror.differences(&listed, &Touched::new()), 1);
    let changes = mirror.apply(Range::Policies, &[delete("config/mail", 10)]);
    assert_eq!(changes.policies, [PolicyUpdate::Unset(mail())]);
    assert_eq!(mirror.adopt(listed.clone(), &Touched::new()).policies, [PolicyUpdate::Reset(listed.policies)]);
}

#[test]
fn identical_data_changes_nothing() {
    let mut mirror = mirror(list(5, &[("service/mail/a", "a:1", 4)]));
    assert!(mirror.reset(list(9, &[("service/mail/a", "a:1", 4)])).is_empty());
}

#[test]
fn a_list_that_differs_is_one_reset() {
    let mut mirror = mirror(list(5, &[("service/mail/a", "a:1", 4)]));
    let changes = mirror.reset(list(9, &[("service/mail/b", "b:1", 8)]));
    assert_eq!(changes.updates, [Update::Reset(vec![registered("service/mail/b", "b:1", 8)])]);
    assert!(changes.overrides.is_empty(), "the overrides are the same");
}

#[test]
fn all_events_of_a_response_are_applied_in_order() {
    let mut mirror = mirror(list(5, &[("service/mail/a", "a:1", 4)]));
    let changes = mirror.apply(
        Range::Instances,
        &[put("service/mail/b", "b:1", 6), delete("service/mail/a", 6), put("service/mail/a", "a:2", 7)],
    );
    let gone = InstanceKey::parse(b"service/mail/a").unwrap();
    assert_eq!(
        changes.updates,
        [
            Update::Add(registered("service/mail/b", "b:1", 6)),
            Update::Remove(gone),
            Update::Add(registered("service/mail/a", "a:2", 7))
        ]
    );
}

#[test]
fn events_that_are_in_already_are_ignored() {
    let mut mirror = mirror(list(5, &[("service/mail/a", "a:1", 4)]));
    assert!(mirror.apply(Range::Instances, &[delete("service/mail/a", 5), put("service/mail/b", "b:1", 3)]).is_empty());
    mirror.apply(Range::Instances, &[put("service/mail/a", "a:2", 6)]);
    assert!(mirror.apply(Range::Instances, &[put("service/mail/a", "a:1", 6)]).is_empty(), "time does not go back");
}

#[test]
fn the_two_ranges_do_not_hide_each_others_events() {
    let mut mirror = mirror(list(5, &[]));
    mirror.apply(Range::Instances, &[put("service/mail/a", "a:1", 9)]);
    let changes = mirror.apply(Range::Overrides, &[put("override/mail/a", "draining", 8)]);
    let key = InstanceKey::parse(b"service/mail/a").unwrap();
    assert_eq!(changes.overrides, [OverrideUpdate::Set(key.clone(), Status::Draining.into())]);
    let changes = mirror.apply(Range::Overrides, &[delete("override/mail/a", 10)]);
    assert_eq!(changes.overrides, [OverrideUpdate::Unset(key)]);
}

#[test]
fn an_unreadable_value_takes_out_its_own_instance_only_and_is_said_once() {
    let mut mirror = mirror(list(5, &[("service/mail/a", "a:1", 4), ("service/mail/b", "b:1", 4)]));
    let changes = mirror.apply(Range::Instances, &[put("service/mail/a", "garbage", 6)]);
    assert_eq!(changes.updates, [Update::Remove(InstanceKey::parse(b"service/mail/a").unwrap())]);
    assert_eq!(changes.unreadable.len(), 1);
    assert!(mirror.apply(Range::Instances, &[put("service/mail/a", "garbage", 7)]).is_empty());
    assert_eq!(mirror.unreadable(), 1);
    let changes = mirror.apply(Range::Instances, &[put("service/mail/a", "a:1", 8)]);
    assert_eq!((changes.updates.len(), mirror.unreadable()), (1, 0));
}

#[test]
fn a_key_that_is_no_instance_is_unreadable() {
    let mut mirror = mirror(list(5, &[]));
    let changes = mirror.apply(Range::Instances, &[put("service/mail/a/b", "a:1", 6)]);
    assert_eq!((changes.updates.len(), changes.unreadable.len()), (0, 1));
    assert!(mirror.apply(Range::Instances, &[delete("service/mail/a/b", 7)]).is_empty());
    assert_eq!(mirror.unreadable(), 0);
}

#[test]
fn a_list_that_is_compared_finds_what_a_watch_lost() {
    let lost_put = mirror(list(5, &[]));
    assert_eq!(lost_put.differences(&list(7, &[("service/mail/a", "a:1", 6)]), &Touched::new()), 1);
    let lost_delete = mirror(list(5, &[("service/mail/a", "a:1", 4)]));
    assert_eq!(lost_delete.differences(&list(7, &[]), &Touched::new()), 1);
    let lost_change = mirror(list(5, &[("service/mail/a", "a:1", 4)]));
    assert_eq!(lost_change.differences(&list(7, &[("service/mail/a", "a:1", 6)]), &Touched::new()), 1);
    assert_eq!(lost_change.differences(&list(7, &[("service/mail/a", "a:1", 4)]), &Touched::new()), 0);
}

#[test]
fn what_changed_after_the_list_is_neither_a_difference_nor_undone() {
    let mut mirror = mirror(list(5, &[("service/mail/a", "a:1", 4), ("service/mail/lost", "l:1", 4)]));
    let mut touched = Touched::new();
    for event in [delete("service/mail/a", 8), put("service/mail/b", "b:1", 9)] {
        touch_event(&mut touched, Range::Instances, &event);
        mirror.apply(Range::Instances, &[event]);
    }
    let older = list(7, &[("service/mail/a", "a:1", 4)]);
    assert_eq!(mirror.differences(&older, &touched), 1, "only the lost one");
    let changes = mirror.adopt(older, &touched);
    assert_eq!(changes.updates, [Update::Reset(vec![registered("service/mail/b", "b:1", 9)])]);
    assert!(mirror.apply(Range::Instances, &[put("service/mail/b", "b:0", 9)]).is_empty(), "still knows what is in");
}
