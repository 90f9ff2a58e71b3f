//! More instances of the service `test-instance` than the fault suite has.

use std::process::Command;

use e2e::{
    binaries,
    fault_suite::{FaultSuite, TEST_INSTANCES},
};
use testkit::{
    ports::free_ports,
    process::Process,
    wait::{SOON, wait_until},
};

/// All instances; those that were started here end with it.
pub(crate) struct Crowd {
    pub(crate) names: Vec<String>,
    _processes: Vec<Process>,
    _folder: tempfile::TempDir,
}

impl Crowd {
    /// Starts `more` beside those of `fault_suite`, and waits until all get requests.
    pub(crate) async fn start(fault_suite: &FaultSuite, more: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registries = ["registry-1", "registry-2"].map(|name| format!("http://{}", fault_suite.address(name)));
        let mut names: Vec<String> = TEST_INSTANCES.map(str::to_owned).into();
        let mut processes = Vec::new();
        for (number, port) in free_ports(more).into_iter().enumerate() {
            let name = format!("test-instance-{}", TEST_INSTANCES.len() + 1 + number);
            let mut command = Command::new(binaries::find("test_instance"));
            command.env_clear().env("TEST_INSTANCE_LISTEN", format!("127.0.0.1:{port}")).env("INSTANCE_ID", &name);
            command.env("TEST_INSTANCE_RECORD", folder.path().join(&name)).env("REGISTRY_URLS", registries.join(","));
            let process = Process::start(&mut command, &folder.path().join(format!("{name}.log"))).unwrap();
            processes.push(process);
            names.push(name);
        }
        let crowd = Self { names, _processes: processes, _folder: folder };
        crowd.all_in_rotation(fault_suite).await;
        crowd
    }

    /// Waits until all get requests, as registered instances.
    pub(crate) async fn all_in_rotation(&self, fault_suite: &FaultSuite) {
        for name in &self.names {
            wait_until(&format!("{name} in rotation"), SOON, async || {
                fault_suite.decision(name).await.as_deref() == Some("in_rotation")
            })
            .await;
        }
    }
}
