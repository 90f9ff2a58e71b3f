//! Processes that die: said, started again, and given up on when there is no hope.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::suite::{Suite, process};

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_is_started_again_and_that_is_said() {
    let mut suite = Suite::new();
    suite.start_and_wait().await;
    for name in ["mail-1", "etcd-2", "balance"] {
        let before = suite.pid(name);
        kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
        let is_back = |state: &serde_json::Value| {
            let process = process(state, name);
            process["condition"] == "ready" && process["restarts"] == 1 && process["pid"] != before
        };
        suite.wait_for(&format!("{name} to be back"), is_back).await;
        let output = suite.output();
        assert!(output.contains(&format!("{name} ended (SIGKILL); starting it again in 0.2 s")), "{output}");
    }
    assert_eq!(suite.process("mail-2")["restarts"], 0, "no other process is touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_never_becomes_ready_is_given_up_on_and_the_rest_goes_on() {
    let mut suite = Suite::new();
    suite.misbehave("mail.broken", true);
    suite.start();
    let is_given_up = |state: &serde_json::Value| {
        ["mail-1", "mail-2"].iter().all(|name| process(state, name)["condition"] == "given_up")
            && process(state, "userlist-2")["condition"] == "ready"
    };
    suite.wait_for("both to be given up on", is_given_up).await;
    let last = "mail-1 ended again (exit code 3) and was never ready: giving up on it";
    testkit::wait::wait_until("its last words", testkit::wait::SOON, async || {
        let output = suite.output();
        output.split_once(last).is_some_and(|(_, after)| after.contains("mail-1     │   mail: boom: the disk is full"))
    })
    .await;
    let output = suite.output();
    assert!(output.contains("mail-1 ended (exit code 3); starting it again in 0.2 s"), "{output}");
    // Said at once, not only when patience for the start is over.
    let says = async || suite.output().contains("  mail-2: it ended (exit code 3) again and again");
    testkit::wait::wait_until("the reasons", testkit::wait::SOON, says).await;
    assert!(suite.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_member_with_damaged_data_is_given_up_on_with_a_way_out_that_works() {
    let mut suite = Suite::new();
    suite.start_and_wait().await;
    suite.stop().await;
    let member = suite.data().join("etcd/etcd-3");
    let wal = std::fs::read_dir(member.join("member/wal")).unwrap().flatten().map(|entry| entry.path());
    for file in wal.filter(|file| file.extension().is_some_and(|extension| extension == "wal")) {
        std::fs::write(file, "a power cut in the middle of a write").unwrap();
    }
    suite.start();
    let goes_on = |state: &serde_json::Value| {
        process(state, "etcd-3")["condition"] == "given_up" && process(state, "balance")["condition"] == "ready"
    };
    suite.wait_for("the rest without the member", goes_on).await;
    let way_out = format!("stop, remove {}, start again", member.canonicalize().unwrap().display());
    testkit::wait::wait_until("the way out", testkit::wait::SOON, async || suite.output().contains(&way_out)).await;
    suite.stop().await;
    std::fs::remove_dir_all(member).unwrap();
    suite.start_and_wait().await;
}
