//! Log lines: an event with its fields beside each other, and the request that it belongs to.
//!
//! The request is the one that the task serves in which the event happens ([`crate::request`]): looked up when the line
//! is written, so that a request of which nothing is said costs nothing here. An event that does not belong to the
//! request in which it is noticed (`parent: None`: an instance was registered) is told without. Outside of a request the
//! innermost span is told, if there is one.
//!
//! | form | where the request is |
//! |---|---|
//! | JSON | `span`: its id, by which everything else is found, the trace, method and route |
//! | text | the same as `name=value` at the line's end |

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{self, Format, Json, Writer},
    },
    registry::LookupSpan,
};

use crate::request::{self, RequestContext};

/// A line for machines; see the [module](self).
#[derive(Debug)]
pub(crate) struct JsonLine {
    in_span: Format<Json>,
    alone: Format<Json>,
}

/// A line for persons; see the [module](self).
#[derive(Debug)]
pub(crate) struct TextLine(Format);

/// The request that an event belongs to.
fn request_of(event: &Event<'_>) -> Option<RequestContext> {
    if event.is_root() { None } else { request::current() }
}

// === impl JsonLine ===

impl Default for JsonLine {
    fn default() -> Self {
        let json = || format::format().json().flatten_event(true).with_span_list(false);
        Self { in_span: json(), alone: json().with_current_span(false) }
    }
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if let Some(request) = request_of(event) {
            let mut line = String::new();
            self.alone.format_event(context, Writer::new(&mut line), event)?;
            let open = line.trim_end().strip_suffix('}').ok_or(fmt::Error)?;
            return writeln!(writer, "{open},\"span\":{}}}", request.to_json());
        }
        // The formatter itself shows the span around an event also when the event says that it belongs to none.
        let format = if event.is_root() { &self.alone } else { &self.in_span };
        format.format_event(context, writer, event)
    }
}

// === impl TextLine ===

impl TextLine {
    /// With colours or without.
    pub(crate) fn new(is_coloured: bool) -> Self {
        Self(format::format().with_ansi(is_coloured))
    }
}

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(request) = request_of(event) else { return self.0.format_event(context, writer, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writeln!(writer, "{} {request}", line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use axum::{body::Body, extract::Request};
    use serde_json::Value;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    impl Written {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
        }
    }

    /// What is said for a request, of something else meanwhile, and outside of any request.
    async fn say() {
        let request = Request::builder().method("PUT").header("x-request-id", "abc-1").body(Body::empty()).unwrap();
        let work = async {
            tracing::info!(key = "service/mail/a", "said \"for\" it");
            tracing::info!(parent: None, "noticed in it");
            tokio::spawn(request::continuing(async { tracing::info!("said in a task of its own") })).await.unwrap();
        };
        RequestContext::of(&request).during(work).await;
        tracing::info_span!("query", request_id = "abc-2").in_scope(|| tracing::info!("in a span"));
        tracing::info!("outside");
    }

    #[tokio::test]
    async fn a_line_in_json_tells_the_request_of_its_task() {
        let written = Written::default();
        let builder = tracing_subscriber::fmt().json().event_format(JsonLine::default());
        let logging = tracing::subscriber::set_default(builder.with_writer(written.clone()).finish());
        say().await;
        drop(logging);
        let lines: Vec<Value> = written.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [for_it, noticed, spawned, in_span, outside] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!((&for_it["message"], &for_it["key"]), (&"said \"for\" it".into(), &"service/mail/a".into()));
        for line in [for_it, spawned] {
            let span = &line["span"];
            assert_eq!((&span["name"], &span["request_id"]), (&"request".into(), &"abc-1".into()));
            assert_eq!((&span["method"], &span["route"]), (&"PUT".into(), &"unmatched".into()));
            assert_eq!(span["trace_id"].as_str().unwrap().len(), 32);
        }
        assert_eq!(in_span["span"]["request_id"], "abc-2");
        assert!(noticed.get("span").is_none() && outside.get("span").is_none(), "{lines:?}");
    }

    #[tokio::test]
    async fn a_line_of_text_ends_with_the_request_of_its_task() {
        let written = Written::default();
        let builder = tracing_subscriber::fmt().with_ansi(false).event_format(TextLine::new(false));
        let logging = tracing::subscriber::set_default(builder.with_writer(written.clone()).finish());
        say().await;
        drop(logging);
        let lines = written.lines();
        let [for_it, noticed, spawned, in_span, outside] = &lines[..] else { panic!("{lines:?}") };
        assert!(for_it.contains("said \"for\" it") && spawned.contains("said in a task of its own"), "{lines:?}");
        for line in [for_it, spawned] {
            assert!(line.contains(" request_id=abc-1 trace_id=") && line.ends_with(" method=PUT route=unmatched"));
        }
        assert!(in_span.contains("query{request_id=\"abc-2\"}"), "{in_span}");
        assert!(!noticed.contains("request_id") && !outside.contains("request_id"), "{lines:?}");
    }
}
