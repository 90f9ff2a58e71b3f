//! What `muster status` has found, and what that means. Pure.

use std::{collections::BTreeSet, time::Duration};

use discovery_etcd::{EtcdStatus, Failure};
use serde::{Deserialize as _, Serialize};
use serde_json::Value;

use crate::{
    explain::instance,
    listing::{Checked, Instance, Instances, OLD, spoken},
    ls::Listed,
    terminal::{printable::printable, screen::Look},
};

/// How bad something is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Users notice it.
    Down,
    /// It is not as it should be.
    Wrong,
    /// Whether it is well cannot be told.
    Unknown,
    /// Worth knowing, and as it was meant.
    Note,
    /// Well.
    Well,
}

/// One sentence about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) text: String,
}

/// What a registry or a gateway answers when it is asked how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Its answer, whatever that says.
    Answer(Value),
    /// It does not tell us: who asks is not known or not allowed.
    Refused(String),
    /// Nothing, and why.
    Silence(String),
}

/// One gateway.
#[derive(Debug)]
pub(crate) struct GatewayFacts {
    /// Its admin side.
    pub(crate) name: String,
    pub(crate) readiness: Heard,
    pub(crate) table: Heard,
}

// === impl Finding ===

impl Finding {
    pub(crate) fn new(severity: Severity, text: impl AsRef<str>) -> Self {
        Self { severity, text: printable(text.as_ref()) }
    }
}

/// How etcd is. `is_named`: a person or a `muster up` said where it is; else it was only tried at the default.
pub(crate) fn of_etcd(status: &EtcdStatus, is_named: bool) -> Vec<Finding> {
    let reachable = status.reachable().count();
    let failed = |failure: &Failure| service_kit::chain(failure).to_string();
    if reachable == 0 && !is_named {
        let text = "etcd was not asked: it is not at the default address; --etcd-endpoints says where it is";
        return vec![Finding::new(Severity::Note, text)];
    }
    let mut findings = Vec::new();
    for (endpoint, member) in &status.members {
        match member {
            Ok(_) => {}
            Err(failure @ Failure::Denied(_)) => {
                let text = format!("etcd member {endpoint} does not tell how it is: {}", failed(failure));
                findings.push(Finding::new(Severity::Unknown, text));
            }
            Err(failure) => {
                let text = format!("etcd member {endpoint} does not answer: {}", failed(failure));
                findings.push(Finding::new(Severity::Wrong, text));
            }
        }
    }
    let count = format!("{reachable} of {} members answer", status.members.len());
    match status.leader() {
        Some(leader) => {
            let leads = status.members.iter().find(|(_, member)| member.as_ref().is_ok_and(|one| one.id == leader));
            let leads = leads.map_or_else(|| "another member".to_owned(), |(endpoint, _)| endpoint.clone());
            findings.push(Finding::new(Severity::Well, format!("etcd: {count}; {leads} leads")));
        }
        None if reachable > 0 => {
            let text = format!("etcd has no leader: nothing can be registered ({count})");
            findings.push(Finding::new(Severity::Down, text));
        }
        None => {}
    }
    findings
}

/// How a registry is.
pub(crate) fn of_registry(name: &str, heard: &Heard) -> Vec<Finding> {
    let of = format!("registry {name}");
    let readiness = match heard_or(&of, heard) {
        Ok(readiness) => readiness,
        Err(finding) => return vec![finding],
    };
    let troubles = troubles(readiness);
    if troubles.is_empty() {
        return vec![Finding::new(Severity::Well, format!("{of}: ready"))];
    }
    troubles.iter().map(|trouble| Finding::new(Severity::Wrong, format!("{of}: {trouble}"))).collect()
}

/// How a gateway is, and how it treats instances.
pub(crate) fn of_gateway(facts: &GatewayFacts) -> Vec<Finding> {
    let of = format!("gateway {}", facts.name);
    let (readiness, table) = match (heard_or(&of, &facts.readiness), heard_or(&of, &facts.table)) {
        (Ok(readiness), Ok(table)) => (readiness, table),
        (Err(finding), _) | (_, Err(finding)) => return vec![finding],
    };
    let mut findings: Vec<Finding> =
        troubles(readiness).iter().map(|trouble| Finding::new(Severity::Wrong, format!("{of}: {trouble}"))).collect();
    let source = table["table"]["source"].as_str().unwrap_or("nothing");
    let age = table["table"]["age_ms"].as_u64().map(Duration::from_millis);
    let old = age.map_or_else(String::new, |age| format!(", confirmed {} ago", spoken(age)));
    if source != "etcd" || age.is_none_or(|age| age > OLD) {
        let why = table["table"]["etcd"]["last_error"].as_str().map_or_else(String::new, |why| format!(": {why}"));
        findings.push(Finding::new(Severity::Wrong, format!("{of} works from a table of {source}{old}{why}")));
    }
    findings.extend(judged(table).map(|(service, id, decision)| {
        let text = format!("{service}: {of} has {id} {}", decision.replace('_', " "));
        Finding::new(Severity::Wrong, text)
    }));
    if findings.is_empty() {
        let services = table["services"].as_object().map_or(0, serde_json::Map::len);
        findings.push(Finding::new(Severity::Well, format!("{of}: {services} services in its table{old}")));
    }
    findings
}

/// Why an instance of the table is not registered.
fn of_table(one: &Checked) -> Finding {
    let severity = if one.look() == Look::Bad { Severity::Wrong } else { Severity::Note };
    Finding::new(severity, format!("{}/{} is {}: {}", one.service, one.name(), one.state, one.why()))
}

