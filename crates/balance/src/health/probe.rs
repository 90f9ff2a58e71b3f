//! Asking an instance whether it is there, and whether it is well.
//!
//! | question | a good answer |
//! |---|---|
//! | [`Question::Connect`] | it accepts a connection. A frozen process does, too: the kernel accepts for it |
//! | [`Question::Get`] | 2xx or 3xx to `GET path` |
//! | [`Question::Ping`] | any response at all to `OPTIONS *`, which RFC 9110, section 9.3.7, calls a "ping": the process is awake |
//!
//! Each on a connection of its own, at no address that is forbidden, within a limit for the whole.

use std::{fmt, io, time::Duration};

use axum::body::Bytes;
use discovery::{Address, HealthPath};
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::{
    addresses::AddressPolicy,
    instance::candidate::Candidate,
    upstream::{connect_error::ConnectError, dial},
};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    Connect,
    Get(HealthPath),
    Ping,
}

/// What comes back. `Display` is for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProbeResult {
    /// It is there, and well as far as was asked.
    Good,
    /// It says that it is unwell.
    Bad(StatusCode),
    /// It broke off, or spoke nonsense.
    Nonsense,
    /// No process listens there.
    Refused,
    /// It could not be reached, or did not answer in time.
    Silent,
    /// It could not be asked, for a reason that says nothing about it; which completes the sentence "it …".
    Unasked(String),
}

/// Asks the instance, for at most `limit` from the moment when its name is resolved.
pub(crate) async fn ask(
    candidate: &Candidate,
    question: &Question,
    policy: &AddressPolicy,
    limit: Duration,
) -> ProbeResult {
    if let Err(error) = dial::resolved(candidate, limit).await {
        return ProbeResult::unconnected(&error);
    }
    let deadline = Instant::now() + limit;
    let stream = match dial::connect(candidate, policy, limit).await {
        Ok(stream) => stream,
        Err(error) => return ProbeResult::unconnected(&error),
    };
    let address = candidate.address();
    let asking = async {
        match question {
            Question::Connect => ProbeResult::Good,
            Question::Get(path) => {
                talk(stream, address, Method::GET, path.as_str()).await.map_or(ProbeResult::Nonsense, grade)
            }
            Question::Ping => {
                talk(stream, address, Method::OPTIONS, "*").await.map_or(ProbeResult::Nonsense, |_| ProbeResult::Good)
            }
        }
    };
    timeout_at(deadline, asking).await.unwrap_or(ProbeResult::Silent)
}

/// The status of the response; `None`: there is none.
async fn talk(stream: TcpStream, address: &Address, method: Method, target: &str) -> Option<StatusCode> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method;
    *request.uri_mut() = target.parse::<Uri>().ok()?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::try_from(address.to_string()).ok()?);
    headers.insert(header::USER_AGENT, HeaderValue::from_static("muster-balance-health-check"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let mut response = std::pin::pin!(sender.send_request(request));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        response = &mut response => response.ok().map(|response| response.status()),
        _ = &mut connection => response.await.ok().map(|response| response.status()),
    }
}

fn grade(status: StatusCode) -> ProbeResult {
    if status.is_success() || status.is_redirection() { ProbeResult::Good } else { ProbeResult::Bad(status) }
}

impl ProbeResult {
    /// There is no connection to ask on.
    fn unconnected(error: &ConnectError) -> Self {
        match error {
            ConnectError::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => Self::Refused,
            // No request would ever be sent there.
            ConnectError::Forbidden(_) => Self::Refused,
            ConnectError::Connect(_) | ConnectError::Timeout(_) => Self::Silent,
            ConnectError::Unresolved(_) | ConnectError::Unanswered(_) | ConnectError::Exhausted(_) => {
                Self::Unasked(error.to_string())
            }
        }
    }

    /// Whether something came back: a sign of life, however it was meant. An accepted connection is none.
    pub(crate) fn is_response(&self) -> bool {
        matches!(self, Self::Good | Self::Bad(_) | Self::Nonsense)
    }
}

