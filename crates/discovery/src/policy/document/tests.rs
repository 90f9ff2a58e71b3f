use std::time::Duration;

use super::*;
use crate::policy::{ActiveKind, HashOn, Networks, Strategy};

fn policy(json: &str) -> Result<Policy, FieldError> {
    PolicyDocument::parse(json.as_bytes())?.over(&Policy::default())
}

fn mistake(json: &str) -> String {
    policy(json).unwrap_err().to_string()
}

#[test]
fn an_empty_document_is_the_default() {
    assert_eq!(policy("{}").unwrap(), Policy::default());
    Policy::default().check().unwrap();
}

#[test]
fn a_document_says_only_what_differs() {
    let policy = policy(
        r#"{"load_balancing":{"policy":"hash","hash_on":{"header":"x-user"},"sticky":{"cookie":"at"}},
            "timeouts":{"connect":"250ms","per_try":"1s 500ms"},"hedge":{"after":"50ms"},
            "health":{"active":{"kind":"tcp","rise":1}},"limits":{"body_max_bytes":1024}}"#,
    )
    .unwrap();
    assert_eq!(policy.load_balancing.policy, Strategy::Hash);
    assert_eq!(policy.load_balancing.hash_on, Some(HashOn::Header("x-user".into())));
    assert_eq!(policy.timeouts.connect, Duration::from_millis(250));
    assert_eq!(policy.timeouts.per_try, Some(Duration::from_millis(1500)));
    assert_eq!(policy.timeouts.response, Duration::from_secs(30), "untouched");
    assert_eq!(
        (policy.health.active.kind, policy.health.active.rise, policy.health.active.fall),
        (ActiveKind::Tcp, 1, 3)
    );
    assert_eq!(policy.limits.body_max_bytes, Some(1024));
    let client = r#"{"load_balancing":{"policy":"hash","hash_on":"client_address"}}"#;
    assert_eq!(super::tests::policy(client).unwrap().load_balancing.hash_on, Some(HashOn::ClientAddress));
}

