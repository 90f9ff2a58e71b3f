//! Who may pass: each way in that a service names, and whether one of them is enough.

use std::{net::IpAddr, sync::Arc};

use discovery::{
    ServiceName,
    policy::{self, Auth, ForwardAuth, Require},
};
use service_kit::connections::ClientNetwork;

use crate::{
    access::{
        asked::{Asked, Authorization},
        basic::{self, Users},
        identity::{self, Identity},
        issued::{self, Issued, KnownKeys},
        keys::Found,
        passed::{Passed, Question},
        public_paths::PublicPaths,
        refusals::Refusals,
    },
    message::denial::Denial,
};

/// What the field of every bearer token, and of names and passwords, is called.
const AUTHORIZATION: &str = "authorization";
/// What our keys begin with, which distinguishes them from tokens of others in the same field.
const KEY_PREFIX: &[u8] = b"muster_";

/// Who may pass.
#[derive(Debug)]
pub(super) struct AuthRules {
    service: Box<str>,
    rules: Auth,
    allow: Vec<ipnet::IpNet>,
    deny: Vec<ipnet::IpNet>,
    pub(super) issued: Option<Arc<Issued>>,
    users: Option<Arc<Users>>,
    forward: Option<Arc<ForwardAuth>>,
    public_paths: PublicPaths,
    refusals: Arc<Refusals>,
    /// The fields that no client may send.
    reserved: Arc<[Arc<str>]>,
}

/// What one way in says.
enum Finding {
    /// The client shows nothing for it.
    Absent,
    Good(Arc<Identity>),
    Bad(Box<Denial>),
    Open(Question),
    /// A service is to be asked.
    Forward(Arc<ForwardAuth>),
}

// === impl AuthRules ===

impl AuthRules {
    /// `kept` are claims of tokens that are wanted later.
    pub(super) fn new(
        service: &ServiceName,
        rules: &Auth,
        kept: &[Arc<str>],
        before: Option<&Self>,
        known: &KnownKeys<'_>,
    ) -> Self {
        let read = |texts: &[String]| texts.iter().filter_map(|text| policy::Networks::read(text)).collect();
        let networks = rules.networks.clone().unwrap_or_default();
        let issued_before = before.and_then(|before| before.issued.as_deref());
        let issued = |jwt| Arc::new(Issued::new(jwt, kept.to_vec(), issued_before, known));
        let users_before = before.and_then(|before| before.users.as_deref());
        let users = rules.basic.as_ref().map(|basic| Arc::new(Users::new(&basic.users, users_before)));
        let passed_on = rules.forward.iter().flat_map(|rule| &rule.pass).map(|field| field.as_str().into());
        let claimed = rules.jwt.iter().flat_map(|jwt| jwt.claims.keys()).map(|field| field.as_str().into());
        Self {
            service: service.as_str().into(),
            allow: read(&networks.allow),
            deny: read(&networks.deny),
            issued: rules.jwt.as_ref().map(issued),
            forward: rules.forward.clone().map(Arc::new),
            users,
            public_paths: PublicPaths::new(&rules.public_paths),
            refusals: Arc::new(Refusals::new(service.as_str(), &schemes(rules))),
            reserved: [identity::METHOD_FIELD, identity::SUBJECT_FIELD]
                .map(Arc::from)
                .into_iter()
                .chain(claimed)
                .chain(passed_on)
                .collect(),
            rules: rules.clone(),
        }
    }

    pub(super) fn check(&self, asked: &Asked<'_>) -> Result<Passed, Box<Denial>> {
        let address = asked.client_address();
        if !self.deny.is_empty() && address.is_none_or(|address| contains(&self.deny, address)) {
            return Err(Refusals::elsewhere());
        }
        let mut passed = Passed::without(Arc::clone(&self.reserved));
        if self.public_paths.has(asked.path) {
            return Ok(passed);
        }
        self.ask_all_ways(asked, address, &mut passed)?;
        Ok(passed)
    }

    /// Asks each way in, until the client may pass.
    fn ask_all_ways(&self, asked: &Asked<'_>, address: Option<IpAddr>, passed: &mut Passed) -> Result<(), Box<Denial>> {
        let is_any = self.rules.require == Require::Any;
        passed.is_any = is_any;
        let mut lacking = None;
        let mut is_in = false;
        for (field, finding) in self.ways(asked, address) {
            let is_open = matches!(finding, Finding::Open(_));
            match finding {
                // What a question may come to nothing for: the answer is the same as if it were known already.
                Finding::Good(identity) if is_any && is_in => passed.otherwise = Some(identity),
                Finding::Good(identity) => _ = passed.identity.get_or_insert(identity),
                Finding::Open(question) => passed.questions.push(question),
                Finding::Forward(rule) => passed.forward = Some((rule, None)),
                Finding::Bad(denial) if is_any => {
                    lacking.get_or_insert(denial);
                    continue;
                }
                Finding::Absent if is_any => continue,
                Finding::Bad(denial) => return Err(denial),
                Finding::Absent => return Err(self.refusals.missing()),
            }
            passed.spent.extend(field.filter(|_| !self.rules.keep_credentials).map(Arc::from));
            is_in = true;
            if is_any && !is_open {
                break;
            }
        }
        if is_in { Ok(()) } else { Err(lacking.unwrap_or_else(|| self.nothing_shown())) }
    }

