//! Who may pass, and how much, is settled by the machine, whatever framing carries the exchange.

use std::time::Duration;

use super::{
    frames::{Frame, Stream},
    harness::{Harness, Message, run},
};

const KEY: &str = "Authorization: Bearer abc\r\n";

/// Answers with what the gateway says of the client.
async fn tell(stream: Stream) {
    let request = stream.message().await.unwrap();
    let lines = request.head.lines().filter(|line| line.to_ascii_lowercase().starts_with("x-auth"));
    let told = lines.collect::<Vec<_>>().join("; ");
    stream.send(Frame::Head(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()));
    stream.send_body(told.as_bytes()).await;
}

async fn ask(harness: &Harness, lines: &str) -> Message {
    let stream = harness.begin("GET", lines);
    stream.send(Frame::End);
    stream.message().await.expect("an answer")
}

/// Status and code of a problem.
fn code(answer: &Message) -> (u16, String) {
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    (answer.head[9..12].parse().unwrap(), problem["code"].as_str().unwrap().to_owned())
}

#[test]
fn a_credential_is_asked_for_judged_and_replaced_by_who_the_client_is() {
    run(async {
        let harness = Harness::asking(r#"{"auth":{"keys":{}}}"#);
        harness.instance(0, tell);
        let missing = ask(&harness, "").await;
        assert_eq!(code(&missing), (401, "credentials_missing".to_owned()));
        assert!(missing.head.contains("WWW-Authenticate: Bearer realm=\"mail\"\r\n"), "{}", missing.head);
        let wrong = ask(&harness, "Authorization: Bearer abd\r\n").await;
        assert_eq!(code(&wrong), (401, "credentials_invalid".to_owned()));
        let passed = ask(&harness, &format!("{KEY}X_Auth_Subject: root\r\n")).await;
        assert_eq!(String::from_utf8_lossy(&passed.body), "X-Auth-Method: key; X-Auth-Subject: ci");
        assert_eq!(harness.totals().responses[1], 1, "what is refused reaches no instance");
    });
}

#[test]
fn rate_and_places_of_a_client_are_bounded_and_places_come_back() {
    run(async {
        let harness = Harness::asking(r#"{"in_flight_per_client":1,"rate_limit":[{"requests":3,"window":"1h"}]}"#);
        harness.instance(0, tell);
        for _ in 0..2 {
            assert!(ask(&harness, "").await.head.contains(" 200 "));
        }
        let waiting = harness.begin("POST", "");
        harness.wait_for("the request to be under way", |harness| harness.in_flight() == 1).await;
        let refused = ask(&harness, "").await;
        assert_eq!(code(&refused), (429, "rate_limited".to_owned()), "the fourth");
        assert!(refused.head.contains("RateLimit: \"client\";r=0;t="), "{}", refused.head);
        waiting.send(Frame::End);
        assert!(waiting.message().await.unwrap().head.contains(" 200 "));
    });
}

#[test]
fn a_service_that_is_asked_judges_and_its_answer_is_framed_for_the_client() {
    run(async {
        let harness = Harness::asking(r#"{"auth":{"forward":{"service":"auth","pass":["x-auth-user"]}}}"#);
        harness.instance(0, tell);
        harness.instance(1, async |stream| {
            let asked = stream.message().await.unwrap();
            let head: &[u8] = match asked.head.contains("Cookie: ann") {
                true => b"HTTP/1.1 200 OK\r\nX-Auth-User: ann\r\n\r\n",
                false => b"HTTP/1.1 302 Found\r\nLocation: /login\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n",
            };
            stream.send(Frame::Head(head.to_vec()));
            stream.send_body(b"page").await;
        });
        let sent = ask(&harness, "").await;
        assert!(
            sent.head.starts_with("HTTP/1.1 302 ") && sent.head.contains("Location: /auth/login\r\n"),
            "{}",
            sent.head
        );
        assert!(
            sent.head.contains("Set-Cookie: a=1\r\n") && sent.head.contains("Set-Cookie: b=2\r\n"),
            "{}",
            sent.head
        );
        assert_eq!(sent.body, b"page");
        let passed = ask(&harness, "Cookie: ann\r\n").await;
        let told = String::from_utf8_lossy(&passed.body).into_owned();
        assert_eq!(told, "X-Auth-Method: forward; X-Auth-Subject: ann; x-auth-user: ann");
    });
}

#[test]
fn a_client_that_leaves_while_its_credential_is_judged_gives_its_place_back_at_once() {
    run(async {
        tokio::time::pause();
        let jwt = r#"{"issuer":"i","audiences":[],"jwks_file":"/does/not/exist"}"#;
        let harness = Harness::asking(&format!(r#"{{"in_flight_per_client":1,"auth":{{"jwt":{jwt}}}}}"#));
        let began = tokio::time::Instant::now();
        // Its keys are waited for, for three seconds.
        let waiting = harness.begin("GET", "Authorization: Bearer a.b.c\r\n");
        waiting.send(Frame::End);
        while waiting.has_unread() {
            tokio::task::yield_now().await;
        }
        assert_eq!(code(&ask(&harness, "Authorization: Bearer a.b.c\r\n").await).0, 429);
        waiting.send(Frame::Reset);
        while waiting.has_unread() {
            tokio::task::yield_now().await;
        }
        let next = harness.begin("GET", "Authorization: Bearer a.b.c\r\n");
        next.send(Frame::End);
        assert_eq!(code(&next.message().await.unwrap()), (503, "auth_unavailable".to_owned()));
        assert!(began.elapsed() < Duration::from_secs(5), "it waited for its own three seconds only");
        assert_eq!(harness.totals().responses[3], 2, "429 for the second, and 499 for the one that left");
    });
}
