//! What a table says: instances and how each is checked.
//!
//! ```json
//! {"instances": [
//!   {"service": "mysql", "id": "db-1", "address": "10.0.0.5:3306", "zone": "a",
//!    "checks": [{"type": "tcp", "interval": "2s", "timeout": "1s", "rise": 2, "fall": 3}]}
//! ]}
//! ```
//!
//! The fields of an instance are those of a heartbeat, within the same bounds, but for its status, which its checks
//! settle. All mistakes of a file are reported at once.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use discovery::{Instance, InstanceId, InstanceKey, Origin, ServiceName, Ttl, heartbeat::FullHeartbeat};
use ring::digest;
use serde_json::Value;

use super::{
    check::Check,
    fields::Fields,
    mistake::{Mistake, unquoted},
    source::{Format, Item},
};

/// Most instances of a table: each has a place in what every registry says of itself in etcd.
pub const INSTANCES_MAX: usize = 500;
/// Most checks of one instance.
const CHECKS_MAX: usize = 8;

/// How long an instance stays registered when no registry is left that checks it: 10 s to 1 h, by default 15 s. The
/// registry that takes its checks over from a dead one needs up to 5 s of it.
const TTL_MS: u64 = 15_000;
const TTL_MIN_MS: u64 = 10_000;

const FIELDS: &str = "service, id, address, scheme, weight, zone, version, health, tags, meta, ttl_ms and checks";

/// Everything that one file says.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) entries: BTreeMap<InstanceKey, Arc<Entry>>,
}

/// One instance of a table.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: InstanceKey,
    /// As it is registered while it passes.
    pub(super) instance: Instance,
    pub(super) ttl: Ttl,
    pub(super) checks: Vec<Check>,
    /// Differs between entries that say something different.
    pub(super) digest: String,
}

// === impl Table ===

impl Table {
    /// Reads the text of the file `path`, whose name says how it is written.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, Vec<Mistake>> {
        let items = Format::of(path).read(text).map_err(|mistake| vec![mistake])?;
        let mut mistakes = Vec::new();
        if items.len() > INSTANCES_MAX {
            let reason = format!("it has {} instances; {INSTANCES_MAX} are allowed", items.len());
            return Err(vec![Mistake::of_file(reason)]);
        }
        let mut entries = BTreeMap::new();
        let mut lines = BTreeMap::new();
        for (place, item) in items.into_iter().enumerate() {
            let line = item.line;
            let path = format!("instances[{place}]");
            let Some(entry) = Entry::read(item, path.clone(), &mut mistakes) else { continue };
            let key = entry.key.clone();
            if let Some(first) = lines.insert(key.clone(), line) {
                let reason = format!("{key} is the instance of line {first}, too; give each its own id");
                mistakes.push(Mistake { line: Some(line), path, reason });
            }
            entries.insert(key, Arc::new(entry));
        }
        if mistakes.is_empty() { Ok(Self { entries }) } else { Err(mistakes) }
    }
}

// === impl Entry ===

impl Entry {
    /// `None` when it has a mistake without which nothing more can be said.
    fn read(item: Item, path: String, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let Item { line, value } = item;
        let digest = digest_of(&value);
        let mut fields = Fields::of(value, path, line, mistakes)?;
        let service = fields.need::<ServiceName>("service");
        let id = fields.take::<InstanceId>("id");
        let checks = fields.take::<Vec<Value>>("checks").unwrap_or_default();
        let parts = announced(&mut fields);
        let checks = parts.as_ref().map(|(instance, _)| read_checks(&mut fields, checks, instance));
        fields.end(FIELDS);
        let (instance, ttl) = parts?;
        let id = match id {
            Some(id) => id,
            None => instance.address.instance_id().ok()?,
        };
        let key = InstanceKey::new(service?, id.in_one_spelling());
        Some(Self { key, instance, ttl, checks: checks?, digest })
    }
}

/// What a heartbeat would say.
fn announced(fields: &mut Fields<'_>) -> Option<(Instance, Ttl)> {
    let address = fields.need("address");
    let ttl_ms = fields.take::<u64>("ttl_ms").unwrap_or(TTL_MS);
    if ttl_ms < TTL_MIN_MS {
        let why = "a shorter one could end while another registry takes the checks over";
        fields.blame("ttl_ms", format!("{ttl_ms} is out of range; give {TTL_MIN_MS} (10 s) to 3600000 (1 h): {why}"));
    }
    let said = FullHeartbeat {
        scheme: fields.take("scheme"),
        weight: fields.take("weight"),
        zone: fields.take("zone"),
        version: fields.take("version"),
        health: fields.take("health"),
        status: None,
        reason: None,
        tags: fields.take("tags"),
        meta: fields.take("meta"),
        ttl_ms: Some(ttl_ms),
        incarnation: None,
        address: address?,
    };
    let parts = said.into_parts().and_then(|(mut instance, ttl)| {
        instance.meta.insert(Origin::REGISTERED_BY.to_owned(), Origin::BY_TABLE.to_owned());
        instance.check().map(|()| (instance, ttl))
    });
    parts.map_err(|error| fields.blame(&error.field, unquoted(&error.reason))).ok()
}

