//! A command in the README works when pasted, and prints what the README says.

use std::process::Command;

use e2e::suite::Suite;
use testkit::{
    transcript::{Step, fold, steps},
    wait::{SOON, wait_until},
};

const README: &str = include_str!("../../../../README.md");

/// Runs one command as a shell would, against the test's gateway.
fn run(step: &Step, gateway: &str) -> String {
    let command = step.command.replace("localhost:8080", gateway);
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn the_curl_session_prints_what_the_readme_says() {
    let mut suite = Suite::start().await;
    let steps = steps(README);
    assert!(steps.len() >= 6, "the README shows put, get, del, a mail, and a service that is down");
    let gateway = suite.address("balance").to_string();
    for step in steps {
        if step.output.contains("mail is down") {
            for instance in ["mail-1", "mail-2"] {
                suite.terminate(instance).await;
            }
        }
        if step.output.contains("mail is down") {
            // A process may be gone before the gateway has heard of the farewell.
            wait_until("what the README says", SOON, async || fold(&run(&step, &gateway)) == fold(&step.output)).await;
        }
        let printed = run(&step, &gateway);
        assert_eq!(fold(&printed), fold(&step.output), "$ {}\nprinted: {printed}", step.command);
    }
}
