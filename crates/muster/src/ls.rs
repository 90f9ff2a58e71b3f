//! `muster ls`: services and their instances, as a registry knows them, and who is gone since a few minutes.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use discovery::ServiceName;
use http::{Method, StatusCode};
use serde::Deserialize as _;
use serde_json::{Value, json};
use url::Url;

use crate::{
    client::{
        access::TrustOptions,
        places::{DataOption, Given, shown},
        registries::{Registries, RegistryOptions, Told, Untold},
    },
    listing::{Checked, Gone, Instance, Instances, OLD, Services, Table, spoken},
    terminal::{
        screen::{self, Look, Screen},
        table::{self, Row},
    },
};

/// Options of `muster ls`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LsOptions {
    #[command(flatten)]
    registries: RegistryOptions,
    #[command(flatten)]
    trust: TrustOptions,
    #[command(flatten)]
    data: DataOption,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Only this service.
    service: Option<ServiceName>,
}

/// What was asked, and by whom it was answered.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Who answered last.
    pub(crate) by: Option<Url>,
    /// What the clock there shows.
    pub(crate) now: SystemTime,
    /// The answers, by service.
    pub(crate) services: BTreeMap<String, Value>,
    /// What the table of services has and is not registered.
    pub(crate) unregistered: Vec<Unregistered>,
}

/// An instance of the table of services.
#[derive(Debug)]
pub(crate) struct Unregistered {
    pub(crate) checked: Checked,
    /// The same in the registry's words.
    pub(crate) json: Value,
}

const HEAD: [&str; 5] = ["SERVICE", "INSTANCE", "ADDRESS", "STATE", "AGE"];

/// Prints the list.
pub(crate) async fn run(options: &LsOptions, given: &Given) -> anyhow::Result<()> {
    let registries = options.registries.client(given, &options.data, &options.trust)?;
    let listed = list(&registries, options.service.as_ref()).await?;
    if options.json {
        return Ok(screen::print(&format!("{:#}\n", listed.json()))?);
    }
    let screen = Screen::of_stdout();
    let mut text = text(&listed, screen)?;
    if let Some(by) = &listed.by {
        text += &screen.paint(Look::Dim, &registries.named(by));
        text.push('\n');
    }
    Ok(screen::print(&text)?)
}

/// Asks for every instance of `service`, or of all.
pub(crate) async fn list(registries: &Registries, service: Option<&ServiceName>) -> anyhow::Result<Listed> {
    let mut listed = Listed::default();
    let names = match service {
        Some(service) => vec![service.to_string()],
        None => {
            let told = services(registries).await?;
            listed.by = Some(told.by);
            let parsed: Result<Services, _> = serde_json::from_value(told.json);
            let Services { services } = parsed.context("the registry's list of services cannot be read")?;
            services.into_iter().map(|service| service.name).collect()
        }
    };
    for name in names {
        let path = ["v1", "services", &name, "instances"];
        let told = registries.ask(&Method::GET, &path, Some("include=tombstones"), None).await?;
        (listed.by, listed.now) = (Some(told.by), told.now);
        listed.services.insert(name, told.json);
    }
    for one in table(registries, service).await? {
        listed.take(one)?;
    }
    Ok(listed)
}

/// What the table of services has of `service`, or of all. An older registry has no table, and one's token may not be
/// good for it.
async fn table(registries: &Registries, service: Option<&ServiceName>) -> anyhow::Result<Vec<Value>> {
    let told = match registries.ask(&Method::GET, &["v1", "table"], None, None).await {
        Err(Untold::Refused { .. }) => return Ok(Vec::new()),
        told => told?,
    };
    let table = Table::deserialize(&told.json).context("the registry's table of services cannot be read")?;
    let is_meant = |one: &Value| service.is_none_or(|service| one["service"] == service.as_str());
    Ok(table.instances.into_iter().filter(is_meant).collect())
}

// === impl Listed ===

impl Default for Listed {
    fn default() -> Self {
        Self { by: None, now: SystemTime::now(), services: BTreeMap::new(), unregistered: Vec::new() }
    }
}

impl Listed {
    /// For `--json`.
    fn json(&self) -> Value {
        let by = self.by.as_ref().map(shown);
        json!({ "registry": by, "services": self.services, "unregistered": self.unregistered_json() })
    }

    /// What the table has and is not registered, in the registry's words.
    pub(crate) fn unregistered_json(&self) -> Vec<Value> {
        self.unregistered.iter().map(|one| one.json.clone()).collect()
    }

