//! `muster ls`: services and their instances, as a registry knows them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{cli::LsOptions, registries::Registries, table};

/// A registry that has not heard of etcd for longer than this shows what was, not what is.
const OLD: Duration = Duration::from_secs(3);

/// `GET /v1/services`, of which only the names matter here.
#[derive(Debug, Deserialize)]
struct Services {
    services: Vec<Service>,
}

#[derive(Debug, Deserialize)]
struct Service {
    name: String,
}

/// `GET /v1/services/{service}/instances`; fields that this program does not know are left alone.
#[derive(Debug, Deserialize)]
struct Instances {
    #[serde(default)]
    age_ms: u64,
    instances: Vec<Instance>,
}

#[derive(Debug, Deserialize)]
struct Instance {
    id: Option<String>,
    address: String,
    scheme: Option<String>,
    status: Option<String>,
    reason: Option<String>,
    #[serde(rename = "override")]
    overridden: Option<String>,
    weight: Option<u32>,
    zone: Option<String>,
    version: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    meta: BTreeMap<String, String>,
    lease: Option<String>,
}

/// Prints the list.
#[expect(clippy::print_stdout, reason = "the list is what was asked for")]
pub(crate) async fn run(options: &LsOptions) -> anyhow::Result<()> {
    let registries = options.registries.client()?;
    let names = match &options.service {
        Some(service) => vec![service.to_string()],
        None => services(&registries).await?,
    };
    let mut answers = BTreeMap::new();
    for name in names {
        let answer = registries.ask(&Method::GET, &["v1", "services", &name, "instances"], None).await?;
        answers.insert(name, answer);
    }
    if options.json {
        println!("{:#}", json!({ "services": answers }));
        return Ok(());
    }
    print!("{}", text(&answers)?);
    Ok(())
}

async fn services(registries: &Registries) -> anyhow::Result<Vec<String>> {
    let answer = registries.ask(&Method::GET, &["v1", "services"], None).await?;
    let Services { services } =
        serde_json::from_value(answer).context("the registry's list of services makes no sense")?;
    Ok(services.into_iter().map(|service| service.name).collect())
}

/// The table, and a word about it when it is empty or old.
fn text(answers: &BTreeMap<String, Value>) -> anyhow::Result<String> {
    let mut rows = Vec::new();
    let mut age = Duration::ZERO;
    for (service, answer) in answers {
        let list = Instances::deserialize(answer)
            .with_context(|| format!("the registry's list of the instances of {service} makes no sense"))?;
        age = age.max(Duration::from_millis(list.age_ms));
        rows.extend(list.instances.iter().map(|instance| row(service, instance)));
    }
    let mut text = if rows.is_empty() {
        "nobody is registered\n".to_owned()
    } else {
        table::layout(["SERVICE", "INSTANCE", "ADDRESS", "STATUS", "LEASE", "MORE"], &rows)
    };
    if age > OLD {
        text += &format!("This is {} s old: the registry does not reach etcd.\n", age.as_secs());
    }
    Ok(text)
}

fn row(service: &str, instance: &Instance) -> [String; 6] {
    let address = match instance.scheme.as_deref() {
        None | Some("http") => instance.address.clone(),
        Some(scheme) => format!("{scheme}://{}", instance.address),
    };
    let status = instance.status.as_deref().unwrap_or("passing");
    let by = if instance.overridden.is_some() { " (by an operator)" } else { "" };
    let weight = instance.weight.filter(|weight| *weight != 1).map(|weight| format!("weight={weight}"));
    let more = weight
        .into_iter()
        .chain(instance.zone.iter().map(|zone| format!("zone={zone}")))
        .chain(instance.version.iter().map(|version| format!("version={version}")))
        .chain(instance.tags.iter().map(|tag| format!("tag={tag}")))
        .chain(instance.meta.iter().map(|(key, value)| format!("{key}={value}")))
        .chain(instance.reason.iter().map(|reason| format!("({reason})")));
    [
        service.to_owned(),
        instance.id.clone().unwrap_or_else(|| "(nameless)".to_owned()),
        address,
        format!("{status}{by}"),
        instance.lease.clone().unwrap_or_else(|| "none".to_owned()),
        more.collect::<Vec<_>>().join(" "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_table_with_what_is_worth_knowing() {
        let mail = json!({"revision":7,"age_ms":10,"service":"mail","instances":[
            {"id":"a","address":"10.0.0.5:7070","status":"draining","override":"draining","reported_status":"passing",
             "weight":2,"zone":"z","reason":"an update","scheme":"h2c","lease":"00000000000000ff","created_revision":3},
            {"id":null,"address":"10.0.0.6:7070","weight":1,"status":"passing","lease":null}]});
        let text = text(&[("mail".to_owned(), mail)].into()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        let words: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(words[..4], ["mail", "a", "h2c://10.0.0.5:7070", "draining"]);
        assert!(lines[1].ends_with("(by an operator)  00000000000000ff  weight=2 zone=z (an update)"), "{text}");
        assert!(lines[2].contains("(nameless)") && lines[2].ends_with("none"), "{text}");
    }

    #[test]
    fn an_empty_list_and_an_old_one_are_said() {
        assert_eq!(text(&BTreeMap::new()).unwrap(), "nobody is registered\n");
        let old = json!({"age_ms":12_000,"instances":[]});
        assert!(text(&[("mail".to_owned(), old)].into()).unwrap().contains("This is 12 s old"));
    }

    #[test]
    fn an_answer_of_somebody_else_is_an_error_and_not_an_empty_list() {
        assert!(text(&[("mail".to_owned(), json!({"hello":"world"}))].into()).is_err());
    }
}
