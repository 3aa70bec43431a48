//! What the mesh would say.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mesh::authorize::ExplainedPolicy;
use mesh::{Decision, Verdict};

use crate::question::{Caller, Target};

mod json;
mod tree;

pub use tree::Tree;

/// What the mesh would say to a connection.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Who calls, as it was asked.
    pub caller: String,
    /// Who is called, as it was asked.
    pub target: String,
    /// Pass or not. To a Service: not, when one of its endpoints refuses.
    pub verdict: Verdict,
    /// What each endpoint says; never empty, and exactly one unless a Service was asked for.
    pub endpoints: Vec<EndpointAnswer>,
    /// What the verdict rests on that stands in no object, or what was left out.
    pub notes: Vec<String>,
    decisive: usize,
}

/// What one endpoint says.
#[derive(Clone, Debug)]
pub struct EndpointAnswer {
    /// The pod, as `NAMESPACE/NAME`.
    pub pod: String,
    /// The name of its workload.
    pub uid: Arc<str>,
    /// Where the connection arrives.
    pub address: SocketAddr,
    /// Why.
    pub ground: Ground,
    /// What became of each policy on the way, where [`crate::World::explain`] was asked.
    pub policies: Vec<ExplainedPolicy>,
}

/// On what ground an endpoint says what it says.
#[derive(Clone, Debug)]
pub enum Ground {
    /// The endpoint is not in the mesh, so nobody asks any policy: it "is not in the mesh: …".
    NotInMesh(String),
    /// The caller is the endpoint itself: such a connection does not leave the pod.
    Itself,
    /// A waypoint stands in front that cannot be used, and a policy counts on it: nothing passes.
    WaypointUnusable(String),
    /// The node proxy in front of the endpoint decided.
    Decided(Box<Decision>),
}

/// The object that a user wrote and that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deciding {
    /// Its kind; `None` where that cannot be told.
    pub kind: Option<String>,
    /// `NAMESPACE/NAME`.
    pub name: String,
    /// Its rule that matched, counted from 0.
    pub rule: Option<usize>,
}

/// Why a question has no answer. The texts say what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unanswerable {
    /// No such pod.
    #[error("there is no pod {pod}{}", if known.is_empty() { String::new() } else { format!("; there is {}", known.join(", ")) })]
    NoSuchPod {
        /// The pod that was asked for.
        pod: String,
        /// Some with similar names.
        known: Vec<String>,
    },
    /// No such Service.
    #[error("there is no Service {0}")]
    NoSuchService(String),
    /// The pod cannot be called, or call.
    #[error("nothing can be said about pod {pod}: {problem}")]
    Pod {
        /// The pod.
        pod: String,
        /// Why not.
        problem: String,
    },
    /// The Service cannot be called.
    #[error("nothing can be said about Service {service}: {problem}")]
    Service {
        /// The Service.
        service: String,
        /// Why not.
        problem: String,
    },
    /// No certificate can hold this account.
    #[error("no certificate can hold this identity: {0}")]
    NotAnIdentity(String),
    /// The connection leads nowhere, whatever the policies are.
    #[error("{0}")]
    Refused(String),
    /// Caller and target have no common address family.
    #[error("{caller} cannot connect to {target}: one is IPv4, the other IPv6")]
    Families {
        /// The caller's address.
        caller: IpAddr,
        /// The target's address.
        target: IpAddr,
    },
}

impl Answer {
    pub(crate) fn new(
        caller: &Caller,
        target: &Target,
        endpoints: Vec<EndpointAnswer>,
        notes: Vec<String>,
    ) -> Result<Answer, Unanswerable> {
        let refusing = endpoints
            .iter()
            .position(|endpoint| endpoint.verdict() == Verdict::Deny);
        let decided = || {
            endpoints
                .iter()
                .position(|endpoint| matches!(endpoint.ground, Ground::Decided(_)))
        };
        let decisive = refusing.or_else(decided).unwrap_or(0);
        let verdict = endpoints.get(decisive).map(EndpointAnswer::verdict);
        let verdict = verdict.ok_or_else(|| Unanswerable::NoSuchService(target.to_string()))?;
        Ok(Answer {
            caller: caller.to_string(),
            target: target.to_string(),
            verdict,
            endpoints,
            notes,
            decisive,
        })
    }