#[test]
fn a_list_stands_only_where_one_belongs() {
    let cors = policy(r#"{"cors":{"origins":["https://app.example:8443","http://[::1]:3000","*"]}}"#).unwrap().cors;
    assert_eq!(cors.origins, ["https://app.example:8443", "http://[::1]:3000", "*"]);
}

#[test]
fn the_gateways_own_defaults_show_through() {
    let mut default = Policy::default();
    default.timeouts.response = Duration::from_secs(7);
    default.hedge = policy(r#"{"hedge":{"after":"50ms"}}"#).unwrap().hedge;
    let document: PolicyDocument = r#"{"hedge":null,"retries":{"attempts_max":1}}"#.parse().unwrap();
    let effective = document.over(&default).unwrap();
    assert_eq!((effective.timeouts.response, effective.hedge), (Duration::from_secs(7), None), "null takes away");
}

#[test]
fn what_is_written_is_read_back() {
    let document: PolicyDocument = r#" {"timeouts": {"connect": "2s"}} "#.parse().unwrap();
    assert_eq!(document.to_string(), r#"{"timeouts":{"connect":"2s"}}"#);
    assert_eq!(document.to_string().parse::<PolicyDocument>().unwrap(), document);
    let whole = serde_json::to_vec(&Policy::default()).unwrap();
    assert_eq!(PolicyDocument::parse(&whole).unwrap().over(&Policy::default()).unwrap(), Policy::default());
}

#[test]
fn every_mistake_names_its_place_and_what_to_change() {
    for (json, path, advice) in [
        ("", ".", "not JSON"),
        ("[]", ".", "a list; give an object"),
        ("\"fast\"", ".", "a text; give an object"),
        (r#"{"timeout":{}}"#, "timeout", "unknown field"),
        (r#"{"timeouts":{"conect":"1s"}}"#, "timeouts.conect", "expected one of `connect`"),
        (r#"{"timeouts":null}"#, "timeouts", "null; give an object"),
        (r#"{"timeouts":["1s"]}"#, "timeouts", "a list"),
        (r#"{"hedge":["1s"]}"#, "hedge", "a list"),
        (r#"{"timeouts":{"connect":2}}"#, "timeouts.connect", "a duration with its unit"),
        (r#"{"timeouts":{"connect":"2"}}"#, "timeouts.connect", "write a number with its unit"),
        (r#"{"timeouts":{"connect":null}}"#, "timeouts.connect", "a duration with its unit"),
        (r#"{"timeouts":{"connect":"0s"}}"#, "timeouts.connect", "0s is out of range; give 1ms to 1m"),
        (r#"{"timeouts":{"per_try":"2h"}}"#, "timeouts.per_try", "give 1ms to 1h"),
        (r#"{"retries":{"attempts_max":0}}"#, "retries.attempts_max", "0 is out of range; give 1 to 10"),
        (r#"{"retries":{"attempts_max":-1}}"#, "retries.attempts_max", "invalid value: integer `-1`"),
        (r#"{"retries":{"attempts_max":1.5}}"#, "retries.attempts_max", "invalid type"),
        (r#"{"load_balancing":{"policy":"random"}}"#, "load_balancing.policy", "expected one of `round_robin`"),
        (r#"{"load_balancing":{"policy":"hash"}}"#, "load_balancing.hash_on", "is missing"),
        (r#"{"load_balancing":{"hash_on":{"header":"a b"}}}"#, "load_balancing.hash_on.header", "no name"),
        (r#"{"load_balancing":{"sticky":{"cookie":""}}}"#, "load_balancing.sticky.cookie", "no name"),
        (r#"{"load_balancing":{"sticky":{}}}"#, "load_balancing.sticky.cookie", "missing field"),
        (r#"{"health":{"active":{"interval":"1ms"}}}"#, "health.active.interval", "give 100ms to 1h"),
        (r#"{"health":{"active":{"path":"healthz"}}}"#, "health.active.path", "start it with one '/'"),
        (r#"{"health":{"passive":{"base_ejection":"20s"}}}"#, "health.passive.max_ejection", "give 20s to 1day"),
        (r#"{"prefix":{"restore":"sometimes"}}"#, "prefix.restore", "expected one of `auto`"),
        (r#"{"errors":{"details":"none"}}"#, "errors.details", "expected `reason` or `full`"),
        (r#"{"cors":{"origins":["https://app.example/"]}}"#, "cors.origins", "is no origin"),
        (r#"{"cors":{"origins":["App"]}}"#, "cors.origins", "is no origin"),
        (r#"{"cors":{"origins":"*"}}"#, "cors.origins", "invalid type"),
        (r#"{"cors":{"origins":["*"],"credentials":true}}"#, "cors.credentials", "every site"),
        (r#"{"cors":{"headers":["a b"]}}"#, "cors.headers", "no name"),
        (r#"{"cors":{"max_age":"2d"}}"#, "cors.max_age", "give 0s to 1day"),
        (r#"{"cors":{"applies_to":"all"}}"#, "cors.applies_to", "expected `own_answers` or `service`"),
        (r#"{"cors":["*"]}"#, "cors", "a list"),
        (r#"{"auth":["any"]}"#, "auth", "a list"),
        (r#"{"auth":{"network":{}}}"#, "auth.network", "unknown field"),
        (r#"{"auth":{"require":"some"}}"#, "auth.require", "expected `any` or `all`"),
        (r#"{"auth":{"networks":[["10.0.0.0/8"]]}}"#, "auth.networks", "a list"),
        (r#"{"auth":{"networks":{"allow":[["::1"]]}}}"#, "auth.networks.allow[]", "a list"),
        (r#"{"auth":{"networks":{"allow":["10.0.0.0/33"]}}}"#, "auth.networks.allow", "is no network"),
        (r#"{"auth":{"networks":{"deny":["all"]}}}"#, "auth.networks.deny", "is no network"),
        (r#"{"auth":{"keys":{"header":"a b"}}}"#, "auth.keys.header", "no name"),
        (r#"{"auth":{"networks":{"deny":["::ffff:0.0.0.0/95"]}}}"#, "auth.networks.deny", "is no network"),
        (r#"{"auth":{"keys":{"header":"Content-Length"}}}"#, "auth.keys.header", "x-api-key"),
        (r#"{"auth":{"keys":{"header":"proxy-authorization"}}}"#, "auth.keys.header", "x-api-key"),
        (r#"{"auth":{"forward":{"service":"auth","pass":["X-Auth-Subject"]}}}"#, "auth.forward.pass", "no field"),
        (
            r#"{"auth":{"jwt":{"issuer":"a","audiences":[],"jwks_file":"/a","claims":{"x-auth.method":"a"}}}}"#,
            "auth.jwt.claims",
            "no field",
        ),
        (r#"{"auth":{"keys":["x-api-key"]}}"#, "auth.keys", "a list"),
        (r#"{"auth":{"jwt":{"issuer":"a"}}}"#, "auth.jwt.audiences", "missing field"),
        (r#"{"auth":{"jwt":{"issuer":"a","audiences":[]}}}"#, "auth.jwt.jwks_url", "either"),
        (r#"{"auth":{"jwt":{"issuer":"a","audiences":[],"jwks_url":"ftp://a/"}}}"#, "auth.jwt.jwks_url", "no address"),
        (
            r#"{"auth":{"jwt":{"issuer":"a","audiences":[],"jwks_url":"https://u@a/"}}}"#,
            "auth.jwt.jwks_url",
            "no address",
        ),
        (r#"{"auth":{"jwt":{"issuer":"a","audiences":[],"jwks_file":"a"}}}"#, "auth.jwt.jwks_file", "whole path"),
        (
            r#"{"auth":{"jwt":{"issuer":"a","audiences":[],"jwks_file":"/a","leeway":"6m"}}}"#,
            "auth.jwt.leeway",
            "0s to 5m",
        ),
        (
            r#"{"auth":{"jwt":{"issuer":"a","audiences":[],"jwks_file":"/a","claims":{"host":"a"}}}}"#,
            "auth.jwt.claims",
            "x-auth-",
        ),
        (
            r#"{"auth":{"jwt":{"issuer":"a","audiences":[],"jwks_file":"/a","algorithms":["none"]}}}"#,
            "auth.jwt.algorithms",
            "",
        ),
        (r#"{"auth":{"basic":{"users":{}}}}"#, "auth.basic.users", "give 1 to 256"),
        (r#"{"auth":{"basic":{"users":{"ann":"secret"}}}}"#, "auth.basic.users", "\"ann\" has no bcrypt hash"),
        (
            r#"{"auth":{"require":"all","keys":{},"basic":{"users":{"a":"$2y$12$uG8nNb3eJJ1AbzEb6zHqQeRmdbQ1Op6ub8ZHmyP5r5aPLKYqzKpkW"}}}}"#,
            "auth.require",
            "two of the ways",
        ),
        (r#"{"rate_limit":{"requests":1}}"#, "rate_limit", "invalid type"),
        (r#"{"rate_limit":[{}]}"#, "rate_limit[0].requests", "missing field"),
        (r#"{"rate_limit":[["client",1]]}"#, "rate_limit[]", "a list"),
        (r#"{"rate_limit":[{"requests":0}]}"#, "rate_limit.requests", "give 1 to 1000000"),
        (r#"{"rate_limit":[{"requests":1,"window":"10ms"}]}"#, "rate_limit.window", "1s to 1day"),
        (r#"{"rate_limit":[{"requests":1,"per":"fleet"}]}"#, "rate_limit[0].per", "expected `gateway`"),
        (r#"{"rate_limit":[{"requests":1,"key":{"header":"a b"}}]}"#, "rate_limit.key.header", "no name"),
        (r#"{"in_flight_per_client":0}"#, "in_flight_per_client", "give 1 to 1000000"),
        (r#"{"auth":{"forward":{"service":"Auth"}}}"#, "auth.forward.service", "a-z"),
        (r#"{"auth":{"forward":{"service":"auth","path":"verify"}}}"#, "auth.forward.path", "begin it with"),
        (r#"{"auth":{"forward":{"service":"auth","pass":["host"]}}}"#, "auth.forward.pass", "x-auth-"),
        (r#"{"auth":{"public_paths":["healthz"]}}"#, "auth.public_paths", "is no plain path"),
        (r#"{"auth":{"public_paths":["/a/../b"]}}"#, "auth.public_paths", "is no plain path"),
        (r#"{"auth":{"public_paths":["/a%2fb"]}}"#, "auth.public_paths", "is no plain path"),
        (r#"{"health":{"panic_threshold_percent":101}}"#, "health.panic_threshold_percent", "give 0 to 100"),
    ] {
        let said = mistake(json);
        assert!(said.starts_with(&format!("{path}: ")) && said.contains(advice), "{json}\n{said}");
    }
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(PolicyDocument::MAX_BYTES));
    assert!(mistake(&large).contains("65536 are allowed"));
}

#[test]
fn a_network_of_mapped_addresses_is_the_ipv4_network() {
    for (text, network) in [
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("fd00::/8", "fd00::/8"),
        ("10.0.0.0/8", "10.0.0.0/8"),
    ] {
        assert_eq!(Networks::read(text), network.parse().ok(), "{text}");
    }
}
