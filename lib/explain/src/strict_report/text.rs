//! The report for people and for machines.

use std::fmt;

use serde_json::{Value, json};

use super::{CANNOT_KNOW, StrictReport};

/// How many callers a line names.
const NAMED: usize = 5;

impl StrictReport {
    /// The report as JSON; `docs/policy.md` explains each field.
    pub fn to_json(&self) -> Value {
        let breaking = self.breaking.iter().map(|breaking| {
            let callers = breaking.callers.iter();
            let callers: Vec<Value> = callers
                .map(|(pod, ports)| json!({"pod": pod, "ports": ports}))
                .collect();
            json!({"pod": breaking.pod, "callers": callers})
        });
        let kept_away = self.kept_away.iter().map(|kept| {
            json!({"pod": kept.pod, "caller": kept.caller, "ports": kept.ports, "policies": kept.policies})
        });
        let callers = self
            .callers
            .iter()
            .map(|caller| json!({"pod": caller.pod, "why": caller.why}));
        let open = self.stays_open.iter();
        let open = open.map(|open| json!({"pod": open.pod, "port": open.port, "by": open.by}));
        json!({
            "looked_at": self.looked_at,
            "breaking": breaking.collect::<Vec<Value>>(),
            "kept_away": kept_away.collect::<Vec<Value>>(),
            "network_policies_enforced": self.network_policies_enforced,
            "callers": callers.collect::<Vec<Value>>(),
            "stays_open": open.collect::<Vec<Value>>(),
            "unknown_addresses": self.unknown_addresses,
            "cannot_know": CANNOT_KNOW,
        })
    }
}

impl fmt::Display for StrictReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} of {} pods in the mesh would refuse under STRICT a caller that they let in now.",
            self.breaking.len(),
            self.looked_at
        )?;
        for breaking in &self.breaking {
            write!(out, "\n  {} would refuse ", breaking.pod)?;
            for (position, (caller, ports)) in breaking.callers.iter().take(NAMED).enumerate() {
                let joint = if position == 0 { "" } else { ", " };
                write!(out, "{joint}{caller} ({})", on(ports))?;
            }
            match breaking.callers.len().saturating_sub(NAMED) {
                0 => {}
                more => write!(out, " and {more} more")?,
            }
        }
        if !self.kept_away.is_empty() {
            let whether = if self.network_policies_enforced {
                "so they lose nothing:"
            } else {
                "where a network plugin enforces these (--network-policy-enforced if one does):"
            };
            write!(out, "\nKept away by NetworkPolicies already, {whether}")?;
            for kept in &self.kept_away {
                let policies: Vec<&str> = kept.policies.iter().map(String::as_str).collect();
                let (caller, pod, ports) = (&kept.caller, &kept.pod, on(&kept.ports));
                write!(out, "\n  {caller} from {pod} ({ports}): {}", policies.join(", "))?;
            }
        }
        if !self.unknown_addresses.is_empty() {
            write!(
                out,
                "\nWithout an address in the manifests, where policies ask for addresses, and so counted as let in now \
                 (give them status.podIP):"
            )?;
            for pod in &self.unknown_addresses {
                write!(out, "\n  {pod}")?;
            }
        }
        if !self.callers.is_empty() {
            write!(out, "\nOutside of the mesh, and so callers in plaintext:")?;
            for caller in &self.callers {
                write!(out, "\n  {} {}", caller.pod, caller.why)?;
            }
        }
        if !self.stays_open.is_empty() {
            write!(out, "\nWould take plaintext still:")?;
            for open in &self.stays_open {
                let ports: Vec<u16> = open.port.into_iter().collect();
                write!(out, "\n  {} ({})", open.pod, on(&ports))?;
                if let Some(by) = &open.by {
                    write!(out, ": PeerAuthentication {by}")?;
                }
            }
        }
        write!(out, "\nWhat this cannot know:")?;
        CANNOT_KNOW
            .iter()
            .try_for_each(|sentence| write!(out, "\n  {sentence}"))
    }
}

fn on(ports: &[u16]) -> String {
    let shown: Vec<String> = ports.iter().map(u16::to_string).collect();
    match ports {
        [] => "any port".to_owned(),
        [_] => format!("port {}", shown.concat()),
        _ => format!("ports {}", shown.join(", ")),
    }
}
