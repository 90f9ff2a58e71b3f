use discovery::{
    Address, HealthPath, Instance, InstanceId, InstanceKey, SERVICE_PREFIX, ServiceName,
    heartbeat::{FullHeartbeat, PlainHeartbeat},
};
use proptest::prelude::*;

/// Inputs that look right at first: pieces of what is valid, and of what attackers send, in any order.
fn almost() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("http://"),
        Just("grpc://"),
        Just("service/"),
        Just("override/"),
        Just("../"),
        Just("%2e%2e%2f"),
        Just("%"),
        Just("10.0.0.5"),
        Just("[::1]"),
        Just("["),
        Just("]"),
        Just(":7070"),
        Just(":"),
        Just("?"),
        Just("&"),
        Just("="),
        Just("weight="),
        Just("meta."),
        Just("tag="),
        Just("status=draining"),
        Just("degraded="),
        Just("&reason="),
        Just("health=/"),
        Just("mail"),
        Just("\n"),
        Just("\0"),
        Just("@"),
        Just("#"),
        Just("é"),
        Just("{"),
        Just("}"),
        Just("\"Addr\":"),
        Just("\"Op\":0,"),
        Just("\""),
        Just("\u{202e}"),
        Just("99999999999999999999"),
        Just(" "),
        Just("+"),
        Just("%00"),
        Just("%ff"),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn input() -> impl Strategy<Value = String> {
    prop_oneof![almost(), any::<String>()]
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_of_values_panic(bytes in any::<Vec<u8>>()) {
        let _ = Instance::parse(&bytes);
        let _ = InstanceKey::parse(&bytes);
        let _ = InstanceKey::parse_override(&bytes);
    }

    #[test]
    fn whatever_is_read_can_be_written_and_read_again(input in input()) {
        if let Ok(instance) = Instance::parse(input.as_bytes()) {
            prop_assert_eq!(instance.check(), Ok(()));
            prop_assert_eq!(Instance::parse(instance.to_string().as_bytes()), Ok(instance));
        }
    }

    #[test]
    fn no_names_lead_out_of_the_prefix(service in input(), instance in input()) {
        if let (Ok(service), Ok(instance)) = (service.parse::<ServiceName>(), instance.parse::<InstanceId>()) {
            let key = InstanceKey::new(service, instance).key();
            prop_assert!(key.starts_with(SERVICE_PREFIX) && key.matches('/').count() == 2);
            prop_assert!(key.split('/').all(|part| !matches!(part, "" | "." | "..")), "{}", key);
        }
    }

    #[test]
    fn no_plain_heartbeat_leads_out_of_the_prefix(name in input(), host in input(), port in any::<u32>()) {
        let heartbeat = PlainHeartbeat { name, host, port, health: None, leaving: false, incarnation: None };
        match heartbeat.into_parts() {
            Ok((service, id, instance)) => {
                let key = InstanceKey::new(service, id);
                prop_assert_eq!(InstanceKey::parse(key.key().as_bytes()), Ok(key));
                prop_assert_eq!(Instance::parse(instance.to_string().as_bytes()), Ok(instance));
            }
            Err(error) => prop_assert!(["name", "host", "port"].contains(&error.field.as_ref()), "{}", error),
        }
    }

    #[test]
    fn no_json_makes_a_heartbeat_that_could_not_be_read_back(
        address in input(), zone in input(), health in input(), tag in input(), meta in (input(), input())
    ) {
        let json = serde_json::json!({"address": address, "zone": zone, "tags": [tag], "meta": {meta.0: meta.1}});
        let with_health = serde_json::json!({"address": "a:1", "health": health});
        for json in [json, with_health] {
            let Ok(heartbeat) = serde_json::from_value::<FullHeartbeat>(json) else { continue };
            if let Ok((instance, _)) = heartbeat.into_parts() {
                prop_assert_eq!(Instance::parse(instance.to_string().as_bytes()), Ok(instance));
            }
        }
    }

    #[test]
    fn a_refusal_is_one_line_that_may_be_logged(input in input()) {
        let errors = [
            Instance::parse(input.as_bytes()).err(),
            InstanceKey::parse(input.as_bytes()).err(),
            input.parse::<ServiceName>().err(),
            input.parse::<InstanceId>().err(),
            input.parse::<Address>().err(),
            input.parse::<HealthPath>().err(),
        ];
        for error in errors.into_iter().flatten() {
            let text = error.to_string();
            prop_assert!(!text.chars().any(char::is_control), "{:?}", text);
            prop_assert!(text.len() < 800, "{}", text);
            prop_assert!(!error.field.is_empty() && !error.reason.is_empty());
        }
    }
}