fn read_checks(fields: &mut Fields<'_>, checks: Vec<Value>, instance: &Instance) -> Vec<Check> {
    if checks.len() > CHECKS_MAX {
        fields.blame("checks", format!("has {} checks; {CHECKS_MAX} are allowed", checks.len()));
        return Vec::new();
    }
    let mut read = Vec::new();
    for (place, check) in checks.into_iter().enumerate() {
        let path = fields.path_of(&format!("checks[{place}]"));
        let line = fields.line();
        let check = Fields::of(check, path, line, fields.mistakes()).and_then(|check| Check::read(check, instance));
        read.extend(check);
    }
    read
}

/// The first 64 bits of the SHA-256 of its JSON, whose names are sorted.
fn digest_of(value: &Value) -> String {
    let digest = digest::digest(&digest::SHA256, value.to_string().as_bytes());
    digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(text: &str) -> Result<Table, Vec<Mistake>> {
        Table::parse(Path::new("services.json"), text)
    }

    fn mistakes(text: &str) -> Vec<String> {
        parse(text).unwrap_err().iter().map(Mistake::to_string).collect()
    }

    #[test]
    fn an_instance_has_the_fields_of_a_heartbeat_and_says_that_a_table_registers_it() {
        let table = parse(
            r#"{"instances":[{"service":"mysql","id":"db-1","address":"10.0.0.5:3306","zone":"a","weight":2,
            "meta":{"owner":"ops"},"checks":[{"type":"tcp","interval":"5s","fall":1}]},
            {"service":"web","address":"10.0.0.6:80"}]}"#,
        );
        let entries = table.unwrap().entries;
        let [db, web] = ["mysql/db-1", "web/10.0.0.6:80"]
            .map(|key| Arc::clone(&entries[&format!("service/{key}").parse::<InstanceKey>().unwrap()]));
        let value = "http://10.0.0.5:3306?weight=2&zone=a&meta.owner=ops&meta.registered-by=table";
        assert_eq!(db.instance, value.parse().unwrap());
        assert_eq!((db.checks[0].interval, db.checks[0].fall.get()), (Duration::from_secs(5), 1));
        assert_eq!((db.checks[0].timeout, db.checks[0].rise.get()), (Duration::from_secs(1), 2));
        assert_eq!((db.ttl.as_millis(), web.checks.len()), (15_000, 0));
        assert_ne!(db.digest, web.digest);
    }

    #[test]
    fn toml_says_the_same() {
        let json = r#"{"instances":[{"service":"web","address":"a:80","checks":[{"type":"http","status":200}]}]}"#;
        let toml =
            "[[instances]]\nservice = 'web'\naddress = 'a:80'\n[[instances.checks]]\ntype = 'http'\nstatus = 200";
        let digest = |table: Table| table.entries.values().map(|entry| entry.digest.clone()).collect::<Vec<_>>();
        let toml = Table::parse(Path::new("services.TOML"), toml).unwrap();
        assert_eq!(digest(toml), digest(parse(json).unwrap()), "registries with either of them agree");
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_its_line_and_path() {
        let text = r#"{"instances": [
            {"service": "MySQL", "address": "0.0.0.0:1", "wieght": 2},
            {"address": "a:1", "ttl_ms": 5000, "checks": [{"type": "ping"}, {"interval": "2", "type": "tcp", "rise": 0}]},
            {"service": "web", "address": "a:1", "checks": [{"type": "http", "status": "2xx", "headers": {"b c": "d"}}]},
            7,
            {"service": "web", "address": "a:2", "checks": [{"type": "command", "command": ["true"]}]},
            {"service": "web", "address": "A:2", "scheme": "h2c", "checks": [{"type": "grpc", "ca": "ca.pem"}]}
        ]}"#;
        let found = mistakes(text);
        for expected in [
            "line 2: instances[0].service: ",
            "line 2: instances[0].address: ",
            "line 2: instances[0].wieght: is not known",
            "line 3: instances[1].service: is missing",
            "line 3: instances[1].ttl_ms: 5000 is out of range",
            "line 3: instances[1].checks[0].type: is no type of check",
            "line 3: instances[1].checks[1].interval: a unit is missing",
            "line 3: instances[1].checks[1].rise: ",
            "line 4: instances[2].checks[0].status: is no list of statuses",
            "line 4: instances[2].checks[0].headers.b c: is no name",
            "line 5: instances[3]: is not an object",
            "line 6: instances[4].checks[0].command: needs the absolute path",
            "line 7: instances[5].checks[0].ca: needs an absolute path",
            "line 7: instances[5].checks[0].ca: is for an instance whose scheme is https",
            "line 7: instances[5]: service/web/a:2 is the instance of line 6, too",
        ] {
            assert!(found.iter().any(|one| one.starts_with(expected)), "{expected} in\n{}", found.join("\n"));
        }
        assert_eq!(found.len(), 15, "{}", found.join("\n"));
    }

    #[test]
    fn what_a_heartbeat_may_say_of_its_state_a_table_may_not() {
        for field in ["status", "reason", "incarnation"] {
            let found = mistakes(&format!(r#"{{"instances":[{{"service":"a","address":"a:1","{field}":"x"}}]}}"#));
            assert!(found[0].contains("is not known here"), "{found:?}");
        }
        let many = vec![r#"{"service":"a","address":"a:1"}"#; INSTANCES_MAX + 1].join(",");
        assert!(mistakes(&format!(r#"{{"instances":[{many}]}}"#))[0].contains("500 are allowed"));
    }
}
