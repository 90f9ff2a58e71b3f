//! How long each part of the suite waits for the next one, by default: the one table.
//!
//! A caller must wait longer than what it waits for takes at most. Otherwise it gives up first, says only that there
//! was no answer, and does not learn what came of it: a deregistration that succeeded is reported as failed, and a
//! cause that was known is lost. So in each chain every link is shorter than the one before.
//!
//! The defaults in the programs' options are these, and so are the numbers in doc/architecture.md; tests hold both to
//! it.

use std::time::Duration;

/// One wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Who waits for what.
    pub what: &'static str,
    /// For how long, by default.
    pub at_most: Duration,
    /// The program and the option that change it, where one does.
    pub option: Option<(&'static str, &'static str)>,
}

/// A heartbeat, for the answer of one registry: three fit into the default TTL. A TTL below 5 s has a fifth of it.
pub const HEARTBEAT_ATTEMPT: Duration = Duration::from_secs(1);
/// The part of a registry's time that is not for etcd: its own work, and the way of the answer.
pub const REGISTRY_MARGIN: Duration = Duration::from_millis(100);
/// A registry, for all calls to etcd of one request together.
pub const ETCD_DEADLINE: Duration = Duration::from_millis(800);
/// One attempt on one etcd member. A frozen one leaves 350 ms for the next, which needs a few.
pub const ETCD_TIMEOUT: Duration = Duration::from_millis(450);
/// A registry, for the name servers that resolve an announced host name. A slow look-up goes on, and the next heartbeat
/// profits from it.
pub const NAME_LOOKUP: Duration = Duration::from_millis(400);
/// A registry, for an instance that proves its address.
pub const ADDRESS_PROOF: Duration = Duration::from_millis(500);
/// The gateway, for the head of an instance's answer.
pub const GATEWAY_RESPONSE: Duration = Duration::from_secs(30);
/// The gateway, for a connection to an instance.
pub const GATEWAY_CONNECT: Duration = Duration::from_secs(1);
/// A registry, for the `mail` instance or webhook that takes an alert.
pub const ALERT_ATTEMPT: Duration = Duration::from_secs(20);
/// A request to `mail`, for its turn.
pub const MAIL_QUEUE_WAIT: Duration = Duration::from_secs(2);
/// A request to `mail`, for the SMTP server.
pub const MAIL_SMTP: Duration = Duration::from_secs(15);
/// What else a request to `mail` takes.
pub const MAIL_MARGIN: Duration = Duration::from_secs(1);
/// `mail`, for what `userlist` knows of a user.
pub const USERLIST_QUESTION: Duration = Duration::from_secs(10);
/// `userlist`, for its database.
pub const USERLIST_DATABASE: Duration = Duration::from_secs(2);

/// How long a connection to an etcd member may take, of an attempt of that length.
#[must_use]
pub fn etcd_connect(attempt: Duration) -> Duration {
    attempt * 2 / 3
}

/// How long a registry takes for one answer, given what its calls to etcd may take together.
#[must_use]
pub fn registry_answer(etcd: Duration) -> Duration {
    etcd + REGISTRY_MARGIN
}

/// How long a request to `mail` takes once its body is there, given its waits for a turn and for the SMTP server.
#[must_use]
pub fn mail_answer(queue_wait: Duration, smtp: Duration) -> Duration {
    queue_wait + smtp + MAIL_MARGIN
}

/// Every chain: who waits first, then whom it waits for.
#[must_use]
pub fn chains() -> Vec<Vec<Link>> {
    let link = |what, at_most| Link { what, at_most, option: None };
    let option = |what, at_most, program, option| Link { what, at_most, option: Some((program, option)) };
    let heartbeat = link("a heartbeat waits for a registry", HEARTBEAT_ATTEMPT);
    let registry = link("a registry answers a heartbeat", registry_answer(ETCD_DEADLINE));
    let gateway = option("the gateway waits for an answer", GATEWAY_RESPONSE, "balance", "--response-timeout");
    let mail = link("mail answers a request", mail_answer(MAIL_QUEUE_WAIT, MAIL_SMTP));
    let database = option("userlist waits for its database", USERLIST_DATABASE, "userlist", "--database-deadline");
    vec![
        vec![
            heartbeat,
            registry,
            option("a registry waits for etcd", ETCD_DEADLINE, "registry", "--etcd-deadline"),
            option("one attempt on one etcd member", ETCD_TIMEOUT, "registry", "--etcd-timeout"),
            link("a connection to an etcd member", etcd_connect(ETCD_TIMEOUT)),
        ],
        vec![heartbeat, registry, link("a registry waits for a name server", NAME_LOOKUP)],
        vec![heartbeat, registry, link("a registry waits for a proof of address", ADDRESS_PROOF)],
        vec![gateway, option("the gateway connects", GATEWAY_CONNECT, "balance", "--connect-timeout")],
        vec![gateway, mail, option("mail waits for the SMTP server", MAIL_SMTP, "mail", "--smtp-deadline")],
        vec![link("an alert waits for mail", ALERT_ATTEMPT), mail],
        vec![gateway, link("mail waits for userlist", USERLIST_QUESTION), database],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_inner_deadline_is_shorter_than_its_callers() {
        for chain in chains() {
            for pair in chain.windows(2) {
                let [outer, inner] = pair else { unreachable!("windows of two") };
                let margin = outer.at_most.saturating_sub(inner.at_most);
                assert!(margin >= outer.at_most / 12, "{inner:?} is not clearly shorter than {outer:?}");
            }
        }
    }
}
