//! Whether a page of another site may read an answer (CORS; Fetch, section 3.2).
//!
//! What an instance answers says so itself and passes as it is, unless the policy speaks for the service. When no instance answers, the
//! page would learn nothing but that "the network" failed; with these fields it can read the reason, and when to ask again.

use std::borrow::Cow;

use discovery::policy::{self, CorsScope};
use http1::{Method, Name, One, Request, write};

/// What an answer says about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Cors {
    /// Nothing.
    #[default]
    Unsaid,
    /// This page may not, another may: caches must not mix them up.
    Refused,
    /// A page of this origin may.
    Allowed(Cow<'static, [u8]>),
    /// The policy speaks for the service, and says this.
    ForService(Box<ForService>),
}

/// What the policy says of a page that asks a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForService {
    /// `None`: it may not.
    origin: Option<Vec<u8>>,
    expose: String,
    credentials: bool,
}

/// What is answered to a browser that asks for leave: the fields (Fetch, section 4.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Preflight(pub(crate) Vec<(&'static str, String)>);

/// What pages may read of every answer.
const EXPOSED: &str = "Retry-After, X-Request-Id";

// === impl Cors ===

impl Cors {
    /// What `policy` says about this request. Nothing is allocated but for a request of an origin that is on the list.
    pub(crate) fn of(policy: &policy::Cors, request: &Request<'_>) -> Self {
        if policy.origins.is_empty() {
            return Self::Unsaid;
        }
        let origin = match request.fields.get(Name::Origin) {
            One::One(origin) => allowed(policy, origin),
            One::Absent | One::Several => None,
        };
        match (policy.applies_to, origin) {
            (CorsScope::OwnAnswers, None) => Self::Refused,
            (CorsScope::OwnAnswers, Some(origin)) => Self::Allowed(origin),
            (CorsScope::Service, origin) => {
                let expose = policy.expose.iter().fold(EXPOSED.to_owned(), |all, name| all + ", " + name);
                let origin = origin.map(Cow::into_owned);
                Self::ForService(Box::new(ForService { origin, expose, credentials: policy.credentials }))
            }
        }
    }

    /// Whether it speaks for the service, in place of what the service says.
    pub(crate) fn is_for_service(&self) -> bool {
        matches!(self, Self::ForService(_))
    }

    /// Whether what an instance says about it is replaced.
    pub(crate) fn replaces(&self, name: &[u8]) -> bool {
        const PREFIX: &[u8] = b"access-control-";
        self.is_for_service() && name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
    }

    /// Writes the fields of an answer of the gateway's own.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        if let Self::Allowed(origin) = self {
            write::field(out, b"Access-Control-Allow-Origin", origin);
            write::field(out, b"Access-Control-Expose-Headers", EXPOSED.as_bytes());
        }
        if matches!(self, Self::Allowed(_) | Self::Refused) {
            write::field(out, b"Vary", b"Origin");
        }
        self.write_for_service(out);
    }

    /// Writes the fields of an instance's answer.
    pub(crate) fn write_for_service(&self, out: &mut Vec<u8>) {
        let Self::ForService(said) = self else { return };
        if let Some(origin) = &said.origin {
            write::field(out, b"Access-Control-Allow-Origin", origin);
            write::field(out, b"Access-Control-Expose-Headers", said.expose.as_bytes());
            if said.credentials {
                write::field(out, b"Access-Control-Allow-Credentials", b"true");
            }
        }
        write::field(out, b"Vary", b"Origin");
    }
}

/// The origin as it is allowed; never `*` for one that may send credentials, because the policy names those.
fn allowed(policy: &policy::Cors, origin: &[u8]) -> Option<Cow<'static, [u8]>> {
    if policy.origins.iter().any(|allowed| allowed == "*") {
        return Some(Cow::Borrowed(b"*"));
    }
    let is_listed = policy.origins.iter().any(|allowed| allowed.as_bytes() == origin);
    is_listed.then(|| Cow::Owned(origin.to_vec()))
}

// === impl Preflight ===

impl Preflight {
    /// The answer to a request that asks for leave, of a service for which the policy speaks; `None` for every other request.
    pub(crate) fn of(policy: &policy::Cors, request: &Request<'_>) -> Option<Self> {
        if policy.applies_to != CorsScope::Service || policy.origins.is_empty() || request.method != Method::Options {
            return None;
        }
        let One::One(origin) = request.fields.get(Name::Origin) else { return None };
        let asks = |field: http1::Field<'_>| field.name.eq_ignore_ascii_case(b"access-control-request-method");
        request.fields.iter().find(|field| asks(*field))?;
        let mut fields =
            vec![("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers".to_owned())];
        if let Some(origin) = allowed(policy, origin) {
            let names = |names: &[String]| names.join(", ");
            fields.push(("Access-Control-Allow-Origin", String::from_utf8_lossy(&origin).into_owned()));
            fields.push((
                "Access-Control-Allow-Methods",
                names(&[&["GET, HEAD, POST".to_owned()], &*policy.methods].concat()),
            ));
            if !policy.headers.is_empty() {
                fields.push(("Access-Control-Allow-Headers", names(&policy.headers)));
            }
            if policy.credentials {
                fields.push(("Access-Control-Allow-Credentials", "true".to_owned()));
            }
            fields.push(("Access-Control-Max-Age", policy.max_age.as_secs().to_string()));
        }
        Some(Self(fields))
    }
}
