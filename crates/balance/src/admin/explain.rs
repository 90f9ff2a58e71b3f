//! `/explain?service=mail`: every instance of a service with the verdict and the reasons, the policy that is in force and
//! where it comes from, and who would be picked now. For a person who asks why a request went where it went.

use std::{collections::BTreeSet, time::SystemTime};

use discovery::{Status, policy::Details};
use serde_json::{Value, json};

use crate::{
    clock::{HumanDuration, Millis},
    instance::{candidate::Candidate, outlier::Verdict},
    load_balancing::{
        assess::HealthSummary,
        effective_policy::{EffectivePolicy, PolicySource},
        pick,
    },
    proxy::unavailable,
    table::routing_table::{ExcludedInstance, Service},
};

/// The explanation, at `now`, which is `wall` for other hosts.
pub(crate) fn service(service: &Service, zone: Option<&str>, now: Millis, wall: SystemTime) -> Value {
    let assessment = service.balancer.assess(now);
    let uses_last_resort = std::ptr::eq(service.balancer.candidate_set(), &service.balancer.last_resort);
    let subsets = subsets(service, now);
    let one = |candidate: &Candidate, is_suspect: bool| {
        let place = Place { service, assessment, zone, is_suspect, uses_last_resort, subsets: &subsets };
        place.explain(candidate, now)
    };
    let registered = service.balancer.candidates.all().iter().map(|candidate| one(candidate, false));
    let suspects = service.balancer.last_resort.all().iter().map(|candidate| one(candidate, true));
    let instances: Vec<Value> = registered.chain(service.withheld.iter().map(withheld)).chain(suspects).collect();
    let pick = pick::preview(&service.balancer, now);
    json!({
        "service": service.name,
        "pick_now": pick.as_ref().map(|picked| picked.candidate.key.to_string()),
        "why_nobody": pick.is_none().then(|| unavailable::in_full(service, now).problem().detail),
        "panic": assessment.is_panic,
        "zone": zone,
        "own_zone_permille": service.balancer.candidate_set().zones().map(|_| assessment.near_permille),
        "subsets": subsets.iter().map(|(core, members)| json!({ "core": core, "instances": members.len() })).collect::<Vec<_>>(),
        "policy": policy(&service.balancer.effective_policy),
        "token_keys": service.access.as_ref().and_then(|access| access.key_set()).map(|set| set.explain(wall)),
        "instances": instances,
        "gone": service.tombstones.iter().map(|tombstone| json!({
            "key": tombstone.key,
            "address": tombstone.address,
            "why": format!("{} {} ago", tombstone.cause, HumanDuration(now.since(tombstone.at))),
        })).collect::<Vec<_>>(),
    })
}

/// The cores that pick from some of the instances for now, with the serial numbers of those.
fn subsets(service: &Service, now: Millis) -> Vec<(usize, BTreeSet<u64>)> {
    let cores = 0..service.balancer.cores.len();
    cores.filter_map(|core| Some((core, pick::subset_of(&service.balancer, core, now)?))).collect()
}

fn policy(effective_policy: &EffectivePolicy) -> Value {
    let source = match effective_policy.source {
        PolicySource::Default => "default",
        PolicySource::Etcd => "etcd",
    };
    let mut effective = json!(*effective_policy.policy);
    // Every reader of this page could try passwords on the hashes.
    if let Some(users) = effective.pointer_mut("/auth/basic/users").and_then(Value::as_object_mut) {
        users.values_mut().for_each(|hash| *hash = json!("(a hash)"));
    }
    json!({
        "source": source,
        "not_in_force": effective_policy.mistake.as_ref().map(ToString::to_string),
        "effective": effective,
    })
}

fn withheld(withheld: &ExcludedInstance) -> Value {
    json!({
        "key": withheld.key,
        "address": withheld.address,
        "verdict": "withheld",
        "why": [format!("it {}", unavailable::reason(withheld, Details::Full))],
    })
}

/// What the instances of one shelf have in common.
struct Place<'a> {
    service: &'a Service,
    assessment: HealthSummary,
    zone: Option<&'a str>,
    is_suspect: bool,
    uses_last_resort: bool,
    subsets: &'a [(usize, BTreeSet<u64>)],
}

