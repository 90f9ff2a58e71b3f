//! Accepted is accepted: SIGKILL at any moment loses no message.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{smtp_sink::SmtpSink, wait::wait_until};

use crate::process::Program;

const KILLS: usize = 5;
const MESSAGES: usize = 300;

#[tokio::test]
async fn every_accepted_message_arrives_though_the_instance_is_killed_again_and_again() {
    let sink = SmtpSink::start().await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = format!("sqlite:{}", dir.path().join("outbox.db").display());
    let args = ["--smtp-url", &sink.url(), "--outbox-url", &outbox, "--sends-max", "4"];
    let mut accepted = HashSet::new();
    for round in 0..=KILLS {
        let mut program = Program::start(&args).await;
        let client = reqwest::Client::new();
        let url = format!("{}/v1/messages", program.url);
        let wanted = MESSAGES * (round + 1) / (KILLS + 1);
        let mut requests = tokio::task::JoinSet::new();
        while accepted.len() < wanted {
            while requests.len() < 8 {
                requests.spawn(submit(client.clone(), url.clone()));
            }
            accepted.extend(requests.join_next().await.unwrap().unwrap());
        }
        if round < KILLS {
            // Eight requests and four conversations are under way.
            program.process.kill();
            while let Some(answer) = requests.join_next().await {
                accepted.extend(answer.unwrap());
            }
        } else {
            while let Some(answer) = requests.join_next().await {
                accepted.extend(answer.unwrap());
            }
            let arrived =
                || sink.messages().iter().filter_map(|message| message.header("Message-ID")).collect::<HashSet<_>>();
            // What was claimed by a process that was killed waits for its claim to expire.
            wait_until("everything", Duration::from_secs(60), || async { accepted.is_subset(&arrived()) }).await;
            assert_eq!(program.terminate().await.0, Some(0));
        }
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    for message in sink.messages() {
        *counts.entry(message.header("Message-ID").unwrap()).or_default() += 1;
    }
    let duplicates: usize = counts.values().map(|count| count - 1).sum();
    assert!(duplicates <= 4 * KILLS, "{duplicates}: at most the ones in flight at a kill");
}

/// The Message-ID of a message that was accepted.
async fn submit(client: reqwest::Client, url: String) -> Option<String> {
    let response = client.post(url).json(&json!({ "to": "a@b.c", "text": "hello" })).send().await.ok()?;
    let is_accepted = response.status().as_u16() == 202;
    let body: Value = response.json().await.ok()?;
    is_accepted.then(|| body["message_id"].as_str().unwrap().to_owned())
}
