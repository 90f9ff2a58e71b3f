//! A GET whose status decides. No redirect is followed, no proxy asked, and the body is left unread.
//!
//! Each has a connection of its own: a kept one may be closed by the instance in the very moment in which it is used,
//! and says less about whether the instance takes new ones.

use std::time::Duration;

use axum::{
    body::Bytes,
    http::{HeaderValue, Request, Uri, header},
};
use service_kit::{chain, client::ClientError, duration};
use tokio::time::timeout;

use super::clients::Clients;
use crate::table::check::HttpProbe;

pub(super) async fn ask(clients: &Clients, probe: &HttpProbe, limit: Duration) -> Result<(), String> {
    let uri = shown(&probe.uri);
    let client = timeout(limit, clients.http(probe.tls.as_ref())).await;
    let client = client.map_err(|_| format!("{uri} was not asked: its certificates cannot be read in time"))?;
    let client = client.map_err(|error| error.to_string())?;
    let mut request = Request::get(&probe.uri).body(Bytes::new()).map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    headers.insert(header::USER_AGENT, HeaderValue::from_static("muster-registry"));
    headers.extend(probe.headers.clone());
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    match client.send(request, limit, 0).await {
        Ok(answer) if probe.statuses.contain(answer.status) => Ok(()),
        Ok(answer) => Err(format!("{uri} answered {}, not {}", answer.status.as_u16(), probe.statuses)),
        Err(ClientError::TimedOut(_)) => Err(format!("{uri} did not answer within {}", duration::format(limit))),
        Err(error) => Err(format!("{uri}: {}", chain(&error))),
    }
}

/// Without its query, which may be a password: a reason is read by everyone.
fn shown(uri: &Uri) -> String {
    let text = uri.to_string();
    text.split_once('?').map_or(text.as_str(), |(shown, _)| shown).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_shows_no_query() {
        let shown_of = |text: &str| shown(&text.parse().unwrap());
        assert_eq!(shown_of("http://10.0.0.5:80/health?token=hunter2"), "http://10.0.0.5:80/health");
        assert_eq!(shown_of("http://10.0.0.5:80/health"), "http://10.0.0.5:80/health");
    }
}