/// How the services are that a registry lists, and whether the gateways know their instances.
pub(crate) fn of_services(listed: &Listed, gateways: &[GatewayFacts]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut well = Vec::new();
    for (service, answer) in &listed.services {
        let Ok(list) = Instances::deserialize(answer) else {
            let text = format!("{service}: the registry's list of its instances cannot be read");
            findings.push(Finding::new(Severity::Unknown, text));
            continue;
        };
        let age = Duration::from_millis(list.age_ms);
        if age > OLD {
            let text = format!("{service}: what the registry knows is {} old", spoken(age));
            findings.push(Finding::new(Severity::Wrong, text));
        }
        let own = of_service(service, &list, listed, gateways);
        if own.iter().all(|finding| finding.severity >= Severity::Note) {
            well.push(format!("{service} {}", list.instances.len()));
        }
        findings.extend(own);
    }
    findings.extend(listed.unregistered.iter().map(|one| of_table(&one.checked)));
    match well.len() {
        0 => {}
        1 => findings.push(Finding::new(Severity::Well, format!("1 service with its instances: {}", well[0]))),
        count => {
            let text = format!("{count} services with their instances: {}", well.join(", "));
            findings.push(Finding::new(Severity::Well, text));
        }
    }
    findings
}

fn of_service(service: &str, list: &Instances, listed: &Listed, gateways: &[GatewayFacts]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let takes_requests = |instance: &&Instance| matches!(instance.state(), "passing" | "degraded");
    if !list.instances.iter().any(|instance| takes_requests(&instance)) {
        let last = list.tombstones.last();
        let text = match (list.instances.len(), last) {
            (0, Some(gone)) => {
                let name = gone.name();
                let cause = gone.cause();
                let ago = gone.ago(listed.now);
                format!("{service} is down: no instance is registered; the last one, {name}: {cause} {ago}")
            }
            (0, None) => return findings,
            (count, _) => format!("{service} is down: none of its {count} instances takes requests"),
        };
        findings.push(Finding::new(Severity::Down, text));
    }
    findings.extend(list.instances.iter().filter_map(|instance| of_instance(service, instance)));
    if !list.instances.is_empty() {
        let lost = list.tombstones.iter().filter(|gone| gone.cause == "expired");
        findings.extend(lost.map(|gone| {
            let text = format!("{service}: {} is gone: {} {}", gone.name(), gone.cause(), gone.ago(listed.now));
            Finding::new(Severity::Wrong, text)
        }));
    }
    for gateway in gateways {
        let Heard::Answer(table) = &gateway.table else { continue };
        let known = known(table, service);
        let unknown = list.instances.iter().filter(|instance| !known.contains(&instance.name()));
        findings.extend(unknown.map(|instance| {
            let text = format!("{service}: gateway {} does not know {}", gateway.name, instance.name());
            Finding::new(Severity::Wrong, text)
        }));
    }
    findings
}

fn of_instance(service: &str, instance: &Instance) -> Option<Finding> {
    let reasons = instance.reasons().join("; ");
    let why = if reasons.is_empty() { String::new() } else { format!(": {reasons}") };
    let severity = match instance.state() {
        "draining" => Severity::Note,
        "passing" if why.is_empty() => return None,
        _ => Severity::Wrong,
    };
    let name = instance.name();
    let place = instance.place();
    let at = if name == place { String::new() } else { format!(" ({place})") };
    Some(Finding::new(severity, format!("{service}: {name}{at} is {}{why}", instance.state())))
}

/// What was answered, or the finding that nothing was.
fn heard_or<'a>(of: &str, heard: &'a Heard) -> Result<&'a Value, Finding> {
    match heard {
        Heard::Answer(answer) => Ok(answer),
        Heard::Refused(why) => Err(Finding::new(Severity::Unknown, format!("{of} does not tell: {why}"))),
        Heard::Silence(why) => Err(Finding::new(Severity::Wrong, format!("{of} does not answer: {why}"))),
    }
}

/// What `/readyz` complains of.
fn troubles(readiness: &Value) -> Vec<String> {
    let checks = readiness["checks"].as_object();
    let failing = checks.into_iter().flatten().filter(|(_, state)| *state != "ok");
    failing.map(|(name, state)| format!("{name}: {}", state.as_str().unwrap_or_default())).collect()
}

/// Instances that a gateway does not treat as they ask to be treated: service, id, what it does with them.
fn judged(table: &Value) -> impl Iterator<Item = (&str, &str, &str)> {
    const AS_ASKED: [&str; 3] = ["in_rotation", "withheld", "last_resort"];
    let services = table["services"].as_object().into_iter().flatten();
    let instances = services.flat_map(|(service, known)| {
        known["instances"].as_array().into_iter().flatten().map(move |instance| (service.as_str(), instance))
    });
    instances.filter_map(|(service, known)| {
        let key = known["key"].as_str()?;
        let decision = known["decision"].as_str()?;
        (!AS_ASKED.contains(&decision)).then(|| (service, instance(key), decision))
    })
}

/// The instances of a service that a gateway knows, by id.
fn known(table: &Value, service: &str) -> BTreeSet<String> {
    let instances = table["services"][service]["instances"].as_array().into_iter().flatten();
    instances.filter_map(|one| Some(instance(one["key"].as_str()?).to_owned())).collect()
}

#[cfg(test)]
mod tests;