impl fmt::Display for ProbeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("passed"),
            Self::Bad(status) => write!(f, "failed: it answered {status}"),
            Self::Nonsense => f.write_str("failed: it broke off, or does not speak HTTP/1.1"),
            Self::Refused => f.write_str("failed: nobody listens there"),
            Self::Silent => f.write_str("failed: no answer in time"),
            Self::Unasked(why) => write!(f, "not made: it {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use service_kit::names::Names;
    use testkit::{
        name_server::{Manner, NameServer},
        upstream::{Reply, Upstream},
    };
    use tokio::{io::AsyncWriteExt as _, net::TcpListener, time::sleep};

    use super::*;
    use crate::instance::named::Named;

    async fn asked(upstream: &Upstream, question: &Question) -> ProbeResult {
        let candidate = Candidate::sample(&upstream.address().to_string(), 1);
        ask(&candidate, question, &AddressPolicy::default(), Duration::from_secs(1)).await
    }

    #[tokio::test]
    async fn every_question_has_its_good_answer() {
        let get = Question::Get("/healthz?deep=1".parse().unwrap());
        let well = Upstream::named("mail").await;
        for question in [&Question::Connect, &get, &Question::Ping] {
            assert_eq!(asked(&well, question).await, ProbeResult::Good, "{question:?}");
        }
        let asked_for: Vec<_> =
            well.requests().into_iter().map(|one| format!("{} {}", one.method, one.target)).collect();
        assert_eq!((asked_for, well.violations()), (vec!["GET /healthz?deep=1".into(), "OPTIONS *".into()], vec![]));
        let unwell = Upstream::start(|_| Reply::status(500, &[], "x")).await;
        assert_eq!(asked(&unwell, &get).await, ProbeResult::Bad(StatusCode::INTERNAL_SERVER_ERROR));
        assert_eq!(asked(&unwell, &Question::Ping).await, ProbeResult::Good, "it is there");
        let resetting = Upstream::start(|_| Reply::Reset).await;
        assert_eq!(asked(&resetting, &get).await, ProbeResult::Nonsense);
    }

    #[tokio::test]
    async fn who_accepts_and_never_answers_is_silent() {
        let silent = Upstream::start(|_| Reply::Silence).await;
        assert_eq!(asked(&silent, &Question::Connect).await, ProbeResult::Good);
        assert_eq!(asked(&silent, &Question::Ping).await, ProbeResult::Silent);
    }

    #[tokio::test]
    async fn nobody_listens_at_a_closed_port_and_nobody_is_asked_at_a_forbidden_one() {
        let mut upstream = Upstream::named("mail").await;
        let address = Candidate::sample(&format!("localhost:{}", upstream.address().port()), 1);
        let forbidden = AddressPolicy::new([format!("http://{}", upstream.address()).as_str()], []);
        let limit = Duration::from_secs(1);
        assert_eq!(ask(&address, &Question::Ping, &forbidden, limit).await, ProbeResult::Refused);
        assert_eq!(upstream.connections_accepted(), 0, "nobody has knocked");
        assert_eq!(ask(&address, &Question::Ping, &AddressPolicy::default(), limit).await, ProbeResult::Good);
        upstream.down().await;
        assert_eq!(asked(&upstream, &Question::Connect).await, ProbeResult::Refused);
    }

    #[tokio::test]
    async fn the_time_of_a_name_server_is_not_taken_from_the_instance() {
        let (limit, pause) = (Duration::from_secs(3), Duration::from_millis(1800));
        let slow = NameServer::start().await;
        slow.set_manner(Manner::Slow(pause));
        slow.set("mail.test", &["127.0.0.1"], 60);
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let policy = AddressPolicy::default().with_names(Names::new(vec![slow.address()]));
        let address: Address = format!("mail.test:{}", upstream.local_addr().unwrap().port()).parse().unwrap();
        let named = Named::of(&address.host, &policy);
        let candidate = Candidate { named, ..Candidate::sample(&address.to_string(), 1) };
        let answering = async {
            let (mut stream, _) = upstream.accept().await.unwrap();
            sleep(pause).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            stream
        };
        let (answer, _stream) = tokio::join!(ask(&candidate, &Question::Ping, &policy, limit), answering);
        assert_eq!(answer, ProbeResult::Good);
    }
}
