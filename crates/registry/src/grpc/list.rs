//! `List`: what is registered at one moment.
//!
//! As a stream of parts, because clients take no message of more than 4 MiB by default, which is a service of some hundred
//! instances with much to say; and because a part is made when the one before is sent.

use std::sync::Arc;

use discovery::ServiceName;
use futures::{StreamExt as _, stream};
use muster_proto::v1::{ListReply, ListRequest};
use service_kit::{
    Problem,
    tokens::{Action, Caller},
};

use super::{
    Replies,
    entries::{Parts, by_itself, registered, service},
};
use crate::{
    catalog::Catalog,
    http::Filter,
    mirror::{Entry, ServiceView},
};

pub(super) fn list(catalog: &Catalog, request: ListRequest) -> Result<Replies<ListReply>, Problem> {
    let ListRequest { service: name, passing, zone, version, tags } = request;
    let name = if name.is_empty() { None } else { Some(service(&name)?) };
    authorize(name.as_ref())?;
    let age_ms = u64::try_from(catalog.age()?.as_millis()).unwrap_or(u64::MAX);
    let given = |text: String| (!text.is_empty()).then_some(text);
    let filter = Filter { passing, zone: given(zone), version: given(version), tags };
    let (index, views) = match &name {
        Some(name) => {
            let (index, view) = catalog.read(name);
            (index, view.into_iter().collect())
        }
        None => {
            let (_, views) = catalog.read_all();
            (catalog.revision(), views)
        }
    };
    let reply = ListReply { instances: Vec::new(), index: index.0, age_ms };
    let parts = Parts::of(entries(views).filter(move |entry| filter.matches(entry)).map(|entry| registered(&entry)));
    let mut parts = parts.peekable();
    // What is not there is told as well.
    let nothing = parts.peek().is_none().then(|| reply.clone());
    let replies = parts.map(move |instances| ListReply { instances, ..reply.clone() });
    Ok(stream::iter(nothing.into_iter().chain(replies)).then(by_itself).map(Ok).boxed())
}

/// Whether the caller may read the service; `None`: all of them.
pub(super) fn authorize(service: Option<&ServiceName>) -> Result<(), Problem> {
    let Some(caller) = Caller::current() else { return Ok(()) };
    caller.require(service.map_or("*", ServiceName::as_str), Action::Read)
}

fn entries(views: Vec<Arc<ServiceView>>) -> impl Iterator<Item = Arc<Entry>> + Send {
    views.into_iter().flat_map(|view| (0..view.instances.len()).map(move |place| Arc::clone(&view.instances[place])))
}
