//! A program that scrapes metrics from whom it discovers.

use std::{path::Path, process::Command};

use serde_json::Value;
use testkit::{
    ports::free_ports,
    process::Process,
    wait::{SOON, wait_until},
};

/// One on a port of its own.
pub(crate) struct Scraper {
    _process: Process,
    _dir: tempfile::TempDir,
    url: String,
    http: reqwest::Client,
}

impl Scraper {
    /// Debian's Prometheus with a job `all` whose targets are found as `discovery` says, in YAML.
    pub(crate) fn prometheus(discovery: &str) -> Self {
        Self::start(discovery, |dir, port| {
            let mut command = Command::new("prometheus");
            command
                .arg(format!("--config.file={}", dir.join("scrape.yml").display()))
                .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"));
            command
        })
    }

    /// Debian's `VictoriaMetrics`, likewise. Its `consul_sd_configs` is another program's, and Debian's Prometheus is built
    /// without one.
    pub(crate) fn victoria_metrics(discovery: &str) -> Self {
        Self::start(discovery, |dir, port| {
            let mut command = Command::new("victoria-metrics");
            command
                .arg(format!("-promscrape.config={}", dir.join("scrape.yml").display()))
                .arg(format!("-storageDataPath={}", dir.join("data").display()))
                .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
                .arg("-promscrape.consulSDCheckInterval=1s");
            command
        })
    }

    fn start(discovery: &str, command: impl FnOnce(&Path, u16) -> Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(1)[0];
        let global = "global: { scrape_interval: 1s, scrape_timeout: 1s }";
        let config = format!("{global}\nscrape_configs:\n- job_name: all\n{discovery}\n");
        std::fs::write(dir.path().join("scrape.yml"), config).unwrap();
        let process = Process::start(&mut command(dir.path(), port), &dir.path().join("output"));
        let process = process.expect("it is installed; crates/muster/prerequisites.sh test does that");
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { _process: process, _dir: dir, url: format!("http://127.0.0.1:{port}"), http }
    }

    /// Waits until it has exactly so many targets of `service`, and scraped each of them.
    pub(crate) async fn wait_for_up(&self, service: &str, count: usize) {
        let what = format!("{count} instances of {service} are scraped");
        wait_until(&what, SOON, async || {
            let targets = self.get("/api/v1/targets?state=active").await;
            let targets = targets["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
            let of_service: Vec<_> = targets.iter().filter(|one| one["labels"]["service"] == service).collect();
            of_service.len() == count && of_service.iter().all(|one| one["health"] == "up")
        })
        .await;
    }

    /// One of its own metrics; 0 when it has none.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.text("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    async fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).await).unwrap_or_default()
    }

    async fn text(&self, path: &str) -> String {
        let answer = self.http.get(format!("{}{path}", self.url)).timeout(SOON).send().await;
        match answer {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            // It is not there yet.
            Err(_) => String::new(),
        }
    }
}
