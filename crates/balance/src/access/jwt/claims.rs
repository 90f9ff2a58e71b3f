//! Whether what a token says holds now and here, and who its subject is (RFC 7519, section 4.1).

use std::{sync::Arc, time::SystemTime};

use discovery::policy::Jwt;
use serde_json::{Map, Value};

use crate::access::identity::{Identity, visible};

/// A token that is signed by a key of the set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Judged {
    /// It counts, until this second of the epoch.
    Good(Identity, f64),
    /// It counts, and lacks a scope.
    OutOfScope,
    /// What is wrong with it.
    Invalid(&'static str),
}

/// Judges what a signed token claims. `kept` are the claims that are wanted later, for limits.
pub(crate) fn judge(claims: &Map<String, Value>, rules: &Jwt, kept: &[Arc<str>], now: SystemTime) -> Judged {
    let until = match check(claims, rules, now) {
        Ok(until) => until,
        Err(why) => return Judged::Invalid(why),
    };
    let scopes = scopes(claims);
    if !rules.scopes.iter().all(|scope| scopes.contains(&scope.as_str())) {
        return Judged::OutOfScope;
    }
    let mut identity = Identity::new("jwt", claims.get("sub").and_then(Value::as_str).unwrap_or_default());
    let fields =
        rules.claims.iter().filter_map(|(field, claim)| Some((field.as_str().into(), field_text(claims.get(claim)?)?)));
    identity.fields = fields.collect();
    identity.claims = kept.iter().filter_map(|claim| Some((Arc::clone(claim), key(claims.get(&**claim)?)?))).collect();
    Judged::Good(identity, until)
}

/// Until when the token counts.
fn check(claims: &Map<String, Value>, rules: &Jwt, now: SystemTime) -> Result<f64, &'static str> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let leeway = rules.leeway.as_secs_f64();
    let moment = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(seconds)) => Ok(seconds.as_f64()),
        Some(_) => Err("a time in the token is no number"),
    };
    let until = moment("exp")?.ok_or("the token does not say when it expires")? + leeway;
    if now >= until {
        return Err("the token has expired");
    }
    if moment("nbf")?.is_some_and(|from| now + leeway < from) {
        return Err("the token is not valid yet");
    }
    if claims.get("iss").and_then(Value::as_str) != Some(&rules.issuer) {
        return Err("the token is not from the issuer of this service");
    }
    if is_event(claims) {
        return Err("the token reports an event and is not for access");
    }
    let is_ours = |audience: &Value| {
        audience.as_str().is_some_and(|audience| rules.audiences.iter().any(|ours| ours == audience))
    };
    let is_for_us = match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().any(is_ours),
        Some(one) => is_ours(one),
        None => false,
    };
    if !rules.audiences.is_empty() && !is_for_us {
        return Err("the token is for another audience");
    }
    Ok(until)
}