    /// What each way in says that the service names, with the field that its credential is in. Where the client is
    /// comes last: a credential says more about it. A service is asked only when nothing else will do.
    fn ways<'a>(
        &'a self,
        asked: &'a Asked<'_>,
        address: Option<IpAddr>,
    ) -> impl Iterator<Item = (Option<&'a str>, Finding)> {
        let keys = self.rules.keys.iter().map(|keys| (Some(keys.header.as_str()), self.key(&keys.header, asked)));
        let tokens = self.issued.iter().map(|issued| (Some(AUTHORIZATION), self.token(issued, asked)));
        let users = self.users.iter().map(|users| (Some(AUTHORIZATION), self.password(users, asked)));
        let networks = self.rules.networks.iter().map(move |_| (None, self.network(address)));
        let forward = self.forward.iter().map(|rule| (None, Finding::Forward(Arc::clone(rule))));
        keys.chain(tokens).chain(users).chain(networks).chain(forward)
    }

    fn key(&self, header: &str, asked: &Asked<'_>) -> Finding {
        let key = if header.eq_ignore_ascii_case(AUTHORIZATION) {
            match asked.authorization() {
                // With tokens of others in the same field, ours are known by how they begin.
                Authorization::Bearer(token) if self.issued.is_some() && !token.starts_with(KEY_PREFIX) => {
                    return Finding::Absent;
                }
                Authorization::Bearer(key) => key,
                Authorization::Several => return self.several(),
                Authorization::Absent | Authorization::Basic(_) | Authorization::Other => return Finding::Absent,
            }
        } else {
            let mut values = asked.values(header);
            let Some(key) = values.next() else { return Finding::Absent };
            if values.next().is_some() {
                return self.several();
            }
            key
        };
        match asked.keys.find(key, &self.service, asked.now) {
            Found::Opens(identity) => Finding::Good(Arc::clone(identity)),
            Found::OutOfScope => {
                Finding::Bad(self.refusals.out_of_scope("the key is for other services", &self.service))
            }
            Found::Expired => Finding::Bad(self.refusals.expired()),
            Found::Unknown => Finding::Bad(self.refusals.invalid("the key is not known; it may have been revoked")),
        }
    }

    fn token(&self, issued: &Arc<Issued>, asked: &Asked<'_>) -> Finding {
        let is_ours = |token: &[u8]| {
            let in_same_field = |keys: &policy::Keys| keys.header.eq_ignore_ascii_case(AUTHORIZATION);
            self.rules.keys.as_ref().is_some_and(in_same_field) && token.starts_with(KEY_PREFIX)
        };
        let token = match asked.authorization() {
            Authorization::Bearer(token) if !is_ours(token) => token,
            Authorization::Several => return self.several(),
            Authorization::Bearer(_) | Authorization::Absent | Authorization::Basic(_) | Authorization::Other => {
                return Finding::Absent;
            }
        };
        match issued.check(token, asked.now) {
            issued::Checked::UnknownKey | issued::Checked::NoKeys => {
                Finding::Open(Question::Token(token.into(), Arc::clone(issued), Arc::clone(&self.refusals)))
            }
            checked => match issued.judged(checked, &self.refusals) {
                Ok(identity) => Finding::Good(identity),
                Err(denial) => Finding::Bad(denial),
            },
        }
    }

    fn password(&self, users: &Users, asked: &Asked<'_>) -> Finding {
        let encoded = match asked.authorization() {
            Authorization::Basic(encoded) => encoded,
            Authorization::Several => return self.several(),
            Authorization::Absent | Authorization::Bearer(_) | Authorization::Other => return Finding::Absent,
        };
        match users.check(encoded, asked.client_network()) {
            basic::Checked::Right(identity) => Finding::Good(identity),
            basic::Checked::Wrong => Finding::Bad(self.refusals.wrong_password()),
            basic::Checked::TooMany => Finding::Bad(Refusals::too_many_passwords()),
            basic::Checked::Open(pending) => Finding::Open(Question::Password(pending, Arc::clone(&self.refusals))),
        }
    }

    fn network(&self, address: Option<IpAddr>) -> Finding {
        match address.filter(|address| contains(&self.allow, *address)) {
            Some(address) => {
                let network = ClientNetwork::of(address).to_string();
                Finding::Good(Arc::new(Identity::new("network", &network)))
            }
            None if self.rules.require == Require::All => Finding::Bad(Refusals::elsewhere()),
            None => Finding::Absent,
        }
    }

    /// Whether these are the rules that `other` was judged by.
    pub(super) fn are(&self, other: &Self) -> bool {
        self.rules == other.rules
    }

    pub(super) fn service(&self) -> &str {
        &self.service
    }

    fn several(&self) -> Finding {
        Finding::Bad(self.refusals.ambiguous("the field with the credential is there twice"))
    }

    fn nothing_shown(&self) -> Box<Denial> {
        if schemes(&self.rules).is_empty() { Refusals::elsewhere() } else { self.refusals.missing() }
    }
}

/// The schemes of the challenges, each once.
fn schemes(rules: &Auth) -> Vec<&'static str> {
    let of_keys = |keys: &policy::Keys| match keys.header.eq_ignore_ascii_case(AUTHORIZATION) {
        true => "Bearer",
        false => "ApiKey",
    };
    let keys = rules.keys.as_ref().map(of_keys);
    let tokens = rules.jwt.as_ref().map(|_| "Bearer").filter(|_| keys != Some("Bearer"));
    let users = rules.basic.as_ref().map(|_| "Basic");
    [keys, tokens, users].into_iter().flatten().collect()
}

fn contains(networks: &[ipnet::IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}
