//! One message for everything that happened within the window.

use std::time::Duration;

use discovery::ServiceName;
use serde_json::{Value, json};
use service_kit::duration;

use super::{cases::Case, level::Level};

/// How many services a subject names, and get all their instances told; the text names all services.
const NAMED_MAX: usize = 3;
/// How many instances of one service a text names.
const CASES_MAX: usize = 5;

/// What became of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Which one.
    pub service: ServiceName,
    /// How it is.
    pub level: Level,
    /// How people believed that it is.
    pub was: Level,
    /// How many instances take requests.
    pub instances: usize,
    /// How many it needs.
    pub minimum: usize,
    /// The instances that are not well, if it is not.
    pub cases: Vec<Case>,
}

/// Whether etcd can be read by the replica that sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// It cannot; else it can again.
    pub is_lost: bool,
    /// For how long it could not.
    pub lasted: Duration,
}

/// What people are told at once: at least one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What became of services.
    pub news: Vec<News>,
    /// What became of etcd.
    pub sight: Option<Sight>,
}

/// Where a person finds more about a service; see [`AlertOptions::alert_link`](super::AlertOptions::alert_link).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links(Option<String>);

// === impl News ===

impl News {
    fn status(&self) -> &'static str {
        match self.level {
            Level::Enough => "recovered",
            Level::Degraded => "degraded",
            Level::BelowMinimum => "below_minimum",
            Level::Down => "down",
        }
    }

    fn sentence(&self) -> String {
        let Self { service, level, was, instances, minimum, .. } = self;
        match level {
            Level::Enough if *was == Level::Degraded => format!("{service} is no longer degraded"),
            Level::Enough => format!("{service} is back"),
            Level::Degraded => format!("{service} is degraded"),
            Level::BelowMinimum => format!("{service} has {instances} of {minimum} instances"),
            Level::Down => format!("{service} is down"),
        }
    }

    /// The sentence with the numbers that are not in it, the instances, and the link.
    fn paragraph(&self, cases_max: usize, links: &Links) -> String {
        let mut text = self.sentence();
        if self.level != Level::BelowMinimum {
            text += &format!(" (instances: {}, needed: {})", self.instances, self.minimum);
        }
        for case in self.cases.iter().take(cases_max) {
            text += &format!("\n- {}", case.sentence());
        }
        if let Some(more @ 1..) = self.cases.len().checked_sub(cases_max) {
            text += &format!("\n- and {more} more");
        }
        if let Some(link) = links.to(&self.service) {
            text += &format!("\n{link}");
        }
        text
    }

    fn to_json(&self, links: &Links) -> Value {
        let Self { service, instances, minimum, .. } = self;
        let mut json =
            json!({ "service": service, "status": self.status(), "instances": instances, "minimum": minimum });
        if !self.cases.is_empty() {
            json["not_well"] = self.cases.iter().map(Case::to_json).collect();
        }
        if let Some(link) = links.to(service) {
            json["link"] = json!(link);
        }
        json
    }
}

// === impl Sight ===

impl Sight {
    fn sentence(self) -> String {
        match self {
            Self { is_lost: true, .. } => "etcd cannot be read".to_owned(),
            Self { is_lost: false, lasted } => {
                let lasted = duration::format(Duration::from_secs(lasted.as_secs()));
                format!("etcd can be read again after {lasted}")
            }
        }
    }

    fn paragraph(self) -> String {
        let what_follows = if self.is_lost {
            ": what becomes of the services is unknown until it can. Gateways go on with what they know; nothing new \
             can register"
        } else {
            ""
        };
        format!("{}{what_follows}", self.sentence())
    }
}

// === impl Message ===

impl Message {
    /// What became of services.
    #[must_use]
    pub fn of(news: Vec<News>) -> Self {
        Self { news, sight: None }
    }

    /// What became of etcd.
    #[must_use]
    pub fn of_etcd(sight: Sight) -> Self {
        Self { news: Vec::new(), sight: Some(sight) }
    }

    /// What happened, in a line.
    #[must_use]
    pub fn subject(&self) -> String {
        if self.news.len() <= NAMED_MAX {
            let etcd = self.sight.map(Sight::sentence);
            return etcd.into_iter().chain(self.news.iter().map(News::sentence)).collect::<Vec<_>>().join(", ");
        }
        let troubled = self.news.iter().filter(|news| news.level > Level::Enough).count();
        let names: Vec<&str> = self.news.iter().take(NAMED_MAX).map(|news| news.service.as_str()).collect();
        let counts = match (troubled, self.news.len() - troubled) {
            (troubled, 0) => format!("{troubled} services are in trouble"),
            (0, back) => format!("{back} services are back"),
            (troubled, back) => format!("{troubled} services are in trouble, {back} are back"),
        };
        format!("{counts}: {}, …", names.join(", "))
    }

