use axum::body::Body;

use super::*;

fn guard(allowed: &str) -> Guard {
    let allowed_hosts = allowed.split(',').filter(|name| !name.is_empty()).map(|name| name.parse().unwrap()).collect();
    Guard::new(&BrowserOptions { allowed_hosts }, Some("Mail-1.internal"))
}

fn request(method: Method, local: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = Request::builder().method(method).uri("/v1/x");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(LocalAddr(local.parse().unwrap()));
    request
}

const LOOPBACK: &str = "127.0.0.1:7070";
const ELSEWHERE: &str = "10.0.0.5:7070";

#[test]
fn a_page_of_another_site_changes_nothing() {
    let host = ("host", "localhost:8080");
    for (headers, is_refused) in [
        (&[][..], false),
        (&[("sec-fetch-site", "same-origin"), ("origin", "null")], false),
        (&[("sec-fetch-site", "none")], false),
        (&[("sec-fetch-site", "cross-site")], true),
        (&[("sec-fetch-site", "same-site"), ("origin", "http://localhost:3000")], true),
        (&[("sec-fetch-site", "cross-site"), ("origin", "https://shop.example")], false),
        (&[("origin", "http://localhost:8080")], false),
        (&[("origin", "http://localhost:3000")], true),
        (&[("origin", "http://evil.example")], true),
        (&[("origin", "null")], true),
        (&[("origin", "https://shop.example")], false),
        (&[("origin", "https://public.example"), ("x-forwarded-host", "public.example")], true),
        (
            &[("origin", "https://public.example"), ("x-forwarded-host", "public.example"), ("via", "1.1 balance")],
            false,
        ),
    ] {
        let headers = [&[host], headers].concat();
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let refused = guard("shop.example").check(&request(method, LOOPBACK, &headers));
            assert_eq!(refused.is_err(), is_refused, "{headers:?}: {refused:?}");
        }
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert_eq!(guard("shop.example").check(&request(method, LOOPBACK, &headers)), Ok(()), "{headers:?}");
        }
    }
}

#[test]
fn over_loopback_the_host_is_one_of_ours() {
    for (host, is_ours) in [
        ("localhost:7070", true),
        ("mail.localhost", true),
        ("127.0.0.1", true),
        ("[::1]:7070", true),
        ("192.168.1.7:7070", true),
        ("mail-1.internal:7070", true),
        ("Mail-1.Internal.", true),
        ("evil.example:7070", false),
        ("localhost.evil.example", false),
        ("127.0.0.1.evil.example", false),
        ("", false),
    ] {
        for method in [Method::GET, Method::POST] {
            let over = |local| guard("").check(&request(method.clone(), local, &[("host", host)])).is_ok();
            assert_eq!(over(LOOPBACK), is_ours, "{host}");
            assert_eq!(over("[::1]:7070"), is_ours, "{host}");
            assert!(over(ELSEWHERE), "{host}: elsewhere a name server may say what it likes");
        }
    }
}

#[test]
fn names_that_are_configured_count_everywhere() {
    let over = |allowed, local, host| guard(allowed).check(&request(Method::GET, local, &[("host", host)])).is_ok();
    for local in [LOOPBACK, ELSEWHERE] {
        assert!(over("registry-1,shop.example", local, "registry-1:8500"));
        assert!(over("registry-1", local, "localhost:8500") && over("registry-1", local, "10.0.0.5"));
        assert!(!over("registry-1", local, "evil.example"));
        assert!(over("*", local, "evil.example"));
    }
}

#[test]
fn what_a_gateway_forwards_is_judged_when_its_client_is_on_this_machine() {
    let over = |chain| {
        let headers = [("host", "evil.example"), ("via", "1.1 balance"), ("x-forwarded-for", chain)];
        guard("").check(&request(Method::GET, LOOPBACK, &headers)).is_ok()
    };
    assert!(over("192.168.1.7") && over("203.0.113.9, 127.0.0.1"));
    assert!(!over("127.0.0.1") && !over("::1, 127.0.0.1"));
    let scripted = [("host", "evil.example"), ("x-forwarded-for", "192.168.1.7")];
    assert!(guard("").check(&request(Method::GET, LOOPBACK, &scripted)).is_err(), "a script can say that, but not Via");
}

#[test]
fn a_host_name_is_written_without_a_port() {
    assert_eq!("Shop.Example.".parse::<HostName>().unwrap().as_str(), "shop.example");
    for bad in ["", "http://a", "a:80", "a b", "*.a"] {
        assert!(bad.parse::<HostName>().is_err(), "{bad}");
    }
}
