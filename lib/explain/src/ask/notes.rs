//! What there is to say beside the verdict: what it rests on that nobody wrote.

use std::collections::BTreeSet;

use objects::{Kind, Spec};
use proto::security::Authorization;

use super::Speaker;
use crate::answer::{EndpointAnswer, Ground};
use crate::question::Caller;
use crate::world::World;

/// How many pods or policies a note names.
const NAMED: usize = 3;

impl World {
    pub(super) fn notes(
        &self,
        caller: &Caller,
        speaker: &Speaker,
        answers: &[EndpointAnswer],
        passes_waypoint: bool,
    ) -> Vec<String> {
        let decided: Vec<&EndpointAnswer> = answers
            .iter()
            .filter(|answer| matches!(answer.ground, Ground::Decided(_)))
            .collect();
        let mut notes = Vec::new();
        if let Caller::Pod { namespace, name } = caller
            && let Some(pod) = self.pod(namespace, name)
            && !pod.membership.is_inside()
            && !decided.is_empty()
        {
            notes.push(format!("{caller} speaks plaintext: it {}", pod.membership));
        }
        let by_address = self.policies_on_addresses(&decided);
        if !by_address.is_empty() {
            let policies = some(&by_address);
            if speaker.addresses.is_empty() {
                notes.push(format!(
                    "{caller} has no address, so it is in no ipBlocks, and notIpBlocks keep nobody out: {policies} \
                     may decide otherwise for an address; ask with @IP"
                ));
            }
            let mut made_up: Vec<String> = decided.iter().map(|answer| answer.pod.clone()).collect();
            if let Caller::Pod { namespace, name } = caller {
                made_up.insert(0, format!("{namespace}/{name}"));
            }
            made_up.retain(|pod| self.has_made_up_address(pod));
            if !made_up.is_empty() {
                notes.push(format!(
                    "{} has no address in the manifests, so one for documentation stands for it, and {policies} \
                     asks for addresses: give it status.podIP",
                    some(&made_up)
                ));
            }
        }
        if !passes_waypoint {
            notes.extend(self.waypoint_policies(&decided));
        }
        notes
    }

    fn has_made_up_address(&self, pod: &str) -> bool {
        let place = pod.split_once('/');
        place
            .and_then(|(namespace, name)| self.pod(namespace, name))
            .is_some_and(|pod| pod.made_up_address)
    }

    /// The policies for these endpoints that ask for an address.
    fn policies_on_addresses(&self, answers: &[&EndpointAnswer]) -> Vec<String> {
        let mut found = Vec::new();
        for answer in answers {
            let Some(workload) = self.snapshot().workload(&answer.uid) else {
                continue;
            };
            for policy in self.snapshot().policies_selecting(workload) {
                let key = policy.key().to_string();
                if self.compiled_policy(&key).is_some_and(asks_for_addresses) && !found.contains(&key) {
                    found.push(key);
                }
            }
        }
        found
    }

    /// Policies that are a waypoint's affair, in the namespaces of these endpoints.
    fn waypoint_policies(&self, answers: &[&EndpointAnswer]) -> Option<String> {
        let namespaces: BTreeSet<&str> = answers
            .iter()
            .filter_map(|answer| answer.pod.split_once('/'))
            .map(|(namespace, _)| namespace)
            .collect();
        let mut found = Vec::new();
        let policies = namespaces
            .iter()
            .flat_map(|namespace| self.objects_in(Kind::AuthorizationPolicy, namespace));
        for object in policies {
            let Spec::AuthorizationPolicy(policy) = &object.spec else {
                continue;
            };
            if !policy.target_refs.is_empty() {
                found.push(format!("{}/{}", object.metadata.namespace, object.metadata.name));
            }
        }
        (!found.is_empty()).then(|| {
            format!(
                "not asked: {}, which targetRefs attach to a waypoint; node proxies do not enforce them",
                some(&found)
            )
        })
    }
}

pub(crate) fn asks_for_addresses(policy: &Authorization) -> bool {
    let clauses = policy.rules.iter().flat_map(|rule| &rule.clauses);
    let mut matches = clauses.flat_map(|clause| &clause.matches);
    matches.any(|part| {
        let lists = [
            &part.source_ips,
            &part.not_source_ips,
            &part.destination_ips,
            &part.not_destination_ips,
        ];
        lists.iter().any(|list| !list.is_empty())
    })
}

/// The first few, and how many more.
pub(super) fn some(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