    /// Takes an instance of the table: as the `check` of the instance that is registered by it, or as one that is not
    /// registered.
    pub(crate) fn take(&mut self, one: Value) -> anyhow::Result<()> {
        let checked = Checked::deserialize(&one).context("the registry's table of services cannot be read")?;
        if let Some(registered) = self.registered(&checked.service, &one["id"]) {
            registered["check"] = about(&one);
        }
        if !checked.is_registered() {
            self.unregistered.push(Unregistered { checked, json: one });
        }
        Ok(())
    }

    /// The instance that the table has registered under this id.
    fn registered(&mut self, service: &str, id: &Value) -> Option<&mut Value> {
        let instances = self.services.get_mut(service)?.get_mut("instances")?.as_array_mut()?;
        instances.iter_mut().find(|one| one.get("id") == Some(id) && one["origin"] == "table")
    }
}

/// How the checks of an instance of the table go; what it is stands where it is registered.
fn about(one: &Value) -> Value {
    let mut about = one.clone();
    if let Some(members) = about.as_object_mut() {
        members.retain(|name, _| !["service", "id", "address"].contains(&name.as_str()));
    }
    about
}

/// Every service, those of which all instances are gone as well. An older registry lists only the others.
async fn services(registries: &Registries) -> Result<Told, Untold> {
    let path = ["v1", "services"];
    match registries.ask(&Method::GET, &path, Some("include=tombstones"), None).await {
        Err(Untold::Refused { status: StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY, .. }) => {
            registries.ask(&Method::GET, &path, None, None).await
        }
        told => told,
    }
}

/// The table, and a word about it when it is empty or old.
fn text(listed: &Listed, screen: Screen) -> anyhow::Result<String> {
    let mut rows = Vec::new();
    let mut age = Duration::ZERO;
    for (service, answer) in &listed.services {
        let list = Instances::deserialize(answer)
            .with_context(|| format!("the registry's list of the instances of {service} cannot be read"))?;
        age = age.max(Duration::from_millis(list.age_ms));
        rows.extend(list.instances.iter().map(|instance| row(service, instance, listed.now)));
        rows.extend(list.tombstones.iter().rev().map(|gone| gone_row(service, gone, listed.now)));
    }
    rows.extend(listed.unregistered.iter().map(|one| unregistered_row(&one.checked, listed.now)));
    let mut text = match rows.is_empty() {
        true => "no instance is registered, and none has gone in the last ten minutes\n".to_owned(),
        false => fit(rows, screen),
    };
    if age > OLD {
        let old = format!("This is {} old: the registry does not reach etcd.", spoken(age));
        text += &format!("{}\n", screen.paint(Look::Bad, &old));
    }
    Ok(text)
}

/// The table without what it does not need: addresses where all are ids as well. Where even that is too wide, addresses
/// go to the text.
fn fit(mut rows: Vec<Row<5>>, screen: Screen) -> String {
    let is_told = rows.iter().all(|row| row.cells[1] == row.cells[2]);
    if !is_told && table::width(HEAD, &rows) <= screen.width {
        return table::fitted(HEAD, "MORE", &rows, screen);
    }
    for row in &mut rows {
        if row.cells[1] != row.cells[2] {
            row.text = format!("at {} {}", row.cells[2], row.text);
        }
    }
    let without = |row: Row<5>| {
        let ([service, instance, _, state, age], [a, b, _, d, e]) = (row.cells, row.looks);
        Row { cells: [service, instance, state, age], looks: [a, b, d, e], text: row.text }
    };
    let rows: Vec<Row<4>> = rows.into_iter().map(without).collect();
    table::fitted([HEAD[0], HEAD[1], HEAD[3], HEAD[4]], "MORE", &rows, screen)
}

fn row(service: &str, instance: &Instance, now: SystemTime) -> Row<5> {
    let state = instance.state().to_owned();
    let text = [instance.reasons().join("; "), instance.details().join(" ")];
    let text: Vec<String> = text.into_iter().filter(|part| !part.is_empty()).collect();
    Row {
        cells: [service.to_owned(), instance.name(), instance.place(), state, instance.age(now)],
        looks: [Look::Plain, Look::Plain, Look::Plain, instance.look(), Look::Plain],
        text: text.join("; "),
    }
}

fn unregistered_row(one: &Checked, now: SystemTime) -> Row<5> {
    Row {
        cells: [one.service.clone(), one.name(), one.address.clone(), one.state.clone(), one.age(now)],
        looks: [Look::Plain, Look::Plain, Look::Plain, one.look(), Look::Plain],
        text: one.why(),
    }
}

