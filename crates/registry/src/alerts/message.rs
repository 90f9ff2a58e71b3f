//! One message for everything that happened within the window.

use discovery::ServiceName;
use serde_json::{Value, json};

/// How many services a subject names; the text names all.
const NAMED_MAX: usize = 3;

/// What became of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Which one.
    pub service: ServiceName,
    /// Whether it has too few instances; else it has enough again.
    pub is_down: bool,
    /// How many it has.
    pub instances: usize,
    /// How many it needs.
    pub minimum: usize,
}

/// What people are told at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// At least one.
    pub news: Vec<News>,
}

// === impl News ===

impl News {
    fn status(&self) -> &'static str {
        match (self.is_down, self.instances) {
            (false, _) => "recovered",
            (true, 0) => "down",
            (true, _) => "below_minimum",
        }
    }

    fn sentence(&self) -> String {
        let Self { service, is_down, instances, minimum } = self;
        match (is_down, instances) {
            (false, _) => format!("{service} is back"),
            (true, 0) => format!("{service} is down"),
            (true, _) => format!("{service} has {instances} of {minimum} instances"),
        }
    }
}

// === impl Message ===

impl Message {
    /// What happened, in a line.
    #[must_use]
    pub fn subject(&self) -> String {
        if self.news.len() <= NAMED_MAX {
            return self.news.iter().map(News::sentence).collect::<Vec<_>>().join(", ");
        }
        let down = self.news.iter().filter(|news| news.is_down).count();
        let names: Vec<&str> = self.news.iter().take(NAMED_MAX).map(|news| news.service.as_str()).collect();
        let counts = match (down, self.news.len() - down) {
            (down, 0) => format!("{down} services are down"),
            (0, back) => format!("{back} services are back"),
            (down, back) => format!("{down} services are down, {back} are back"),
        };
        format!("{counts}: {}, …", names.join(", "))
    }

    /// What happened, a line for each service.
    #[must_use]
    pub fn text(&self) -> String {
        let lines = self.news.iter().map(|news| {
            let News { instances, minimum, .. } = news;
            format!("{} (instances: {instances}, needed: {minimum})", news.sentence())
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// For programs; `text` is what chat systems show.
    #[must_use]
    pub fn to_json(&self, sender: &str) -> Value {
        let services: Vec<Value> = self
            .news
            .iter()
            .map(|news| {
                let News { service, instances, minimum, .. } = news;
                json!({ "service": service, "status": news.status(), "instances": instances, "minimum": minimum })
            })
            .collect();
        json!({ "kind": "alert", "text": format!("{}\n{}", self.subject(), self.text()), "services": services, "sender": sender })
    }
}
