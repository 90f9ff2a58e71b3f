//! A log line as JSON: an event with its fields beside each other, and the request that it belongs to.
//!
//! Only the innermost span is told, once: it has the request's id, by which everything else is found. An event that
//! does not belong to the request in which it is noticed (`parent: None`: an instance was registered) is told without.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{self, Format, Json, Writer},
    },
    registry::LookupSpan,
};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct JsonLine {
    of_request: Format<Json>,
    alone: Format<Json>,
}

impl Default for JsonLine {
    fn default() -> Self {
        let json = || format::format().json().flatten_event(true).with_span_list(false);
        Self { of_request: json(), alone: json().with_current_span(false) }
    }
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // The formatter itself shows the span around an event also when the event says that it belongs to none.
        let format = if event.is_root() { &self.alone } else { &self.of_request };
        format.format_event(context, writer, event)
    }
}
