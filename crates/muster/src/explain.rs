//! `muster explain`: why the gateway sends the requests of a service where it sends them.
//!
//! The gateway's admin side says it at `/explain`; this finds the admin side and makes it readable. A registry adds, if
//! one answers, where each instance comes from and what of the service the table has and is not registered.

use std::time::Duration;

use anyhow::Context as _;
use discovery::ServiceName;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    client::{
        access::TrustOptions,
        gateways::{GatewayOptions, OLD},
        places::{DataOption, Given, shown},
        registries::RegistryOptions,
    },
    listing::{Checked, spoken},
    ls::{self, Listed},
    terminal::{
        printable::printable,
        screen::{self, Look, Screen},
        table::{self, Row},
    },
};

/// How long registries are listened to. One that is well answers within milliseconds, and the gateway says most.
const LISTING_MAX: Duration = Duration::from_secs(2);

/// Options of `muster explain`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ExplainOptions {
    #[command(flatten)]
    gateways: GatewayOptions,
    #[command(flatten)]
    registries: RegistryOptions,
    #[command(flatten)]
    trust: TrustOptions,
    #[command(flatten)]
    data: DataOption,
    /// Prints JSON instead of text.
    #[arg(long)]
    json: bool,
    /// The service.
    service: ServiceName,
}

/// `GET /explain`; fields that this program does not know are left alone.
#[derive(Debug, Deserialize)]
struct Explanation {
    service: String,
    pick_now: Option<String>,
    why_nobody: Option<String>,
    #[serde(default)]
    panic: bool,
    policy: Policy,
    /// The cores of the gateway that pick from some of the instances for now.
    #[serde(default)]
    subsets: Vec<Subset>,
    instances: Vec<Instance>,
    #[serde(default)]
    gone: Vec<Gone>,
    /// What the table has of the service and is not registered, if a registry says so.
    #[serde(default)]
    unregistered: Vec<Checked>,
    table: Table,
}

