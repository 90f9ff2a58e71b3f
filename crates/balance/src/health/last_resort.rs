//! Asking those who vanished whether they are still there.
//!
//! When every registry dies, or etcd is wiped, all leases end although all instances live; when an instance is killed,
//! its lease ends and it is dead. etcd tells both alike. So once a second every instance that vanished without a word is
//! asked: at its health path if it has one, otherwise by opening a connection. One that refuses is dead at once: no process listens
//! there. Who is silent or says that it is unwell gets three chances, because the network may be at fault. This runs
//! beside the data path, which finds out by itself, too.

use std::{collections::HashMap, sync::Arc, time::Duration};

use discovery::InstanceKey;
use futures::{StreamExt as _, stream};

use crate::{
    addresses::AddressPolicy,
    clock::Millis,
    health::probe::{self, ProbeResult, Question},
    instance::candidate::Candidate,
};

/// How long an instance may take to answer.
const PROBE_MAX: Duration = Duration::from_secs(1);
/// So many times in a row it may fail to, without refusing.
const SILENCES_MAX: u32 = 3;
/// A byte that is younger than that says more than a probe without an answer.
const SILENCE_MAX: Duration = PROBE_MAX.saturating_mul(SILENCES_MAX);
/// Probes at the same time; ten thousand instances may vanish at once.
const PROBES_MAX: usize = 64;

/// Remembers who was silent how often.
#[derive(Debug)]
pub(crate) struct Prober {
    silences: HashMap<u64, u32>,
    addresses: AddressPolicy,
}

// === impl Prober ===

impl Prober {
    /// Asks at no address that `addresses` forbids.
    pub(crate) fn new(addresses: AddressPolicy) -> Self {
        Self { silences: HashMap::new(), addresses }
    }

    /// Asks all once; returns who is dead, with the serial number under which it was known.
    pub(crate) async fn round(&mut self, suspects: Vec<Arc<Candidate>>) -> Vec<(InstanceKey, u64)> {
        let addresses = &self.addresses;
        let asked = stream::iter(suspects).map(|suspect| async {
            let answer = ask(&suspect, addresses).await;
            if suspect.instance.health.is_some() && answer.is_response() {
                suspect.state.vitals.hear(Millis::now());
            }
            (suspect, answer)
        });
        let answers: Vec<_> = asked.buffer_unordered(PROBES_MAX).collect().await;
        let silences = std::mem::take(&mut self.silences);
        let mut dead = Vec::new();
        for (suspect, answer) in answers {
            let before = silences.get(&suspect.serial).copied().unwrap_or_default();
            // One thread that works on requests cannot answer, too.
            let shows_life = answer == ProbeResult::Silent && suspect.state.vitals.is_fresh(SILENCE_MAX, Millis::now());
            match if shows_life { Some(0) } else { judge(&answer, before) } {
                Some(0) => {}
                Some(silences) => {
                    self.silences.insert(suspect.serial, silences);
                }
                None => dead.push((suspect.key.clone(), suspect.serial)),
            }
        }
        dead
    }
}

/// How often in a row the instance has been silent now; `None`: it is dead.
fn judge(answer: &ProbeResult, silences_before: u32) -> Option<u32> {
    match answer {
        ProbeResult::Good => Some(0),
        ProbeResult::Refused => None,
        // Nothing was learnt.
        ProbeResult::Unasked(_) => Some(silences_before),
        ProbeResult::Silent | ProbeResult::Bad(_) | ProbeResult::Nonsense => {
            Some(silences_before + 1).filter(|silences| *silences < SILENCES_MAX)
        }
    }
}

async fn ask(suspect: &Candidate, addresses: &AddressPolicy) -> ProbeResult {
    let question = suspect.instance.health.clone().map_or(Question::Connect, Question::Get);
    probe::ask(suspect, &question, addresses, PROBE_MAX).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_refuses_is_dead_at_once_and_who_is_silent_after_three_times() {
        assert_eq!(judge(&ProbeResult::Refused, 0), None);
        assert_eq!(judge(&ProbeResult::Silent, 0), Some(1));
        assert_eq!(judge(&ProbeResult::Silent, 2), None);
        assert_eq!(judge(&ProbeResult::Good, 2), Some(0));
        assert_eq!(judge(&ProbeResult::Unasked("has a name that is not resolved yet".into()), 2), Some(2));
    }

    #[tokio::test]
    async fn a_listening_suspect_lives_and_a_closed_port_is_dead() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let alive = Arc::new(Candidate::sample(&listener.local_addr().unwrap().to_string(), 1));
        // Bound but not listening: refuses, and nobody else can take the port meanwhile.
        let closed = tokio::net::TcpSocket::new_v4().unwrap();
        closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let gone = Arc::new(Candidate::sample(&closed.local_addr().unwrap().to_string(), 1));
        let dead = Prober::new(AddressPolicy::default()).round(vec![alive, Arc::clone(&gone)]).await;
        assert_eq!(dead, [(gone.key.clone(), gone.serial)]);
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_forbidden_address_is_not_asked() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let suspect = Candidate::sample(&format!("localhost:{}", address.port()), 1);
        let etcd = AddressPolicy::new([format!("http://{address}").as_str()], []);
        assert_eq!(ask(&suspect, &etcd).await, ProbeResult::Refused);
        let untouched = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
        assert!(untouched.is_err(), "nobody has knocked");
        assert_eq!(ask(&suspect, &AddressPolicy::default()).await, ProbeResult::Good, "without the policy it is asked");
    }
}
