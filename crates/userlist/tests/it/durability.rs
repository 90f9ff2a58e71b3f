//! An answer of success is never taken back.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use testkit::{
    database::Database,
    wait::{SOON, wait_until},
};
use tokio::task::JoinSet;

use crate::{
    process::Userlist,
    service::{Client, Service},
};

/// Puts users through one instance, as fast as it answers, and remembers every success.
struct Stream {
    acknowledged: Arc<Mutex<Vec<(String, String)>>>,
    stop: Arc<AtomicBool>,
    writers: JoinSet<()>,
}

// === impl Stream ===

impl Stream {
    fn start(client: &Client, first: usize) -> Self {
        let acknowledged = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for writer in 0..6 {
            let client = client.clone();
            let acknowledged = Arc::clone(&acknowledged);
            let stop = Arc::clone(&stop);
            writers.spawn(write(client, first + writer, acknowledged, stop));
        }
        Self { acknowledged, stop, writers }
    }

    async fn wait_for(&self, count: usize) {
        wait_until("enough puts", SOON, || async { self.acknowledged.lock().unwrap().len() >= count }).await;
    }

    async fn end(mut self) -> Vec<(String, String)> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(writer) = self.writers.join_next().await {
            writer.unwrap();
        }
        std::mem::take(&mut self.acknowledged.lock().unwrap())
    }
}

async fn write(client: Client, writer: usize, acknowledged: Arc<Mutex<Vec<(String, String)>>>, stop: Arc<AtomicBool>) {
    for n in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("user-{writer}-{n}");
        let email = format!("u{n}@example.com");
        let body = format!(r#"{{"email":"{email}"}}"#);
        match client.try_send(Method::PUT, &format!("/v1/users/{name}"), &body).await {
            Some(reply) if reply.status == 201 || reply.status == 200 => {
                acknowledged.lock().unwrap().push((name, email))
            }
            Some(reply) => assert_eq!(reply.status, 503, "{:?}", reply.body),
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn assert_all_there(client: &Client, acknowledged: &[(String, String)]) {
    for (name, email) in acknowledged {
        let reply = client.get(&format!("/v1/users/{name}")).await;
        assert_eq!(
            (reply.status, reply.body["email"].as_str()),
            (200, Some(email.as_str())),
            "{name} was acknowledged"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_put_survives_a_database_that_is_killed() {
    let mut database = Database::start().await;
    let service = Service::start(&database.create("users")).await;
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let stream = Stream::start(&service.client, 10 * round);
        stream.wait_for(100).await;
        database.kill();
        acknowledged.extend(stream.end().await);
        database.run().await;
        service.client.wait_until_ready().await;
        assert_all_there(&service.client, &acknowledged).await;
    }
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_put_survives_a_service_that_is_killed_on_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/users.db", folder.path().display());
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let mut instance = Userlist::start(folder.path(), &url);
        instance.client.wait_until_ready().await;
        assert_all_there(&instance.client, &acknowledged).await;
        let stream = Stream::start(&instance.client, 10 * round);
        stream.wait_for(100).await;
        instance.process.kill();
        acknowledged.extend(stream.end().await);
    }
    let instance = Userlist::start(folder.path(), &url);
    instance.client.wait_until_ready().await;
    assert_all_there(&instance.client, &acknowledged).await;
}
