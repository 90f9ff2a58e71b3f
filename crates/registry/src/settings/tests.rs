use super::*;

fn key(key: &str) -> SettingKey {
    key.parse().unwrap()
}

fn setting(value: &str, revision: i64) -> Setting {
    let revision = Revision(revision);
    Setting { value: value.to_owned(), created: revision, modified: revision, version: 1 }
}

fn listed() -> State {
    let mut state = State::default();
    let settings = vec![(key("mail"), setting("{}", 3)), (key("a/b"), setting("x", 5))];
    state.apply(SettingsChange::Listed(Revision(9), settings), Instant::now());
    state
}

#[test]
fn what_the_other_settings_take_is_known_by_service_and_in_all() {
    let state = listed();
    let mail = "config/mail{}".len() as u64;
    let free = "config/a/bx".len() as u64;
    assert_eq!(state.bytes_beside(&key("mail/x")), (mail, mail + free));
    assert_eq!(state.bytes_beside(&key("mail")), (0, free), "what is replaced does not count");
}

#[test]
fn an_index_is_the_revision_of_the_settings_last_event_and_a_deletion_is_one() {
    let mut state = listed();
    assert_eq!((state.index(&key("mail")).0, state.index(&key("none")).0), (3, 9));
    let change = SettingsChange::Changed(Revision(12), vec![(key("mail"), None)]);
    assert_eq!(state.apply(change, Instant::now()), [key("mail")]);
    assert_eq!((state.index(&key("mail")).0, state.index(&key("a/b")).0), (12, 5));
}

#[test]
fn a_list_after_a_gap_touches_only_what_differs_and_a_wiped_etcd_starts_anew() {
    let mut state = listed();
    let settings = vec![(key("a/b"), setting("x", 5)), (key("c/d"), setting("y", 11))];
    let touched = state.apply(SettingsChange::Listed(Revision(20), settings), Instant::now());
    assert_eq!(touched, [key("mail"), key("c/d")]);
    assert_eq!(state.index(&key("mail")).0, 20);
    let touched = state.apply(SettingsChange::Listed(Revision(2), Vec::new()), Instant::now());
    assert_eq!(touched, [key("a/b"), key("c/d")]);
    assert_eq!(state.index(&key("a/b")).0, 2);
}

#[test]
fn a_policy_is_written_only_without_mistakes_and_anything_else_as_it_is() {
    assert!(check(&key("mail"), "{}").is_ok());
    let error = check(&key("mail"), r#"{"timeouts":{"response":"5"}}"#).unwrap_err();
    assert!(matches!(&error, RegistryError::Invalid(field) if field.field == "timeouts.response"), "{error:?}");
    assert!(check(&key("mail/free"), "any text").is_ok());
    assert!(check(&key("mail/free"), &"x".repeat(VALUE_MAX_BYTES + 1)).is_err());
}