fn gone_row(service: &str, gone: &Gone, now: SystemTime) -> Row<5> {
    Row {
        cells: [service.to_owned(), gone.name(), gone.address.clone(), "gone".to_owned(), gone.ago(now)],
        looks: [Look::Dim; 5],
        text: gone.cause().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn listed(service: &str, answer: Value) -> Listed {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        Listed { now, services: [(service.to_owned(), answer)].into(), ..Listed::default() }
    }

    fn mail() -> Listed {
        let instances = json!([
            {"id":"mail-1","address":"10.0.0.5:7070","status":"degraded","reason":"the SMTP server does not answer",
             "weight":2,"zone":"z","scheme":"h2c","lease":"00000000000000ff","created_revision":3,"seen_since_ms":990_000},
            {"id":null,"address":"10.0.0.6:7070","weight":1,"status":"passing","lease":null}]);
        let gone = json!([{"id":"mail-2","address":"10.0.0.7:7070","cause":"expired","at_ms":970_000,"revision":9}]);
        listed("mail", json!({"revision":7,"age_ms":10,"service":"mail","instances":instances,"tombstones":gone}))
    }

    #[test]
    fn a_list_says_how_old_and_how_well_each_is_and_who_is_gone() {
        let expected = "\
SERVICE  INSTANCE    ADDRESS              STATE     AGE       MORE
mail     mail-1      h2c://10.0.0.5:7070  degraded  10 s      the SMTP server does not answer; weight=2 zone=z
mail     (nameless)  10.0.0.6:7070        passing
mail     mail-2      10.0.0.7:7070        gone      30 s ago  its heartbeats stopped
";
        assert_eq!(text(&mail(), Screen::sample(120, false)).unwrap(), expected);
    }

    #[test]
    fn a_list_fits_the_terminal_and_loses_nothing() {
        for width in [40, 60, 80] {
            let text = text(&mail(), Screen::sample(width, false)).unwrap();
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            for word in ["mail-1", "h2c://10.0.0.5:7070", "degraded", "SMTP", "zone=z", "gone", "stopped"] {
                assert!(text.contains(word), "{width}: {word} in\n{text}");
            }
        }
    }

    #[test]
    fn an_address_that_is_the_id_is_not_shown_twice() {
        let instances = json!([{"id":"10.0.0.5:7070","address":"10.0.0.5:7070","status":"passing"}]);
        let listed = listed("mail", json!({"age_ms":10,"instances":instances}));
        assert_eq!(
            text(&listed, Screen::sample(80, false)).unwrap(),
            "SERVICE  INSTANCE       STATE    AGE\nmail     10.0.0.5:7070  passing\n"
        );
    }

    #[test]
    fn what_the_table_has_and_is_not_registered_is_listed_with_its_reason() {
        let table = [
            json!({"service":"mysql","id":"db-1","address":"10.0.0.5:3306","state":"failing","since_ms":970_000,
             "reason":"10.0.0.5:3306 cannot be connected to","checked_by":"10.0.0.2:8500","differs":false}),
            json!({"service":"mysql","id":"db-2","address":"10.0.0.6:3306","state":"passing","checked_by":null,
             "differs":false}),
        ];
        let instances = json!([
            {"id":"db-2","address":"10.0.0.6:3306","origin":"table"},
            {"id":"db-1","address":"10.0.0.9:3306","origin":"heartbeat"}]);
        let mut listed = listed("mysql", json!({"age_ms":10,"instances":instances}));
        for one in table {
            listed.take(one).unwrap();
        }
        let json = listed.json();
        let shown = &json["services"]["mysql"]["instances"];
        assert_eq!(shown[0]["check"], json!({"state":"passing","checked_by":null,"differs":false}));
        assert_eq!(shown[1].get("check"), None, "another one, with heartbeats");
        assert_eq!(json["unregistered"][0]["state"], "failing");
        listed.services.clear();
        let text = text(&listed, Screen::sample(140, false)).unwrap();
        let row = "mysql    db-1      10.0.0.5:3306  failing  30 s  10.0.0.5:3306 cannot be connected to; in the table, checked by 10.0.0.2:8500";
        assert_eq!(text.lines().nth(1), Some(row), "{text}");
    }

    #[test]
    fn an_empty_list_and_an_old_one_are_said() {
        let screen = Screen::sample(80, false);
        let nothing = Listed { services: BTreeMap::new(), ..mail() };
        assert!(text(&nothing, screen).unwrap().starts_with("no instance is registered"));
        let old = listed("mail", json!({"age_ms":12_000,"instances":[]}));
        assert!(text(&old, screen).unwrap().contains("This is 12 s old"));
    }

    #[test]
    fn an_answer_of_something_else_is_an_error_and_not_an_empty_list() {
        assert!(text(&listed("mail", json!({"hello":"world"})), Screen::sample(80, false)).is_err());
    }
}
