use discovery::{Instance, LeaseId};

use super::*;
use crate::mirror::Cause;

fn registered(key: &str, lease: i64, revision: i64) -> Registered {
    Registered {
        key: key.parse().unwrap(),
        instance: Instance::at("10.0.0.5:7070".parse().unwrap()),
        lease: Some(LeaseId(lease)),
        created: Revision(revision),
        modified: Revision(revision),
    }
}

fn change(revision: i64, updates: Vec<Update>) -> Change {
    Change { revision: Revision(revision), cause: None, updates, ..Change::default() }
}

fn lease(view: &MirrorState, key: &str) -> Option<i64> {
    view.held(&key.parse().unwrap()).and_then(|held| held.lease).map(|lease| lease.0)
}

#[test]
fn the_instances_of_a_service_are_its_own_and_no_others() {
    let mut view = MirrorState::default();
    let keys = ["service/mail", "service/mail-2/a", "service/mail/a", "service/mail/b", "service/mailbox/a"];
    let all = keys.iter().map(|key| registered(key, 1, 1)).collect();
    take(&mut view, change(1, vec![Update::Reset(all)]));
    let of = |service: &str| -> Vec<String> {
        view.of_service(&service.parse().unwrap()).map(|one| one.registered.key.to_string()).collect()
    };
    assert_eq!(of("mail"), ["service/mail", "service/mail/a", "service/mail/b"]);
    assert_eq!(of("mail-2"), ["service/mail-2/a"]);
    assert!(of("nobody").is_empty());
}

#[test]
fn our_own_commit_counts_until_the_mirror_has_reached_it() {
    let mut view = MirrorState::default();
    let key = "service/mail/a";
    take(&mut view, change(5, vec![Update::Reset(vec![registered(key, 1, 5)])]));
    view.commit(key.parse().unwrap(), Revision(7), Some(Seen::of_mirror(&registered(key, 2, 7)).to_held()));
    assert_eq!(lease(&view, key), Some(2));
    take(&mut view, change(6, vec![Update::Add(registered("service/other/b", 9, 6))]));
    assert_eq!(lease(&view, key), Some(2));
    take(&mut view, change(8, vec![Update::Remove(key.parse().unwrap())]));
    assert_eq!(lease(&view, key), None, "the mirror has seen our commit, and the end of it");
}

#[test]
fn a_wiped_etcd_takes_our_commits_with_it() {
    let mut view = MirrorState::default();
    let key = "service/mail/a";
    take(&mut view, change(50, vec![Update::Reset(Vec::new())]));
    view.commit(key.parse().unwrap(), Revision(51), Some(Seen::of_mirror(&registered(key, 2, 51)).to_held()));
    view.advance(Revision(1));
    assert_eq!(lease(&view, key), None);
}

#[test]
fn a_commit_is_settled_when_the_mirror_gets_there_without_a_word_about_it() {
    // Registered and expired between two lists that are identical.
    let mut view = MirrorState::default();
    let key = "service/mail/a";
    take(&mut view, change(5, vec![Update::Reset(Vec::new())]));
    view.commit(key.parse().unwrap(), Revision(6), Some(Seen::of_mirror(&registered(key, 2, 6)).to_held()));
    view.advance(Revision(9));
    assert_eq!(lease(&view, key), None);
}

// --- what readers are told: indices, tombstones, who is woken ---

fn take(view: &mut MirrorState, change: Change) -> Touched {
    view.apply(change, SystemTime::UNIX_EPOCH)
}

fn topic(service: &str) -> Topic {
    Topic::Service(service.parse().unwrap())
}

fn overrides(revision: i64, update: OverrideUpdate) -> Change {
    Change { overrides: vec![update], ..change(revision, Vec::new()) }
}

fn index(view: &MirrorState, service: &str) -> i64 {
    view.index(&topic(service)).0
}

fn listed() -> MirrorState {
    let mut view = MirrorState::default();
    let all = vec![registered("service/mail/a", 1, 3), registered("service/web/b", 1, 4)];
    assert!(take(&mut view, change(10, vec![Update::Reset(all)])).all);
    view
}

#[test]
fn an_index_is_the_revision_of_the_services_last_event_and_of_no_other_service() {
    let mut view = listed();
    assert_eq!((index(&view, "mail"), index(&view, "web"), index(&view, "nobody")), (10, 10, 10));
    let touched = take(&mut view, change(12, vec![Update::Add(registered("service/mail/c", 1, 12))]));
    assert_eq!(touched.services.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["mail"]);
    assert!(!touched.list, "no service is new");
    assert_eq!((index(&view, "mail"), index(&view, "web")), (12, 10));
    take(&mut view, change(15, vec![Update::Remove("service/mail/c".parse().unwrap())]));
    assert_eq!(index(&view, "mail"), 15, "a deletion is an event, too");
    view.advance(Revision(99));
    assert_eq!(index(&view, "mail"), 15, "what is not about it does not move it");
    assert!(!view.is_news(&topic("mail"), Revision(15)));
    assert!(!view.is_news(&topic("mail"), Revision(99)), "as another replica may have counted");
    assert!(view.is_news(&topic("mail"), Revision(14)));
    assert!(view.is_news(&topic("mail"), Revision(100)), "from the future");
}

#[test]
fn two_events_out_of_order_are_two_indices_and_one_change_is_one() {
    let mut view = listed();
    let key = "service/mail/a".parse().unwrap();
    take(&mut view, overrides(20, OverrideUpdate::Set(key, Status::Draining.into())));
    take(&mut view, change(20, vec![Update::Add(registered("service/mail/a", 1, 19))]));
    assert_eq!(index(&view, "mail"), 21, "who has seen 20 must see this, too");
    let both = vec![Update::Add(registered("service/mail/x", 1, 30)), Update::Add(registered("service/mail/y", 1, 30))];
    take(&mut view, change(30, both));
    assert_eq!(index(&view, "mail"), 30);
}