impl Place<'_> {
    fn explain(&self, candidate: &Candidate, now: Millis) -> Value {
        let (verdict, mut why) = self.judge(candidate, now);
        why.extend(self.remarks(candidate, now));
        let (load, instance) = (&candidate.state.load, &candidate.instance);
        json!({
            "key": candidate.key,
            "address": instance.address,
            "resolves_to": candidate.named.as_ref().map(|named| named.name.answer().addresses.to_vec()),
            "verdict": verdict,
            "why": why,
            "weight": instance.weight,
            "zone": instance.zone,
            "in_flight": load.in_flight(),
            "streams": load.streams(),
            "latency_ms": load.latency_us().map(|us| (us / 100.0).round() / 10.0),
        })
    }

    fn judge(&self, candidate: &Candidate, now: Millis) -> (&'static str, Vec<String>) {
        let mut why = Vec::new();
        if self.is_suspect {
            why.push("its lease expired, and it may still answer".to_owned());
            if !self.uses_last_resort {
                why.push("others are registered".to_owned());
                return ("last_resort", why);
            }
        }
        let is_kept = self.service.is_kept(candidate);
        if is_kept {
            why.push(
                "its key vanished together with others, and it answers: it is used beside the registered ones"
                    .to_owned(),
            );
        }
        let verdict = match candidate.state.outlier.verdict(now) {
            Verdict::Healthy if candidate.is_unresolved() => "unresolved",
            Verdict::Healthy if is_kept => "kept",
            Verdict::Healthy if self.is_suspect => "last_resort_in_use",
            Verdict::Healthy => "in_rotation",
            Verdict::Ejected { until } => {
                let what = if candidate.state.outlier.refuses() { "refused a connection" } else { "failed requests" };
                why.push(format!("it {what}; the next try is in {} ms", until.since(now).as_millis()));
                "ejected"
            }
            Verdict::Probation => {
                why.push("its ejection is over; the next request decides".to_owned());
                "probation"
            }
            Verdict::Failing => {
                why.push("it fails its health checks".to_owned());
                "failing"
            }
        };
        if self.assessment.is_panic && matches!(verdict, "ejected" | "probation" | "failing") {
            why.push("most instances are judged so, which is not believed: it is used nevertheless".to_owned());
        }
        (verdict, why)
    }

    fn remarks(&self, candidate: &Candidate, now: Millis) -> Vec<String> {
        let mut remarks = Vec::new();
        if candidate.instance.status == Status::Degraded {
            let reason = candidate.instance.reason.as_ref().map(|reason| format!(": {reason}"));
            remarks.push(format!("it is degraded{}", reason.unwrap_or_default()));
        }
        let load_balancing = &self.service.policy().load_balancing;
        if let Some(share) = pick::share_permille(candidate, load_balancing.slow_start, now) {
            remarks.push(format!("it has just joined: {} % of its share", share / 10));
        }
        if candidate.state.load.is_full() {
            remarks.push("it has as many requests under way as breaker.in_flight_max allows".to_owned());
        }
        if self.service.balancer.candidate_set().zones().is_some() && candidate.instance.zone.as_deref() != self.zone {
            remarks.push("it is in another zone".to_owned());
        }
        if !self.is_suspect {
            remarks.extend(self.outside(candidate));
        }
        remarks.extend(candidate.trouble().map(|trouble| format!("it {trouble}")));
        remarks.extend(candidate.state.last_check().map(|check| format!("health check: {check}")));
        remarks
    }

    /// Which cores pick from others for now.
    fn outside(&self, candidate: &Candidate) -> Option<String> {
        let without = self.subsets.iter().filter(|(_, members)| !members.contains(&candidate.serial));
        let cores: Vec<String> = without.map(|(core, _)| core.to_string()).collect();
        match cores.split_last()? {
            (core, []) => Some(format!("it is not in core {core}'s subset now")),
            (last, others) => Some(format!("it is not in the subsets of cores {} and {last} now", others.join(", "))),
        }
    }
}
