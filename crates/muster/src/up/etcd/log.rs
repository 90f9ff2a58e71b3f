//! etcd's JSON log lines as the services' text: `2026-11-21T10:15:16.911Z  WARN etcd: took too long took="1.2s"`.

use serde_json::{Map, Value};

/// What etcd 3.4 says at `warn` whenever all is well.
const OF_NO_INTEREST: [&str; 3] = [
    "simple token is not cryptographically signed",
    "established TCP streaming connection with remote peer",
    "stopped TCP streaming connection with remote peer",
];

/// A line as a person reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    /// Whether it is worth less than an error: while members come and go, each complains about the others.
    pub(crate) is_aside: bool,
}

/// The line as a person reads it; `None` for what says nothing. A line that is not of etcd's form stays as it is.
pub(crate) fn readable(line: &str) -> Option<Line> {
    // The gRPC inside etcd logs for itself: `WARNING: 2026/11/21 11:11:50 [core] grpc: …`.
    let is_grpc_warning = line.starts_with("WARNING: ") || line.starts_with("INFO: ");
    let as_it_is = Line { text: line.to_owned(), is_aside: is_grpc_warning };
    let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(line) else { return Some(as_it_is) };
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let (Some(level), Some(message)) = (text("level"), text("msg")) else { return Some(as_it_is) };
    if OF_NO_INTEREST.contains(&message) {
        return None;
    }
    let is_aside = matches!(level, "debug" | "info" | "warn");
    let level = level.to_ascii_uppercase();
    let time = text("ts").unwrap_or_default();
    Some(Line { text: format!("{time} {level:>5} etcd: {message}{}", rest(&fields)), is_aside })
}

fn rest(fields: &Map<String, Value>) -> String {
    let is_shown = |name: &str| !matches!(name, "level" | "ts" | "caller" | "msg" | "stacktrace");
    fields.iter().filter(|(name, _)| is_shown(name)).map(|(name, value)| format!(" {name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_becomes_the_services_text() {
        let line = r#"{"level":"warn","ts":"2026-11-21T10:15:16.911Z","caller":"a.go:1","msg":"took too long","took":"1.2s","n":3}"#;
        let Line { text, is_aside } = readable(line).unwrap();
        assert!(text.starts_with("2026-11-21T10:15:16.911Z  WARN etcd: took too long "), "{text}");
        assert!(text.contains("took=\"1.2s\"") && text.contains("n=3") && !text.contains("a.go"), "{text}");
        assert!(is_aside);
        assert!(!readable(r#"{"level":"fatal","msg":"no space left"}"#).unwrap().is_aside);
    }

    #[test]
    fn what_is_said_whenever_all_is_well_is_left_out_and_the_unknown_is_kept() {
        assert_eq!(readable(r#"{"level":"warn","msg":"simple token is not cryptographically signed"}"#), None);
        for line in ["panic: runtime error", "{\"level\":1}", "[]", ""] {
            assert_eq!(readable(line), Some(Line { text: line.to_owned(), is_aside: false }));
        }
        assert!(
            readable("WARNING: 2026/11/21 11:11:50 [core] grpc: addrConn.createTransport failed").unwrap().is_aside
        );
    }
}
