//! Reads the key sets of all policies: one task for the whole gateway, beside the requests.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use http::{Request, StatusCode, header};
use service_kit::{
    chain,
    client::{ClientTls, HttpClient},
    regular_file,
};
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::{
    access::jwt::key_set::{KeySet, SET_MAX_BYTES, Source},
    clock::Moment,
};

/// How often it looks for a set that is due.
const ROUND: Duration = Duration::from_millis(100);
/// How long an issuer may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// See the [module](self). `all` are the sets of the policies that are in force, `now` is the clock.
pub(crate) async fn run(all: impl Fn() -> Vec<Arc<KeySet>>, now: fn() -> Moment, shutdown: CancellationToken) {
    let client = match HttpClient::checked(&ClientTls::default(), check) {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!(target: "balance::access", error = %chain(&error), "issuers are asked without TLS only");
            HttpClient::plain()
        }
    };
    let mut rounds = tokio::time::interval(ROUND);
    let mut under_way: Vec<(Arc<KeySet>, tokio::task::AbortHandle)> = Vec::new();
    let mut tasks = JoinSet::new();
    while shutdown.run_until_cancelled(rounds.tick()).await.is_some() {
        while tasks.try_join_next().is_some() {}
        under_way.retain(|(_, task)| !task.is_finished());
        let is_idle = |set: &Arc<KeySet>| !under_way.iter().any(|(other, _)| Arc::ptr_eq(set, other));
        let moment = now();
        let due: Vec<_> = all().into_iter().filter(|set| is_idle(set) && set.is_due(moment)).collect();
        for set in due {
            let client = client.clone();
            let task = tasks.spawn({
                let set = Arc::clone(&set);
                async move { set.take(read(&client, &set.source).await, now()) }
            });
            under_way.push((set, task));
        }
    }
}

/// Addresses that nothing is ever sent to, whatever a policy says (`discovery::forbidden`).
fn check(address: std::net::IpAddr) -> Result<(), &'static str> {
    discovery::ForbiddenIp::check(address).map_err(discovery::ForbiddenIp::reason)
}

async fn read(client: &HttpClient, source: &Source) -> Result<Vec<u8>, String> {
    let url = match source {
        Source::Url(url) => url,
        // The path comes from the writer of a policy.
        Source::File(path) => {
            let path = PathBuf::from(path);
            let read = spawn_blocking(move || regular_file::read(&path, SET_MAX_BYTES as u64)).await;
            let bytes = read.map_err(io::Error::other).flatten().map_err(|error| error.to_string())?;
            return bytes.ok_or_else(|| format!("it is larger than {SET_MAX_BYTES} bytes"));
        }
    };
    let request = Request::get(url).header(header::ACCEPT, "application/jwk-set+json, application/json");
    let request = request.body(Default::default()).map_err(|error| error.to_string())?;
    let answer = client.send(request, DEADLINE, SET_MAX_BYTES + 1).await.map_err(|error| chain(&error).to_string())?;
    match answer.status {
        StatusCode::OK if answer.body.len() <= SET_MAX_BYTES => Ok(answer.body.to_vec()),
        StatusCode::OK => Err(format!("it is larger than {SET_MAX_BYTES} bytes")),
        status => Err(format!("the issuer answers {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_no_end_is_not_read_and_a_file_is_no_further_than_a_set_may_be() {
        let client = HttpClient::plain();
        let read = async |path: &str| read(&client, &Source::File(path.to_owned())).await;
        for path in ["/dev/zero", "/", "/does/not/exist"] {
            assert!(read(path).await.is_err(), "{path}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        for (bytes, is_read) in [(SET_MAX_BYTES, true), (SET_MAX_BYTES + 1, false)] {
            std::fs::write(file.path(), vec![b' '; bytes]).unwrap();
            assert_eq!(read(file.path().to_str().unwrap()).await.is_ok(), is_read, "{bytes}");
        }
    }
}