    /// Whether the connection may pass.
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }

    /// All of it, with what became of each policy.
    pub fn tree(&self) -> Tree<'_> {
        Tree(self)
    }

    /// `allowed: the reason`.
    pub(crate) fn told(&self) -> String {
        format!("{}: {}", word(self.verdict), self.decisive().reason())
    }

    /// The endpoint whose word counts: the first that refuses; where none does, the first that policy decided about.
    pub fn decisive(&self) -> &EndpointAnswer {
        &self.endpoints[self.decisive]
    }
}

impl Answer {
    /// What stands behind the verdict.
    fn remarks(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ground::Decided(decision) = &self.decisive().ground {
            if let Some(miss) = &decision.nearest_miss {
                write!(out, "\n  {miss}")?;
            }
            for part in &decision.not_enforced {
                write!(out, "\n  not enforced: {part}")?;
            }
            for tried in &decision.dry_run {
                let verdict = word(tried.verdict);
                write!(out, "\n  dry run: with {} it would be {verdict}", tried.policy)?;
                match (&tried.not_understood, tried.rule) {
                    (Some(reason), _) => write!(out, ", which is not understood: {reason}")?,
                    (None, Some(rule)) => write!(out, " (rule {rule})")?,
                    (None, None) => {}
                }
            }
        }
        self.notes
            .iter()
            .try_for_each(|note| write!(out, "\n  note: {note}"))
    }
}

impl EndpointAnswer {
    /// Pass or not.
    pub fn verdict(&self) -> Verdict {
        match &self.ground {
            Ground::NotInMesh(_) | Ground::Itself => Verdict::Allow,
            Ground::WaypointUnusable(_) => Verdict::Deny,
            Ground::Decided(decision) => decision.verdict,
        }
    }

    /// A stable word for scripts: one of `docs/reasons.md`, `not_in_mesh` or `itself`.
    pub fn code(&self) -> &'static str {
        match &self.ground {
            Ground::NotInMesh(_) => "not_in_mesh",
            Ground::Itself => "itself",
            Ground::WaypointUnusable(_) => "waypoint_unknown",
            Ground::Decided(decision) => decision.reason.code(),
        }
    }

    /// The object that decided, where a single one did.
    pub fn deciding(&self) -> Option<Deciding> {
        let Ground::Decided(decision) = &self.ground else {
            return None;
        };
        let policy = decision.reason.policy()?;
        Some(Deciding {
            kind: policy.kind().map(|kind| kind.to_string()),
            name: policy.name(),
            rule: decision.reason.rule(),
        })
    }

    /// The reason as a sentence.
    pub fn reason(&self) -> String {
        match &self.ground {
            Ground::NotInMesh(why) => format!("{} {why}", self.pod),
            Ground::Itself => "a pod's connections to itself do not leave it".to_owned(),
            Ground::WaypointUnusable(why) => why.clone(),
            Ground::Decided(decision) => decision.reason.to_string(),
        }
    }
}

/// `allowed: shop/client -> shop/web:80: the reason`; then the endpoints of a Service, and the notes.
impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}: {} -> {}: {}",
            word(self.verdict),
            self.caller,
            self.target,
            self.decisive().reason()
        )?;
        if self.endpoints.len() > 1 {
            for endpoint in &self.endpoints {
                let (pod, port) = (&endpoint.pod, endpoint.address.port());
                write!(
                    out,
                    "\n  {pod}:{port} {}: {}",
                    word(endpoint.verdict()),
                    endpoint.reason()
                )?;
            }
        }
        self.remarks(out)
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allowed",
        Verdict::Deny => "denied",
    }
}
