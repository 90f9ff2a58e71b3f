//! A reader of server-sent events, as far as these tests need it.

use serde_json::Value;
use testkit::wait::SOON;

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct StreamEvent {
    pub(crate) name: String,
    /// Empty when it has none.
    pub(crate) id: String,
    pub(crate) data: Value,
}

/// What comes in.
pub(crate) struct EventStream {
    response: reqwest::Response,
    unread: String,
}

impl EventStream {
    #[track_caller]
    pub(crate) fn new(response: reqwest::Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, unread: String::new() }
    }

    /// The next event, which has this name.
    pub(crate) async fn next(&mut self, name: &str) -> StreamEvent {
        let event = self.any().await;
        assert_eq!(event.name, name, "{event:?}");
        event
    }

    /// The next event that is not a comment.
    pub(crate) async fn any(&mut self) -> StreamEvent {
        loop {
            while let Some((block, rest)) = self.unread.split_once("\n\n") {
                let block = block.to_owned();
                let rest = rest.to_owned();
                self.unread = rest;
                if let Some(event) = parse(&block) {
                    return event;
                }
            }
            assert!(self.read().await, "the stream ended");
        }
    }

    /// Whether the stream ends soon.
    pub(crate) async fn ended(&mut self) -> bool {
        while self.read().await {}
        true
    }

    async fn read(&mut self) -> bool {
        let chunk = tokio::time::timeout(SOON, self.response.chunk()).await.expect("something comes").unwrap();
        chunk.as_ref().inspect(|chunk| self.unread += std::str::from_utf8(chunk).unwrap()).is_some()
    }
}

fn parse(block: &str) -> Option<StreamEvent> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = serde_json::from_str(field("data")?).unwrap();
    let text = |name| field(name).unwrap_or_default().to_owned();
    Some(StreamEvent { name: text("event"), id: text("id"), data })
}
