use super::*;

fn full() -> Instance {
    Instance {
        weight: "2".parse().unwrap(),
        zone: Some("a".into()),
        version: Some("1.4.0".into()),
        health: Some("/healthz".parse().unwrap()),
        status: Status::Draining,
        tags: ["eu".into()].into(),
        meta: [("owner".into(), "ops".into())].into(),
        ..Instance::at("10.0.0.5:7070".parse().unwrap())
    }
}

#[test]
fn the_simplest_form_that_carries_the_information_is_written() {
    let plain = Instance::at("10.0.0.5:7070".parse().unwrap());
    assert_eq!(plain.to_string(), "10.0.0.5:7070");
    let https = Instance { scheme: Scheme::Https, ..Instance::at("[::1]:7070".parse().unwrap()) };
    assert_eq!(https.to_string(), "https://[::1]:7070");
    assert_eq!(
        full().to_string(),
        "http://10.0.0.5:7070?weight=2&zone=a&version=1.4.0&health=/healthz&status=draining&tag=eu&meta.owner=ops"
    );
}

#[test]
fn a_reason_travels_with_the_status_and_old_readers_skip_it() {
    let with = |status, reason: &str| Instance {
        status,
        reason: Reason::shorten(reason),
        ..Instance::at("10.0.0.5:7070".parse().unwrap())
    };
    for (instance, written) in [
        (with(Status::Degraded, "SMTP away"), "http://10.0.0.5:7070?degraded=SMTP%20away"),
        (with(Status::Degraded, ""), "http://10.0.0.5:7070?degraded="),
        (with(Status::Critical, "a&b"), "http://10.0.0.5:7070?status=critical&reason=a%26b"),
        (with(Status::Draining, ""), "http://10.0.0.5:7070?status=draining"),
    ] {
        assert_eq!(instance.to_string(), written);
        assert_eq!(written.parse::<Instance>().unwrap(), instance);
    }
}

#[test]
fn a_reason_is_read_liberally() {
    let read = |query: &str| {
        let instance = format!("http://a:1?{query}").parse::<Instance>().unwrap();
        (instance.status, instance.reason.map(String::from).unwrap_or_default())
    };
    assert_eq!(read("reason=x&status=degraded"), (Status::Degraded, "x".to_owned()));
    assert_eq!(read("status=critical&degraded=x"), (Status::Critical, String::new()));
    assert_eq!(read("reason=x"), (Status::Passing, String::new()), "of nothing");
    assert_eq!(read("status=critical&reason=a%0Ab"), (Status::Critical, "a b".to_owned()));
    assert_eq!(read(&format!("degraded={}", "x".repeat(999))).1.chars().count(), Reason::MAX_CHARS);
}

#[test]
fn text_that_would_break_the_url_is_encoded() {
    let instance = Instance {
        version: Some("1+2 a&b=c%#é".into()),
        meta: [("note".into(), "\"quoted\", http://x/?y".into())].into(),
        ..Instance::at("mail:1".parse().unwrap())
    };
    let written = instance.to_string();
    assert_eq!(written, "http://mail:1?version=1%2B2%20a%26b%3Dc%25%23%C3%A9&meta.note=%22quoted%22,%20http://x/%3Fy");
    assert_eq!(written.parse::<Instance>().unwrap(), instance);
}

#[test]
fn every_form_that_others_write_is_read() {
    let plain = Instance::at("10.0.0.5:7070".parse().unwrap());
    for value in [
        "10.0.0.5:7070",
        " 10.0.0.5:7070\n",
        "http://10.0.0.5:7070",
        "HTTP://10.0.0.5:7070/",
        "http://10.0.0.5:7070/?",
        "http://10.0.0.5:7070?unknown=1&&zone=",
        r#"{"Op":0,"Addr":"10.0.0.5:7070","Metadata":null}"#,
        r#"{"Addr":"10.0.0.5:7070"}"#,
        r#"{"Op":0,"Addr":"http://10.0.0.5:7070","Metadata":"any","Extra":[1]}"#,
    ] {
        assert_eq!(value.parse::<Instance>().unwrap(), plain, "{value}");
    }
    let unordered =
        "http://10.0.0.5:7070/?meta.owner=ops&tags=eu,&status=draining&health=%2Fhealthz&version=1.4.0&zone=a&weight=2";
    assert_eq!(unordered.parse::<Instance>().unwrap(), full());
    let json = r#"{"Op":0,"Addr":"10.0.0.5:7070","Metadata":{"weight":2,"zone":"a","version":"1.4.0",
        "health":"/healthz","status":"draining","tags":"eu","meta.owner":"ops","nested":{"skipped":true}}}"#;
    assert_eq!(json.parse::<Instance>().unwrap(), full());
}

#[test]
fn schemes_and_their_ports_are_understood() {
    let read = |value: &str| value.parse::<Instance>().unwrap();
    assert_eq!(read("grpc://mail:1").scheme, Scheme::H2c);
    assert_eq!(read("grpc://mail:1").to_string(), "h2c://mail:1");
    assert_eq!(read("http://mail").address.to_string(), "mail:80");
    assert_eq!(read("https://[::1]/").address.to_string(), "[::1]:443");
    assert_eq!(read("mail:1?meta.home=http://x").meta["home"], "http://x");
    assert_eq!(read(r#"{"Addr":"mail:1","Metadata":{"scheme":"h2c"}}"#).scheme, Scheme::H2c);
}

#[test]
fn a_form_encoded_query_is_read_as_url_libraries_write_it() {
    let read = "http://mail:1?version=1%2B2+a".parse::<Instance>().unwrap();
    assert_eq!(read.version.as_deref(), Some("1+2 a"));
}

#[test]
fn what_would_be_misunderstood_is_refused_under_its_name() {
    for (value, field) in [
        ("", "address"),
        ("mail", "address"),
        ("http://", "address"),
        ("http://mail:0", "address"),
        ("ftp://mail:1", "scheme"),
        ("http://mail:1/base", "value"),
        ("http://user:pw@mail:1", "value"),
        ("http://mail:1#x", "value"),
        ("http://mail:1?weight=0", "weight"),
        ("http://mail:1?status=up", "status"),
        ("http://mail:1?health=healthz", "health"),
        ("http://mail:1?zone=%FF", "value"),
        ("http://mail:1?zone=%00", "zone"),
        ("http://mail:1?meta.=x", "meta"),
        ("{", "value"),
        ("{}", "Addr"),
        (r#"{"Op":1,"Addr":"mail:1"}"#, "Op"),
        (r#"{"Op":0,"Addr":"mail"}"#, "Addr"),
        (r#"{"Op":0,"Addr":7}"#, "value"),
    ] {
        assert_eq!(value.parse::<Instance>().unwrap_err().field, field, "{value:?}");
    }
    assert_eq!(Instance::parse(b"\xff\xfe").unwrap_err().field, "value");
    assert_eq!(Instance::parse(&vec![b' '; 70_000]).unwrap_err().field, "value");
}
