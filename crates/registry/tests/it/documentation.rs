//! The curl lines of doc/api/registry.md work as they are.

use std::process::Command;

use testkit::{
    etcd::EtcdCluster,
    python::succeed,
    transcript::{fold, steps},
};

use crate::support::Registry;

/// The commands on the registry's page, in their order.
fn commands() -> Vec<&'static str> {
    let page = include_str!("../../../../doc/api/registry.md");
    let blocks = page.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.flat_map(str::lines).filter(|line| line.starts_with("curl ")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_commands_work_when_pasted() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let address = registry.url.strip_prefix("http://").unwrap();
    let commands = commands();
    assert!(commands.len() >= 8, "{commands:?}");
    for command in commands {
        let line = command.replace("localhost:8500", address);
        let mut shell = Command::new("sh");
        // 28 is curl's word for a time that is over: a stream, or a wait, that was answered with nothing for so long.
        let patient = if command.contains("wait=") || command.contains("-N") { "[ $? = 28 ]" } else { "false" };
        shell.args([
            "-c",
            &format!("curl() {{ command curl -sS --fail-with-body --max-time 3 \"$@\"; }}\n{line} || {patient}"),
        ]);
        let output = succeed(shell, std::time::Duration::from_secs(20)).await;
        assert!(!output.is_empty() || command.contains("-X") || command.contains("wait="), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plain_form_works_as_the_readme_and_the_pages_show_it() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let address = registry.url.strip_prefix("http://").unwrap();
    let run = async |command: &str| {
        let mut shell = Command::new("sh");
        let line = command.replace("localhost:8500", address).replace("curl ", "curl -sS --fail-with-body ");
        shell.args(["-c", &line]);
        succeed(shell, std::time::Duration::from_secs(20)).await
    };
    let readme = include_str!("../../../../README.md").lines().filter(|line| line.starts_with("curl -d"));
    let readme: Vec<&str> = readme.filter(|line| line.ends_with("localhost:8500")).collect();
    assert!(readme.len() >= 2 && readme.iter().any(|line| line.contains("leaving")), "{readme:?}");
    for command in readme {
        assert!(run(command).await.contains("revision"), "{command}");
    }
    let by_hand = steps(include_str!("../../../../doc/by-hand.md"));
    let by_hand: Vec<_> = by_hand.iter().filter(|step| step.command.ends_with("localhost:8500")).collect();
    assert!(by_hand.len() >= 3, "{by_hand:?}");
    for step in by_hand {
        assert_eq!(fold(&run(&step.command).await), fold(&step.output), "{}", step.command);
    }
}