    /// What happened, a paragraph for each service.
    #[must_use]
    pub fn text(&self, links: &Links) -> String {
        let cases_max = if self.news.len() <= NAMED_MAX { CASES_MAX } else { 1 };
        let etcd = self.sight.map(Sight::paragraph);
        let services = self.news.iter().map(|news| news.paragraph(cases_max, links));
        etcd.into_iter().chain(services).collect::<Vec<_>>().join("\n")
    }

    /// For programs; `text` is what chat systems show. It has the subject only where that sums up.
    #[must_use]
    pub fn to_json(&self, sender: &str, links: &Links) -> Value {
        let services: Vec<Value> = self.news.iter().map(|news| news.to_json(links)).collect();
        let text = self.text(links);
        let text = if self.news.len() <= NAMED_MAX { text } else { format!("{}\n{text}", self.subject()) };
        let mut json = json!({ "kind": "alert", "text": text, "services": services, "sender": sender });
        if let Some(Sight { is_lost, lasted }) = self.sight {
            let status = if is_lost { "unreadable" } else { "readable" };
            json["etcd"] = json!({ "status": status, "unreadable_for_s": lasted.as_secs() });
        }
        json
    }
}

// === impl Links ===

impl Links {
    /// By the `base` of a gateway's admin side, or a URL in which `{service}` stands for the name.
    #[must_use]
    pub fn new(base: Option<String>) -> Self {
        Self(base)
    }

    fn to(&self, service: &ServiceName) -> Option<String> {
        let base = self.0.as_ref()?;
        if base.contains(SERVICE) {
            return Some(base.replace(SERVICE, service));
        }
        Some(format!("{}/explain?service={service}", base.trim_end_matches('/')))
    }
}

const SERVICE: &str = "{service}";

#[cfg(test)]
mod tests {
    use discovery::Status;

    use super::*;
    use crate::alerts::cases;

    fn news(level: Level, instances: usize) -> News {
        let cases = vec![cases::sample("mail-1", "10.0.0.5:7070", Status::Critical, "the database is gone")];
        let service = "mail".parse().unwrap();
        News { service, level, was: Level::Enough, instances, minimum: 2, cases }
    }

    #[test]
    fn a_text_says_each_thing_once() {
        let message = Message::of(vec![news(Level::BelowMinimum, 1)]);
        let links = Links::new(Some("https://gateway.example:8081/".to_owned()));
        let expected = "mail has 1 of 2 instances\n- mail-1 at 10.0.0.5:7070 is critical: the database is gone\n\
                        https://gateway.example:8081/explain?service=mail";
        assert_eq!(message.text(&links), expected);
        let json = message.to_json("registry-1", &links);
        assert_eq!(json["text"], expected, "and the subject is not before it");
        assert_eq!(json["services"][0]["link"], "https://gateway.example:8081/explain?service=mail");
        let case = &json["services"][0]["not_well"][0];
        assert_eq!((&case["cause"], &case["reason"]), (&json!("critical"), &json!("the database is gone")));
        let page = Links::new(Some("https://status.example/{service}".to_owned()));
        assert!(message.text(&page).ends_with("\nhttps://status.example/mail"));
    }

    #[test]
    fn many_services_are_summed_up_and_each_has_one_instance() {
        let case = cases::sample("mail-1", "10.0.0.5:7070", Status::Critical, "");
        let one = News { cases: vec![case; 3], ..news(Level::Down, 0) };
        let many = vec![one; 5];
        let json = Message::of(many).to_json("registry-1", &Links::default());
        let text = json["text"].as_str().unwrap();
        assert!(text.starts_with("5 services are in trouble: mail, mail, mail, …\nmail is down"), "{text}");
        assert_eq!(text.matches("- and 2 more").count(), 5, "{text}");
    }

    #[test]
    fn the_loss_of_etcd_and_its_return_are_told_with_what_follows() {
        let lost = Message::of_etcd(Sight { is_lost: true, lasted: Duration::ZERO });
        assert_eq!(lost.subject(), "etcd cannot be read");
        assert!(lost.text(&Links::default()).contains("nothing new can register"));
        let back = Message::of_etcd(Sight { is_lost: false, lasted: Duration::from_millis(90_400) });
        assert_eq!(back.subject(), "etcd can be read again after 1m 30s");
        assert_eq!(back.to_json("a", &Links::default())["etcd"]["status"], "readable");
    }
}
