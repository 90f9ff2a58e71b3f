//! Templates are bounded by bytes, depth and time, and what breaks a bound breaks nothing else.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{
    smtp_sink::SmtpSink,
    wait::{SOON, wait_for},
};

use crate::{process::Program, service::Mail};

fn template(text: &str, sample: &Value) -> Value {
    json!({ "subject": "x", "text": text, "sample": sample })
}

/// `x` with itself, `count` times over.
fn doubled(operator: &str, count: usize) -> String {
    format!("{{% set x = name %}}{}{{{{ x }}}}", format!("{{% set x = x {operator} x %}}").repeat(count))
}

/// What would take all memory, all time, or the stack.
fn bombs() -> Vec<(&'static str, String)> {
    vec![
        ("39 bytes", r#"{{ "x\ny"|indent(1000000000000000000) }}"#.to_owned()),
        ("as much as there is", r#"{{ "x\ny"|indent(100000000000) }}"#.to_owned()),
        ("doubled text", doubled("~", 40)),
        ("doubled lists", doubled("+", 40).replace("name %}", "[name] %}").replace("{{ x }}", "{{ x|length }}")),
        ("constants", format!("{{{{ {} }}}}", [r#"("x" * 99999999)"#; 200].join(" ~ "))),
        ("a list without an end", "{{ ([1] * 1000000000000000)|sum }}".to_owned()),
        (
            "a capture",
            format!("{{% set y %}}{{% for i in range(9000) %}}{}{{% endfor %}}{{% endset %}}", "x".repeat(200_000)),
        ),
        ("parentheses", format!("{{{{ {}1{} }}}}", "(".repeat(60_000), ")".repeat(60_000))),
        ("negations", format!("{{{{ {}1 }}}}", "not ".repeat(60_000))),
        ("signs", format!("{{{{ {}1 }}}}", "-".repeat(200_000))),
        ("filters", format!("{{{{ name{} }}}}", "|e".repeat(100_000))),
        ("attributes", format!("{{{{ name{} }}}}", ".a".repeat(100_000))),
        ("blocks", "{% if name %}".repeat(15_000) + &"{% endif %}".repeat(9_000)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_takes_all_memory_time_or_stack_is_refused_and_the_service_goes_on() {
    let mail = Program::start(&[]).await;
    let client = reqwest::Client::new();
    for (what, text) in bombs() {
        let url = format!("{}/v1/templates/bomb", mail.url);
        let putting = client.put(url).json(&template(&text, &json!({ "name": "x" }))).timeout(Duration::from_secs(40));
        let answer = putting.send().await.unwrap_or_else(|error| panic!("{what}: the service is gone: {error}"));
        let status = answer.status().as_u16();
        let body = answer.text().await.unwrap();
        assert_eq!(status, 422, "{what}: {body}");
        assert!(body.contains("invalid_field"), "{what}: {body}");
        assert_eq!(mail.get("/healthz").await.0, 200, "{what}");
    }
    assert_eq!(mail.send().await.0, 200);
    assert_eq!(mail.terminate().await.0, Some(0));
}

#[tokio::test]
async fn data_that_make_a_template_too_large_are_refused_at_sending() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    let text = r#"{{ "x"|indent(width) }}{{ name * width }}"#;
    let put = mail.call("PUT", "/v1/templates/t", &template(text, &json!({ "name": "x", "width": 3 }))).await;
    assert_eq!(put.status, 200, "{put:?}");
    let send = |width: i64| json!({ "to": "a@b.c", "template": "t", "data": { "name": "x", "width": width } });
    let answer = mail.submit(&send(90_000_000)).await;
    answer.assert(422, "invalid_field");
    let answer = mail.submit(&send(7)).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    mail.until(answer.body["id"].as_str().unwrap(), "delivered").await;
}

#[tokio::test]
async fn range_works() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    let text = "{% for i in range(3) %}{{ i }}{{ name }} {% endfor %}";
    let put = mail.call("PUT", "/v1/templates/t", &template(text, &json!({ "name": "x" }))).await;
    assert_eq!(put.status, 200, "{put:?}");
    let answer = mail.submit(&json!({ "to": "a@b.c", "template": "t", "data": { "name": "y" } })).await;
    mail.until(answer.body["id"].as_str().unwrap(), "delivered").await;
    assert_eq!(sink.messages()[0].body().trim_end(), "0y 1y 2y");
}

#[tokio::test]
async fn templates_go_on_when_their_program_was_killed_meanwhile() {
    let mail = Program::start(&[]).await;
    let client = reqwest::Client::new();
    let put = async || {
        let url = format!("{}/v1/templates/t", mail.url);
        client.put(url).json(&template("{{ name }}", &json!({ "name": "x" }))).send().await.unwrap().status().as_u16()
    };
    assert_eq!(put().await, 200);
    let child = wait_for("its program", SOON, || async { child_of(mail.process.id()) }).await;
    let killed = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL);
    assert_eq!(killed, Ok(()));
    assert_eq!(put().await, 200);
    assert_eq!(mail.terminate().await.0, Some(0));
}

/// The process that `parent` has started, by /proc.
fn child_of(parent: u32) -> Option<i32> {
    let is_child = |stat: &str| stat.rsplit(") ").next()?.split(' ').nth(1)?.parse::<u32>().ok();
    let ids =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.into_iter().find(|id: &i32| {
        std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| is_child(&stat) == Some(parent))
    })
}
