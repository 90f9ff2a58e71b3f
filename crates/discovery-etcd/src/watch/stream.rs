//! One watch stream on one member, with a watcher for each range, and what its responses mean.

use discovery::Revision;
use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};

use crate::{
    client::{
        failure::Failure,
        member::{ClientExt, Member},
    },
    keys::decode::{Entry, Range},
    watch::{health::ResyncCause, mirror::Event},
};

/// What one response of the stream says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StreamMessage {
    /// The watcher of this range is there.
    Created(Range),
    /// Something happened in this range.
    Events(Range, Vec<Event>),
    /// Nothing more happened up to this revision: the answer to a progress request.
    Progress(Revision),
    /// The stream is of no use any more.
    Lost(ResyncCause, String),
}

/// Opens watchers for all ranges from `revision` on.
///
/// # Errors
///
/// The member did not accept the stream. Whether it accepts the watchers, its first responses tell.
pub(crate) async fn open(member: &Member, revision: Revision) -> Result<WatchStream, Failure> {
    member
        .attempt(&|client| {
            let mut watches = client.watch();
            async move {
                let [first, others @ ..] = Range::ALL;
                let mut stream = watches.watch(first.prefix(), Some(options(first, revision))).await?;
                for other in others {
                    stream.watch(other.prefix(), Some(options(other, revision))).await?;
                }
                Ok(stream)
            }
        })
        .await
}

fn options(range: Range, revision: Revision) -> WatchOptions {
    WatchOptions::new().with_prefix().with_start_revision(revision.0).with_watch_id(range.watch_id())
}

/// Reads what a response says, given that everything was listed at revision `listed`. Returns the member's revision,
/// too.
pub(crate) fn read(response: &WatchResponse, listed: Revision) -> (Revision, StreamMessage) {
    let revision = Revision(response.header().map_or(0, |header| header.revision()));
    (revision, said(response, revision, listed))
}

fn said(response: &WatchResponse, revision: Revision, listed: Revision) -> StreamMessage {
    if response.compact_revision() > 0 {
        let text = format!("compacted up to revision {}", response.compact_revision());
        return StreamMessage::Lost(ResyncCause::Compacted, text);
    }
    if response.canceled() {
        return StreamMessage::Lost(ResyncCause::Closed, format!("etcd ended the watch: {}", response.cancel_reason()));
    }
    if revision < listed {
        // A wiped cluster, or a member that lags behind; a list will tell.
        let text = format!("the member is at revision {revision}, before the list at {listed}");
        return StreamMessage::Lost(ResyncCause::Behind, text);
    }
    match Range::of_watch(response.watch_id()) {
        Some(range) if response.created() => StreamMessage::Created(range),
        Some(range) if !response.events().is_empty() => StreamMessage::Events(range, events(response)),
        _ => StreamMessage::Progress(revision),
    }
}

fn events(response: &WatchResponse) -> Vec<Event> {
    let event = |event: &etcd_client::Event| {
        let kv = event.kv()?;
        Some(match event.event_type() {
            EventType::Put => Event::Put(Entry::from(kv)),
            EventType::Delete => Event::Delete { key: kv.key().to_vec(), modified: kv.mod_revision() },
        })
    };
    response.events().iter().filter_map(event).collect()
}
