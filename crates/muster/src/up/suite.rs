//! All processes together: started in order, stopped in order.
//!
//! Nothing depends on the order of starting, since every service waits for what it needs; starting etcd first, then the
//! registries, then the rest only avoids a page of "not there yet" in the log. The order of stopping matters:
//! [`Stage::END`].

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::up::{
    etcd::{
        member::{self, Join, MEMBERS, QUORUM},
        rejoin,
    },
    ports::HeldPorts,
    process_table::{Condition, Entry},
    supervisor::{Shared, keep_running},
    topology::{Process, Settings, Stage},
};

/// How long one stage of the start may hold up the next. What is not ready then comes later, or never.
const STAGE: Duration = Duration::from_secs(15);

/// The supervised processes.
pub(crate) struct Suite {
    shared: Arc<Shared>,
    held: HeldPorts,
    running: Vec<Supervised>,
}

struct Supervised {
    name: String,
    stage: Stage,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

// === impl Suite ===

impl Suite {
    /// Nothing runs yet.
    pub(crate) fn new(shared: Arc<Shared>, held: HeldPorts) -> Self {
        Self { shared, held, running: Vec::new() }
    }

    /// Starts everything, stage by stage, and returns when it has been started, which is not yet ready. May be dropped
    /// in the middle.
    pub(crate) async fn start(&mut self, settings: &Settings<'_>) {
        let processes = settings.processes();
        let of = |stage: Stage| processes.iter().filter(move |process| process.stage == stage).cloned();
        self.shared.console.hush(self.shared.is_quiet);
        let lost = self.start_etcd(settings, of(Stage::Etcd).collect());
        self.wait_for(Stage::Etcd, &lost).await;
        self.shared.console.hush(false);
        of(Stage::Registry).for_each(|process| self.run(process));
        self.wait_for(Stage::Registry, &[]).await;
        of(Stage::Services).chain(of(Stage::Gateway)).for_each(|process| self.run(process));
        for name in lost {
            self.rejoin(settings, &name).await;
        }
    }

    /// Starts the members of etcd. If all are without data they form a new cluster. If most have data and one has none,
    /// that one is not started but returned: it has to join the others, which takes them to be at work.
    fn start_etcd(&mut self, settings: &Settings<'_>, members: Vec<Process>) -> Vec<String> {
        let folder = settings.data.etcd();
        let (known, new): (Vec<Process>, Vec<Process>) =
            members.into_iter().partition(|member| member::has_data(&folder, &member.name));
        let is_minority_lost = (QUORUM..MEMBERS).contains(&known.len());
        known.into_iter().for_each(|member| self.run(member));
        if is_minority_lost {
            return new.into_iter().map(|member| member.name).collect();
        }
        new.into_iter().for_each(|member| self.run(member));
        Vec::new()
    }

    /// Has a member that lost its data join the others.
    async fn rejoin(&mut self, settings: &Settings<'_>, name: &str) {
        self.shared.console.say(&format!("{name} has no data while the other members have: it joins them anew"));
        let endpoints = settings.etcd_endpoints();
        let prepared = rejoin::prepare(self.shared.prober.client(), &endpoints, &member::peer_url(name)).await;
        match prepared {
            Ok(()) => self.run(settings.etcd(name, Join::Existing)),
            Err(error) => {
                let why = service_kit::chain(&error).to_string();
                self.shared.console.say(&format!("{name} cannot join: {why}; going on without it"));
                self.shared.process_table.set(name, Condition::GivenUp(why));
            }
        }
    }

    fn run(&mut self, process: Process) {
        for port in &process.ports {
            self.held.release(*port);
        }
        let stop = CancellationToken::new();
        let name = process.name.clone();
        let stage = process.stage;
        let task = tokio::spawn(keep_running(process, Arc::clone(&self.shared), stop.clone()));
        self.running.push(Supervised { name, stage, stop, task });
    }

    /// Waits until every process of `stage`, except some, is ready or given up on, but not for ever.
    async fn wait_for(&self, stage: Stage, except: &[String]) {
        let is_settled = |entry: &Entry| entry.is_settled() || except.contains(&entry.name);
        let settled = self.shared.process_table.wait_until(|known| known.of(stage).all(is_settled));
        // Later stages cope with what is missing.
        let _ = timeout(STAGE, settled).await;
    }

    /// Ends everything in order, and returns when nothing runs any more. How long that takes is bounded by the grace of
    /// each stage, and by a caller that cancels [`Shared::force`].
    pub(crate) async fn stop(mut self) {
        self.shared.console.hush(self.shared.is_quiet);
        for stage in Stage::END {
            let (now, later): (Vec<_>, Vec<_>) = self.running.into_iter().partition(|process| process.stage == stage);
            self.running = later;
            let names: Vec<&str> =
                now.iter().filter(|process| !process.task.is_finished()).map(|process| process.name.as_str()).collect();
            if !names.is_empty() {
                self.shared.console.say(&format!("stopping {}", names.join(", ")));
            }
            // The members of etcd one by one: a leader hands its office over before it ends, and if all end at once it
            // waits 7 s for a successor that is not there.
            if stage != Stage::Etcd {
                now.iter().for_each(|process| process.stop.cancel());
            }
            for process in now {
                process.stop.cancel();
                // A supervisor that panicked has dropped its child, and with that killed it.
                let _ = process.task.await;
            }
        }
    }
}
