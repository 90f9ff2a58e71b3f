//! What a service asks for, made ready for requests: its policy, read once when it changes.

use std::{net::IpAddr, sync::Arc};

use discovery::{
    ServiceName,
    policy::{self, Auth, Policy, Require},
};
use service_kit::connections::ClientNetwork;

use crate::{
    access::{
        asked::{Asked, Authorization},
        identity::{self, Identity},
        keys::Found,
        public_paths::PublicPaths,
        refusals::Refusals,
    },
    message::denial::Denial,
};

/// What a service asks for.
#[derive(Debug)]
pub(crate) struct Access {
    auth: Option<AuthRules>,
}

/// Who may pass.
#[derive(Debug)]
struct AuthRules {
    service: Box<str>,
    rules: Auth,
    networks: Networks,
    public_paths: PublicPaths,
    refusals: Refusals,
    /// The fields that no client may send.
    reserved: Arc<[Arc<str>]>,
}

#[derive(Debug, Default)]
struct Networks {
    allow: Vec<ipnet::IpNet>,
    deny: Vec<ipnet::IpNet>,
}

/// A request that is let through.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    identity: Option<Arc<Identity>>,
    /// The fields that end here: those that no client may send, and those of the credentials.
    stripped: Vec<Arc<str>>,
}

/// What one way in says.
enum Finding {
    /// The client shows nothing for it.
    Absent,
    Good(Arc<Identity>),
    Bad(Box<Denial>),
}

// === impl Access ===

impl Access {
    /// That of `service` under `policy`; `None` when it asks for nothing.
    pub(crate) fn of(service: &ServiceName, policy: &Policy) -> Option<Arc<Self>> {
        let auth = policy.auth.as_ref().map(|auth| AuthRules::new(service, auth));
        auth.is_some().then(|| Arc::new(Self { auth }))
    }

    /// Judges a request.
    ///
    /// # Errors
    ///
    /// Why it does not pass.
    pub(crate) fn check(&self, asked: &Asked<'_>) -> Result<Passed, Box<Denial>> {
        match &self.auth {
            Some(auth) => auth.check(asked),
            None => Ok(Passed::default()),
        }
    }
}

// === impl AuthRules ===

impl AuthRules {
    fn new(service: &ServiceName, rules: &Auth) -> Self {
        let read = |texts: &[String]| texts.iter().filter_map(|text| policy::Networks::read(text)).collect();
        let networks = rules.networks.as_ref();
        let networks = networks.map(|given| Networks { allow: read(&given.allow), deny: read(&given.deny) });
        let reserved = [identity::METHOD_FIELD, identity::SUBJECT_FIELD].map(Arc::from);
        Self {
            service: service.as_str().into(),
            networks: networks.unwrap_or_default(),
            public_paths: PublicPaths::new(&rules.public_paths),
            refusals: Refusals::new(service.as_str(), &schemes(rules)),
            reserved: reserved.into(),
            rules: rules.clone(),
        }
    }

    fn check(&self, asked: &Asked<'_>) -> Result<Passed, Box<Denial>> {
        let address = asked.client_address();
        if address.is_none_or(|address| contains(&self.networks.deny, address)) && !self.networks.deny.is_empty() {
            return Err(Refusals::elsewhere());
        }
        let mut passed = Passed { identity: None, stripped: self.reserved.to_vec() };
        if self.public_paths.has(asked.path) {
            return Ok(passed);
        }
        let mut lacking = None;
        for (field, finding) in self.ways(asked, address) {
            match (finding, self.rules.require) {
                (Finding::Good(identity), require) => {
                    passed.stripped.extend(field.filter(|_| !self.rules.keep_credentials));
                    passed.identity.get_or_insert(identity);
                    if require == Require::Any {
                        return Ok(passed);
                    }
                }
                (Finding::Bad(denial), Require::All) => return Err(denial),
                (Finding::Absent, Require::All) => return Err(self.refusals.missing()),
                (Finding::Bad(denial), Require::Any) => _ = lacking.get_or_insert(denial),
                (Finding::Absent, Require::Any) => {}
            }
        }
        match passed.identity {
            Some(_) => Ok(passed),
            None => Err(lacking.unwrap_or_else(|| self.nothing_shown())),
        }
    }

    /// Each way in that the service names, with the field that the credential is in. Credentials go first: they say more about
    /// a client than where it is.
    fn ways(&self, asked: &Asked<'_>, address: Option<IpAddr>) -> Vec<(Option<Arc<str>>, Finding)> {
        let mut ways = Vec::with_capacity(2);
        if let Some(keys) = &self.rules.keys {
            ways.push((Some(keys.header.as_str().into()), self.key(&keys.header, asked)));
        }
        if self.rules.networks.is_some() {
            ways.push((None, self.network(address)));
        }
        ways
    }

    fn key(&self, header: &str, asked: &Asked<'_>) -> Finding {
        let key = if header.eq_ignore_ascii_case("authorization") {
            match asked.authorization() {
                Authorization::Bearer(key) => key,
                Authorization::Several => {
                    return Finding::Bad(self.refusals.ambiguous("the Authorization field is there twice"));
                }
                Authorization::Absent | Authorization::Basic(_) | Authorization::Other => return Finding::Absent,
            }
        } else {
            let mut values = asked.values(header);
            let Some(key) = values.next() else { return Finding::Absent };
            if values.next().is_some() {
                return Finding::Bad(self.refusals.ambiguous("the field with the key is there twice"));
            }
            key
        };
        match asked.keys.find(key, &self.service) {
            Found::Opens(identity) => Finding::Good(Arc::clone(identity)),
            Found::OutOfScope => {
                Finding::Bad(self.refusals.out_of_scope("the key is for other services", &self.service))
            }
            Found::Unknown => Finding::Bad(self.refusals.invalid("the key is not known; it may have been revoked")),
        }
    }

    fn network(&self, address: Option<IpAddr>) -> Finding {
        match address.filter(|address| contains(&self.networks.allow, *address)) {
            Some(address) => Finding::Good(Arc::new(Identity::new("network", &network(address)))),
            None if self.rules.require == Require::All => Finding::Bad(Refusals::elsewhere()),
            None => Finding::Absent,
        }
    }

    fn nothing_shown(&self) -> Box<Denial> {
        if schemes(&self.rules).is_empty() { Refusals::elsewhere() } else { self.refusals.missing() }
    }
}

/// The schemes of the challenges, in the order in which they are tried.
fn schemes(rules: &Auth) -> Vec<&'static str> {
    let of_keys = |keys: &policy::Keys| match keys.header.eq_ignore_ascii_case("authorization") {
        true => "Bearer",
        false => "ApiKey",
    };
    rules.keys.as_ref().map(of_keys).into_iter().collect()
}

fn contains(networks: &[ipnet::IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// What a client counts as: its IPv4 address, or its IPv6 /64.
fn network(address: IpAddr) -> String {
    ClientNetwork::of(address).to_string()
}

// === impl Passed ===

impl Passed {
    /// Takes out of the head what ends here, and says who the client is.
    pub(crate) fn write(&self, head: &mut Vec<u8>) {
        identity::replace(head, &self.stripped, self.identity.as_deref());
    }
}