/// `scope`, a text with spaces (RFC 8693, section 4.2), or `scp`, a text or a list, as some issuers have it.
fn scopes(claims: &Map<String, Value>) -> Vec<&str> {
    let of = |name: &str| match claims.get(name) {
        Some(Value::String(scopes)) => scopes.split(' ').collect(),
        Some(Value::Array(scopes)) => scopes.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    [of("scope"), of("scp")].concat()
}

/// A claim as a field has it. A comma in an item of a list is `%2C`: an item must not read like two.
fn field_text(claim: &Value) -> Option<String> {
    let item = |item: &Value| Some(visible(&text(item)?).replace(',', "%2C"));
    match claim {
        Value::Array(items) => items.iter().map(item).collect::<Option<Vec<_>>>().map(|items| items.join(",")),
        one => Some(visible(&text(one)?).into_owned()),
    }
}

/// Whether it is a security event, as a logout (RFC 8417, section 2.2: `events` has a member for each, named by a URI).
fn is_event(claims: &Map<String, Value>) -> bool {
    let events = claims.get("events").and_then(Value::as_object);
    events.is_some_and(|events| events.keys().any(|name| name.contains(':')))
}

/// A claim that is counted by: as JSON, so that no two read alike. `None` for what has no order or says nothing.
fn key(claim: &Value) -> Option<String> {
    text(claim).map(|_| claim.to_string())
}

/// A claim as a text: a text, a number, yes or no; a list of these with commas.
fn text(claim: &Value) -> Option<String> {
    match claim {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(claim.to_string()),
        Value::Array(items) => items.iter().map(text).collect::<Option<Vec<_>>>().map(|items| items.join(",")),
        Value::Null | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rules(scopes: &[&str]) -> Jwt {
        Jwt {
            issuer: "https://id.example".to_owned(),
            audiences: vec!["mail".to_owned()],
            leeway: Duration::from_secs(30),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            claims: [("x-auth-email".to_owned(), "email".to_owned())].into(),
            jwks_file: Some("/jwks".to_owned()),
            ..Jwt::default()
        }
    }

    fn judged(change: impl Fn(&mut Map<String, Value>), scopes: &[&str]) -> Judged {
        let claims = r#"{"iss":"https://id.example","aud":["web","mail"],"exp":1000,"nbf":900,"sub":"ann","email":"a@b",
            "scope":"read write"}"#;
        let mut claims = json(claims);
        change(&mut claims);
        judge(&claims, &rules(scopes), &["email".into()], SystemTime::UNIX_EPOCH + Duration::from_secs(950))
    }

    fn json(text: &str) -> Map<String, Value> {
        crate::access::jwt::json::object(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_token_that_holds_says_who_its_subject_is() {
        let Judged::Good(identity, until) = judged(|_| {}, &["read", "write"]) else { panic!("it is good") };
        assert_eq!((&*identity.subject, until), ("ann", 1030.0));
        assert_eq!(identity.fields, [("x-auth-email".into(), "a@b".to_owned())]);
        assert_eq!(identity.claims, [("email".into(), "\"a@b\"".to_owned())]);
        assert_eq!(judged(|_| {}, &["admin"]), Judged::OutOfScope);
    }

    #[test]
    fn an_item_of_a_list_never_reads_like_two() {
        let groups = serde_json::json!(["staff", "a,admin", "50%", ["b", "c"], 7]);
        let judged = judged(|claims| drop(claims.insert("email".to_owned(), groups.clone())), &[]);
        let Judged::Good(identity, _) = judged else { panic!("it is good") };
        assert_eq!(identity.fields, [("x-auth-email".into(), "staff,a%2Cadmin,50%25,b%2Cc,7".to_owned())]);
    }

    #[test]
    fn claims_that_differ_are_never_counted_together() {
        use serde_json::json;
        let counted_by = |claim: Value| {
            let judged = judged(|claims| drop(claims.insert("email".to_owned(), claim.clone())), &[]);
            let Judged::Good(identity, _) = judged else { panic!("it is good") };
            identity.claims.first().map(|(_, key)| key.clone())
        };
        let claims = [
            json!("a,b"),
            json!(["a,b"]),
            json!(["a", "b"]),
            json!(["a", ["b"]]),
            json!("[\"a\",\"b\"]"),
            json!(1),
            json!("1"),
            json!(true),
            json!("true"),
            json!([]),
            json!(""),
        ];
        let keys: std::collections::BTreeSet<_> =
            claims.iter().map(|claim| counted_by(claim.clone()).unwrap()).collect();
        assert_eq!(keys.len(), claims.len(), "{keys:?}");
        assert_eq!((counted_by(json!(null)), counted_by(json!({"a": 1}))), (None, None));
    }

    #[test]
    fn a_report_of_a_logout_is_no_token_for_access() {
        let event = serde_json::json!({"http://schemas.openid.net/event/backchannel-logout": {}});
        let judged_with =
            |events: Value| judged(|claims| drop(claims.insert("events".to_owned(), events.clone())), &[]);
        assert!(matches!(judged_with(event), Judged::Invalid(_)));
        assert!(matches!(judged_with(serde_json::json!(["party"])), Judged::Good(..)), "a claim of their own");
    }

    #[test]
    fn a_token_for_another_time_or_place_does_not_count() {
        let bad: [(&str, Value); 12] = [
            ("exp", 900.into()),
            ("exp", 919.9.into()),
            ("exp", Value::Null),
            ("exp", "1000".into()),
            ("nbf", 981.into()),
            ("nbf", "900".into()),
            ("iss", "https://id.example/".into()),
            ("iss", Value::Null),
            ("aud", "web".into()),
            ("aud", Value::Null),
            ("aud", 7.into()),
            ("aud", serde_json::json!([["mail"]])),
        ];
        for (name, value) in bad {
            let judged = judged(|claims| drop(claims.insert(name.to_owned(), value.clone())), &[]);
            assert!(matches!(judged, Judged::Invalid(_)), "{name} {value}: {judged:?}");
        }
        for name in ["exp", "iss", "aud"] {
            assert!(matches!(judged(|claims| drop(claims.remove(name)), &[]), Judged::Invalid(_)), "without {name}");
        }
        assert!(matches!(judged(|claims| drop(claims.remove("nbf")), &[]), Judged::Good(..)));
    }
}
