//! What is an address, what is none, and what its spellings have in common.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<EmailAddress, InvalidEmail> {
    text.parse()
}

#[test]
fn addresses_in_use_are_kept_as_written() {
    let longest = format!("{}@{}.com", "x".repeat(64), format!("{}.", "y".repeat(61)).repeat(3).trim_end_matches('.'));
    assert_eq!(longest.len(), 254);
    for address in [
        "d@example.com",
        "D.Ong+list@Example.COM",
        "o'brien@example.com",
        "a@localhost",
        "a@1.example",
        "a@xn--bcher-kva.example",
        "jörg@bücher.example",
        "अजय@डाटा.भारत",
        "संपर्क@डाटामेल.भारत",
        "квіточка@пошта.укр",
        "Dörte@Sörensen.example.com",
        "二ノ宮@黒川.日本",
        &longest,
    ] {
        assert_eq!(parse(address).unwrap().as_str(), address);
    }
}

#[test]
fn anything_else_is_refused_with_what_is_wrong() {
    let too_long = format!("{}@{}.com", "x".repeat(64), "y.".repeat(95));
    // 206 bytes as it is written.
    let sent_too_long = format!("{}@{}c", "x".repeat(64), "äöü.".repeat(20));
    for (address, hint) in [
        ("", "empty"),
        ("dong", "no '@'"),
        ("@example.com", "nothing before"),
        ("a@", "no domain"),
        ("a@b@c.d", "character or a dot"),
        (".a@b.c", "character or a dot"),
        ("a..b@c.d", "character or a dot"),
        ("a b@c.d", "U+0020"),
        (" a@c.d", "U+0020"),
        ("a@c.d ", "U+0020"),
        ("a\u{3000}b@c.d", "U+3000"),
        ("a@b..c", "two in a row"),
        ("a@b.c.", "ends with a dot"),
        ("a@-b.c", "character"),
        ("a@b_c.d", "cannot be one"),
        ("a@xn--a.example", "cannot be one"),
        ("\"a b\"@c.d", "U+0020"),
        ("\"a\"@c.d", "quotes"),
        ("a@[169.254.169.254]", "IP address"),
        ("a@[IPv6:::1]", "IP address"),
        ("a@10.0.0.1", "IP address"),
        ("a@127.1", "IP address"),
        ("a@0x7f000001", "IP address"),
        ("a@2130706433", "IP address"),
        ("a@０x7f.1", "IP address"),
        ("a@1.2.3.4.5", "IP address"),
        ("a@b%2ec", "domain cannot be one"),
        ("a@b/d", "domain cannot be one"),
        ("a@b:25", "character"),
        ("a@b.c>", "character"),
        ("a(x)@b.c", "character"),
        ("a@b.c\r\nBcc: x@y.z", "U+000D"),
        ("A <a@b.c>", "U+0020"),
        ("<a@b.c>", "character"),
        ("a,b@c.d", "character"),
        ("a@例え。テスト", "'。'"),
        (&format!("{}@b.c", "x".repeat(65)), "64 bytes before"),
        (&format!("{}@b.c", "é".repeat(33)), "64 bytes before"),
        (&format!("a@{}.c", "x".repeat(64)), "longer than 63"),
        (&too_long, "254 are allowed"),
        (&sent_too_long, "sent as"),
    ] {
        let error = parse(address).unwrap_err();
        assert!(error.to_string().contains(hint), "{address:?}: {error}");
    }
}

#[test]
fn spellings_of_one_address_have_one_key() {
    for (a, b) in [
        ("D.Ong+list@Example.COM", "d.ong+list@example.com"),
        ("Jörg@BÜCHER.example", "JÖRG@xn--bcher-kva.example"),
        ("Jo\u{308}rg@b.example", "j\u{f6}rg@b.example"),
        ("a@FAß.example", "a@faß.example"),
    ] {
        assert_eq!(parse(a).unwrap().key(), parse(b).unwrap().key(), "{a} {b}");
    }
    for (a, b) in [("a.b@c.d", "ab@c.d"), ("a+b@c.d", "a@c.d"), ("jorg@c.d", "jörg@c.d")] {
        assert_ne!(parse(a).unwrap().key(), parse(b).unwrap().key(), "{a} {b}");
    }
}

#[test]
fn each_spelling_of_an_address_is_what_the_table_says() {
    let spellings = |text: &str| {
        let address = parse(text).unwrap();
        (address.key(), address.to_unicode(), address.to_ascii())
    };
    let own = str::to_owned;
    assert_eq!(spellings("Jörg@BÜCHER.example"), (own("jörg@xn--bcher-kva.example"), own("Jörg@bücher.example"), None));
    for text in ["D@Bücher.example", "D@xn--bcher-kva.example"] {
        assert_eq!(
            spellings(text),
            (own("d@xn--bcher-kva.example"), own("D@bücher.example"), Some(own("D@xn--bcher-kva.example")))
        );
    }
    let address = parse("D@Bücher.example").unwrap();
    assert_eq!((address.local(), address.domain(), address.needs_smtputf8()), ("D", "Bücher.example", false));
    assert!(parse("ä@b.c").unwrap().needs_smtputf8());
}

#[test]
fn a_reason_does_not_repeat_the_address() {
    for text in ["somebody", "some body@example.com", "somebody@[10.0.0.1]", "somebody@-example.com"] {
        assert!(!parse(text).unwrap_err().to_string().contains("somebody"));
    }
}

#[test]
fn an_address_does_not_reach_a_log_by_debug() {
    assert_eq!(format!("{:?}", parse("d@example.com").unwrap()), "EmailAddress(…)");
}

proptest! {
    #[test]
    fn what_is_accepted_is_stable_and_safe_in_a_header(
        text in "[a-zA-Z0-9.+_@<>,;:\" äé。\r\n\\[\\]()-]{0,30}|(?s).{0,30}@.{0,30}|\\PC{0,300}"
    ) {
        if let Ok(address) = parse(&text) {
            prop_assert_eq!(&parse(address.as_str()).unwrap(), &address);
            let text = address.as_str();
            prop_assert!(text.len() <= EmailAddress::MAX_BYTES);
            prop_assert!(address.key().chars().count() <= 384, "it fits into its column");
            prop_assert_eq!(lower_cased(&address.key()), address.key());
            let spellings = [Some(address.to_unicode()), address.to_ascii()];
            for spelling in spellings.into_iter().flatten().filter(|text| text.len() <= EmailAddress::MAX_BYTES) {
                prop_assert_eq!(parse(&spelling).map(|spelling| spelling.key()), Ok(address.key()));
            }
            prop_assert_eq!(text.matches('@').count(), 1);
            prop_assert!(!text.contains(|c: char| c.is_control() || c.is_whitespace() || "<>()[]\",;:\\".contains(c)));
        }
    }

    #[test]
    fn every_plain_address_is_accepted(text in "[a-z0-9]{1,20}([.+_-][a-z0-9]{1,10}){0,3}@([a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?\\.){1,3}[a-z]{2,6}") {
        // RFC 5890, 2.3.2.1: `xn--` begins a name in another script, and what follows it is that name or a mistake.
        let (_, domain) = text.split_once('@').unwrap();
        prop_assume!(!domain.split('.').any(|label| label.starts_with("xn--")));
        prop_assert!(parse(&text).is_ok());
    }

    #[test]
    fn a_label_that_says_it_is_encoded_and_is_not_is_refused(label in "xn--[a-z]?") {
        let text = format!("a@{label}.example");
        prop_assert!(parse(&text).is_err());
    }
}