#[test]
fn a_wiped_etcd_is_news_for_everybody() {
    let mut view = listed();
    let touched = take(&mut view, change(2, vec![Update::Reset(vec![registered("service/mail/a", 7, 2)])]));
    assert!(touched.all);
    assert!(view.is_news(&topic("mail"), Revision(10)) && view.is_news(&topic("web"), Revision(10)));
    let seen = view.index(&topic("mail"));
    assert!(!view.is_news(&topic("mail"), seen), "and then it is quiet again");
    assert_eq!(view.service(&"web".parse().unwrap()).unwrap().tombstones.len(), 1);
    assert_eq!(view.service(&"mail".parse().unwrap()).unwrap().since(Revision(10)), None);
}

#[test]
fn the_list_of_services_changes_with_their_names_and_tags_only() {
    let mut view = listed();
    let tagged = |tag: &str, revision| {
        let mut one = registered("service/mail/a", 1, revision);
        one.instance.tags.insert(tag.to_owned());
        one
    };
    assert!(take(&mut view, change(11, vec![Update::Add(tagged("blue", 11))])).list);
    assert!(!take(&mut view, change(12, vec![Update::Add(tagged("blue", 12))])).list);
    assert_eq!(view.index(&Topic::Services), Revision(11));
    assert!(take(&mut view, change(13, vec![Update::Add(registered("service/new/a", 1, 13))])).list);
    assert!(take(&mut view, change(14, vec![Update::Remove("service/new/a".parse().unwrap())])).list);
    assert_eq!(view.index(&Topic::Services), Revision(14));
}

#[test]
fn the_dead_are_remembered_with_their_cause() {
    let mut view = MirrorState::default();
    let leaving = |key: &str| {
        let mut one = registered(key, 1, 1);
        one.instance.status = Status::Draining;
        one
    };
    let all = vec![registered("service/mail/a", 1, 1), leaving("service/mail/b"), registered("service/mail/c", 1, 1)];
    take(&mut view, change(1, vec![Update::Reset(all)]));
    take(&mut view, overrides(2, OverrideUpdate::Set("service/mail/c".parse().unwrap(), Status::Draining.into())));
    let gone = ["a", "b", "c"].map(|id| Update::Remove(format!("service/mail/{id}").parse().unwrap()));
    take(&mut view, change(3, gone.to_vec()));
    let service = view.service(&"mail".parse().unwrap()).unwrap();
    let causes: Vec<_> = service.tombstones.iter().map(|tombstone| tombstone.cause).collect();
    assert_eq!(causes, [Cause::Expired, Cause::Deregistered, Cause::Drained]);
    let delta = service.since(Revision(2)).unwrap();
    assert_eq!((delta.changed.len(), delta.removed.len()), (0, 3));
    view.expire(SystemTime::UNIX_EPOCH + crate::mirror::KEPT_FOR);
    assert!(view.service(&"mail".parse().unwrap()).is_none(), "forgotten");
    assert_eq!(index(&view, "mail"), 3, "and still not going backwards");
    assert!(!view.is_news(&topic("mail"), Revision(3)));
}

#[test]
fn what_happened_since_an_index_is_told_or_it_is_said_that_it_cannot_be() {
    let mut view = listed();
    take(&mut view, change(12, vec![Update::Add(registered("service/mail/c", 1, 12))]));
    let service = view.service(&"mail".parse().unwrap()).unwrap();
    let ids =
        |delta: &crate::mirror::Delta| delta.changed.iter().map(|one| one.registered.key.key()).collect::<Vec<_>>();
    assert_eq!(ids(&service.since(Revision(10)).unwrap()), ["service/mail/c"]);
    assert_eq!(service.since(Revision(12)), Some(crate::mirror::Delta::default()));
    assert_eq!(service.since(Revision(9)), None, "before the first list");
    assert_eq!(service.since(Revision(13)), None, "from the future");
}

#[test]
fn a_reader_gets_the_same_value_until_something_changes() {
    let mut view = listed();
    let mail = "mail".parse().unwrap();
    let first = view.service(&mail).unwrap();
    take(&mut view, change(11, vec![Update::Add(registered("service/web/x", 1, 11))]));
    assert!(Arc::ptr_eq(&first, &view.service(&mail).unwrap()));
    take(&mut view, change(12, vec![Update::Add(registered("service/mail/x", 1, 12))]));
    assert!(!Arc::ptr_eq(&first, &view.service(&mail).unwrap()));
}

#[test]
fn a_registration_is_as_old_as_its_lease_and_at_least_so_old_when_it_was_there_before() {
    let mut view = listed();
    let since = |view: &MirrorState| view.service(&"mail".parse().unwrap()).unwrap().instances[0].since;
    let at = |secs| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(secs);
    assert_eq!(since(&view), Since { at: at(0), from_start: true });
    let changed = Registered { modified: Revision(12), ..registered("service/mail/a", 1, 3) };
    view.apply(change(12, vec![Update::Add(changed)]), at(50));
    assert_eq!(since(&view), Since { at: at(0), from_start: true }, "it says something else, and is the same");
    view.apply(change(13, vec![Update::Add(registered("service/mail/a", 2, 3))]), at(60));
    assert_eq!(since(&view), Since { at: at(60), from_start: false }, "another life under the same name");
    view.apply(change(14, vec![Update::Remove("service/mail/a".parse().unwrap())]), at(70));
    view.apply(change(15, vec![Update::Add(registered("service/mail/a", 3, 15))]), at(80));
    assert_eq!(since(&view), Since { at: at(80), from_start: false });
}
