//! No input whatsoever makes a key outside `service/` and `override/`: the real parsers, with anything.

use discovery::{
    InstanceId, InstanceKey, ServiceName,
    heartbeat::{FullHeartbeat, PlainHeartbeat},
};
use proptest::prelude::*;

/// Text that is nearly a name, and anything else.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[-a-zA-Z0-9._:/%\\\\ \u{0}]{0,140}",
        "(service/|override/|config/|\\.\\./|/|%2[fF]|\\.|[a-z0-9]){0,8}",
        Just("a".repeat(5000)),
    ]
}

fn assert_is_contained(key: &InstanceKey) {
    for (written, prefix) in [(key.key(), "service/"), (key.override_key(), "override/")] {
        let path = written.strip_prefix(prefix).expect("every key is below its prefix");
        let parts: Vec<&str> = path.split('/').collect();
        assert_eq!(parts.len(), 2, "{written}");
        assert!(parts.iter().all(|part| !part.is_empty() && !matches!(*part, "." | "..")), "{written}");
        assert!(written.bytes().all(|byte| byte.is_ascii_graphic()), "{written:?}");
    }
    assert_eq!(InstanceKey::parse(key.key().as_bytes()).as_ref(), Ok(key));
}

proptest! {
    #[test]
    fn names_in_a_path_stay_below_the_prefix(service in hostile(), instance in hostile()) {
        if let (Ok(service), Ok(instance)) = (service.parse::<ServiceName>(), instance.parse::<InstanceId>()) {
            assert_is_contained(&InstanceKey::new(service, instance));
        }
    }

    #[test]
    fn a_plain_heartbeat_stays_below_the_prefix(name in hostile(), host in hostile(), port in any::<u32>()) {
        if let Ok((service, instance, value)) = (PlainHeartbeat { name, host, port, health: None, leaving: false, incarnation: None }).into_parts() {
            assert_is_contained(&InstanceKey::new(service, instance));
            prop_assert!(value.to_string().bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }

    #[test]
    fn any_body_is_refused_or_written_as_one_readable_line(body in hostile(), zone in hostile(), key in hostile()) {
        let crafted = serde_json::json!({ "address": "10.0.0.5:7070", "zone": zone, "meta": { (key): body } });
        for text in [body, crafted.to_string()] {
            let parsed = serde_json::from_str::<FullHeartbeat>(&text).ok().and_then(|full| full.into_parts().ok());
            if let Some((instance, _)) = parsed {
                let value = instance.to_string();
                prop_assert!(value.bytes().all(|byte| byte.is_ascii_graphic()), "{value:?}");
                prop_assert_eq!(value.parse(), Ok(instance));
            }
        }
    }
}