#[derive(Debug, Deserialize)]
struct Policy {
    source: String,
    not_in_force: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Subset {
    /// How many.
    instances: usize,
}

#[derive(Debug, Deserialize)]
struct Instance {
    key: String,
    address: Value,
    verdict: String,
    #[serde(default)]
    why: Vec<String>,
    in_flight: Option<u32>,
    latency_ms: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Gone {
    key: String,
    why: String,
}

#[derive(Debug, Deserialize)]
struct Table {
    source: String,
    age_ms: Option<u64>,
    #[serde(default)]
    etcd: Value,
}

/// Prints the explanation.
pub(crate) async fn run(options: &ExplainOptions, given: &Given) -> anyhow::Result<()> {
    let gateways = options.gateways.client(given, &options.data, &options.trust)?;
    let query = format!("service={}", options.service);
    let registries = options.registries.client(given, &options.data, &options.trust);
    let listing = async { ls::list(&registries?, Some(&options.service)).await };
    let asked = gateways.first(&["explain"], Some(&query));
    let (told, listed) = tokio::join!(asked, timeout(LISTING_MAX, listing));
    let (mut answer, by) = told?;
    // Without a registry there is less to say.
    if let Ok(Ok(listed)) = &listed {
        add_sources(&mut answer, listed);
    }
    if options.json {
        answer["gateway"] = shown(&by).into();
        return Ok(screen::print(&format!("{answer:#}\n"))?);
    }
    let explanation = Explanation::deserialize(&answer).context("the gateway's explanation cannot be read")?;
    let screen = Screen::of_stdout();
    let by = screen.paint(Look::Dim, &gateways.named(&by));
    Ok(screen::print(&format!("{}{by}\n", text(&explanation, screen)))?)
}

/// Adds what a registry knows: `origin` and `check` of each instance, and `unregistered`.
fn add_sources(answer: &mut Value, listed: &Listed) {
    let service = answer["service"].as_str().unwrap_or_default().to_owned();
    let known = listed.services.get(&service).and_then(|list| list["instances"].as_array());
    for one in answer["instances"].as_array_mut().into_iter().flatten() {
        let id = one["key"].as_str().and_then(|key| key.splitn(3, '/').nth(2)).map(str::to_owned);
        let found = known.into_iter().flatten().find(|known| known["id"].as_str() == id.as_deref());
        for name in ["origin", "check"] {
            if let Some(value) = found.and_then(|found| found.get(name)) {
                one[name] = value.clone();
            }
        }
    }
    answer["unregistered"] = listed.unregistered_json().into();
}

/// What a person reads, top to bottom: who would be picked, by which rules, why each is in or out, who left.
fn text(explanation: &Explanation, screen: Screen) -> String {
    let name = &explanation.service;
    let mut text = match (&explanation.pick_now, &explanation.why_nobody) {
        (Some(key), _) => format!("{name}: the next request would go to {}\n", instance(key)),
        (None, Some(why)) => format!("{name}: no instance would be picked: {why}\n"),
        (None, None) => format!("{name}: no instance would be picked\n"),
    };
    text += &match explanation.policy.source.as_str() {
        "etcd" => format!("policy: config/{name} in etcd\n"),
        source => format!("policy: {source}\n"),
    };
    if let Some(mistake) = &explanation.policy.not_in_force {
        text += &format!("! a newer policy is not in force: {mistake}\n");
    }
    if explanation.panic {
        text += "! most instances are judged unhealthy, which is not believed: all are used\n";
    }
    let sizes = explanation.subsets.iter().map(|subset| subset.instances);
    if let (Some(least), Some(most)) = (sizes.clone().min(), sizes.max()) {
        let sizes = if least == most { least.to_string() } else { format!("{least} to {most}") };
        text += &format!("subset: a core of the gateway picks from {sizes} instances for now\n");
    }
    text += &explanation.table.remark();
    if !explanation.instances.is_empty() {
        let rows: Vec<_> = explanation.instances.iter().map(row).collect();
        let head = ["INSTANCE", "ADDRESS", "VERDICT", "IN FLIGHT", "LATENCY"];
        text += &format!("\n{}", table::fitted(head, "WHY", &rows, screen));
    }
    if !explanation.gone.is_empty() {
        text += "\ngone:\n";
        text += &explanation
            .gone
            .iter()
            .map(|gone| format!("  {} {}\n", instance(&gone.key), gone.why))
            .collect::<String>();
    }
    if !explanation.unregistered.is_empty() {
        text += "\nnot registered:\n";
        let line = |one: &Checked| format!("  {} is {}: {}\n", one.name(), one.state, one.why());
        text += &explanation.unregistered.iter().map(line).collect::<String>();
    }
    text
}

fn row(one: &Instance) -> Row<5> {
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let look = match one.verdict.as_str() {
        "in_rotation" => Look::Good,
        "ejected" | "failing" | "unresolved" => Look::Bad,
        _ => Look::Doubtful,
    };
    let cells = [
        instance(&one.key).to_owned(),
        one.address.as_str().map_or_else(|| one.address.to_string(), str::to_owned),
        one.verdict.replace('_', " "),
        or_nothing(one.in_flight.map(|count| count.to_string())),
        or_nothing(one.latency_ms.map(|ms| format!("{ms} ms"))),
    ];
    let looks = [Look::Plain, Look::Plain, look, Look::Plain, Look::Plain];
    Row { cells, looks, text: printable(&one.why.join("; ")) }
}

/// `service/mail/10.0.0.5:7070` → `10.0.0.5:7070`.
pub(crate) fn instance(key: &str) -> &str {
    key.splitn(3, '/').nth(2).unwrap_or("(nameless)")
}

// === impl Table ===

impl Table {
    /// A word about it when it does not come from etcd, or is old.
    fn remark(&self) -> String {
        let age = self.age_ms.map(Duration::from_millis);
        let is_fresh = self.source == "etcd" && age.is_some_and(|age| age <= OLD);
        if is_fresh {
            return String::new();
        }
        let old = age.map_or_else(String::new, |age| format!(", {} old", spoken(age)));
        let why = self.etcd["last_error"].as_str().map_or_else(String::new, |error| format!(": {error}"));
        match self.source.as_str() {
            "nothing" => format!("! the gateway has not heard from etcd yet{why}\n"),
            "etcd" => format!("! the table is from etcd{old}; etcd is not heard{why}\n"),
            source => format!("! the table is from {source}{old}; etcd is not heard{why}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn explained(explanation: Value) -> String {
        text(&serde_json::from_value(explanation).unwrap(), Screen::sample(120, false))
    }

    #[test]
    fn every_instance_is_a_line_with_its_verdict_and_the_reason() {
        let text = explained(json!({
            "service": "mail", "pick_now": "service/mail/a", "why_nobody": null, "panic": false,
            "policy": { "source": "etcd", "not_in_force": "retries.attempts_max: 99 is out of range", "effective": {} },
            "instances": [
                { "key": "service/mail/a", "address": "10.0.0.5:7070", "verdict": "in_rotation", "why": [],
                  "in_flight": 3, "latency_ms": 1.5 },
                { "key": "service/mail/b", "address": "10.0.0.6:7070", "verdict": "withheld",
                  "why": ["it is draining by an operator's word"] },
            ],
            "gone": [{ "key": "service/mail/c", "address": "10.0.0.7:7070", "why": "lost its heartbeat 12 s ago" }],
            "table": { "source": "etcd", "age_ms": 20, "revision": 7, "etcd": { "connected": true, "last_error": null } },
        }));
        let expected = "mail: the next request would go to a\n\
                        policy: config/mail in etcd\n\
                        ! a newer policy is not in force: retries.attempts_max: 99 is out of range\n\n\
                        INSTANCE  ADDRESS        VERDICT      IN FLIGHT  LATENCY  WHY\n\
                        a         10.0.0.5:7070  in rotation  3          1.5 ms\n\
                        b         10.0.0.6:7070  withheld     -          -        it is draining by an operator's word\n\n\
                        gone:\n  c lost its heartbeat 12 s ago\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn that_a_core_picks_from_some_is_said_once() {
        let explained = |subsets: Value| {
            explained(json!({ "service": "mail", "pick_now": "service/mail/a", "policy": { "source": "default" },
                "instances": [], "subsets": subsets, "table": { "source": "etcd", "age_ms": 20 } }))
        };
        let ends = |subsets, line: &str| assert!(explained(subsets).ends_with(line), "{line}");
        ends(json!([]), "policy: default\n");
        ends(json!([{ "core": 1, "instances": 16 }]), "picks from 16 instances for now\n");
        let both = json!([{ "core": 0, "instances": 20 }, { "core": 1, "instances": 16 }]);
        ends(both, "picks from 16 to 20 instances for now\n");
    }

    #[test]
    fn what_a_registry_knows_of_the_instances_is_added() {
        let mut answer = json!({ "service": "db", "policy": { "source": "default" },
            "table": { "source": "etcd", "age_ms": 1 },
            "instances": [{ "key": "service/db/a", "address": "10.0.0.5:3306", "verdict": "in_rotation" },
                          { "key": "service/db/b", "address": "10.0.0.6:3306", "verdict": "in_rotation" }] });
        let check = json!({ "state": "passing", "checked_by": "10.0.0.2:8500" });
        let instances = json!([{ "id": "a", "origin": "table", "check": check }, { "id": null, "origin": "hand" }]);
        let known = json!({ "instances": instances });
        let failing = json!({ "service": "db", "id": "c", "address": "10.0.0.7:3306", "state": "failing",
            "reason": "it is down" });
        let mut listed = Listed { services: [("db".to_owned(), known)].into(), ..Listed::default() };
        listed.take(failing).unwrap();
        add_sources(&mut answer, &listed);
        assert_eq!((&answer["instances"][0]["origin"], &answer["instances"][0]["check"]), (&json!("table"), &check));
        assert_eq!(answer["instances"][1].get("origin"), None, "the registry does not know it yet");
        assert!(explained(answer).ends_with("not registered:\n  c is failing: it is down\n"));
    }

    #[test]
    fn without_an_instance_an_old_table_is_named() {
        let text = explained(json!({
            "service": "mail", "pick_now": null, "why_nobody": "mail is down: last instance a deregistered 3 s ago",
            "policy": { "source": "default" }, "instances": [],
            "table": { "source": "disk", "age_ms": 61_000, "etcd": { "last_error": "connection refused" } },
        }));
        let expected = "mail: no instance would be picked: mail is down: last instance a deregistered 3 s ago\n\
                        policy: default\n\
                        ! the table is from disk, 61 s old; etcd is not heard: connection refused\n";
        assert_eq!(text, expected);
    }
}
