//! Which object of the user a policy was made of, as our control plane tells it in extensions.
//!
//! It names things for people and decides nothing, so what cannot be read is as if it were not there.

use std::fmt;
use std::sync::Arc;

use prost::Message;
use proto::origin as message;
use proto::workload::Extension;

use crate::port::port_number;

/// The most entries of [`Origin::not_enforced`] that are kept; an object has few rules.
pub const MAX_NOT_ENFORCED_RULES: usize = 64;
/// The most attributes that are kept of one entry.
pub const MAX_NOT_ENFORCED_ATTRIBUTES: usize = 16;
/// The most characters that are kept of [`Origin::closed_because`].
pub const MAX_CLOSED_BECAUSE: usize = 512;

/// The object of the user that a policy was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// What it is.
    pub kind: ObjectKind,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its `metadata.generation`; 0 where it has none.
    pub generation: i64,
    /// For each rule of the policy the rule of the object that it was made of, counted from 0.
    pub rules: Vec<u32>,
    /// What it says and nobody enforces.
    pub not_enforced: Vec<NotEnforcedRule>,
    /// Why the object as a whole cannot be read, so that it refuses whatever it could have refused; none when it can.
    /// At most [`MAX_CLOSED_BECAUSE`] characters.
    pub closed_because: Option<Arc<str>>,
}

/// The kinds of objects that policies are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// An `AuthorizationPolicy`.
    AuthorizationPolicy,
    /// A `PeerAuthentication`.
    PeerAuthentication,
}

/// A part of an object that a node proxy does not enforce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotEnforcedRule {
    /// The rule of the object, counted from 0.
    pub rule: u32,
    /// The attributes, as the object names them, such as `methods`.
    pub attributes: Arc<[Arc<str>]>,
    /// What becomes of the rule.
    pub effect: Effect,
}

/// What becomes of a rule of which a part is not enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// An ALLOW rule is left out, so it allows nothing.
    RuleOmitted,
    /// A DENY rule is enforced without the part, so it denies more.
    EnforcedWithout,
    /// Nothing of a DENY rule is left, so it denies nothing.
    NoEffect,
}

/// The `PeerAuthentication`s that decide whether a workload takes plaintext.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerAuthentications {
    /// Decides about every port that is not in `ports`.
    pub base: Option<Arc<Origin>>,
    /// Decides about `ports`.
    pub by_port: Option<Arc<Origin>>,
    /// Ports of the application, in ascending order.
    pub ports: Vec<u16>,
}

impl Origin {
    /// The object's rule that the policy's rule was made of: the same number where that was not told.
    pub fn rule(&self, rule: usize) -> usize {
        self.rules.get(rule).map_or(rule, |rule| *rule as usize)
    }

    /// Reads the extension of a policy.
    pub(super) fn of_policy(extensions: &[Extension]) -> Option<Arc<Self>> {
        let message: message::Origin = find(extensions, message::ORIGIN_EXTENSION, message::ORIGIN_TYPE_URL)?;
        Self::read(message)
    }

    fn read(message: message::Origin) -> Option<Arc<Self>> {
        let kind = match message.kind.as_str() {
            "AuthorizationPolicy" => ObjectKind::AuthorizationPolicy,
            "PeerAuthentication" => ObjectKind::PeerAuthentication,
            _ => return None,
        };
        if message.namespace.is_empty() || message.name.is_empty() {
            return None;
        }
        let closed_because: String = message.closed_because.chars().take(MAX_CLOSED_BECAUSE).collect();
        let not_enforced = message.not_enforced.into_iter().take(MAX_NOT_ENFORCED_RULES);
        Some(Arc::new(Self {
            kind,
            namespace: message.namespace.into(),
            name: message.name.into(),
            generation: message.generation,
            rules: message.rules,
            not_enforced: not_enforced.filter_map(NotEnforcedRule::read).collect(),
            closed_because: (!closed_because.is_empty()).then(|| closed_because.into()),
        }))
    }
}

impl NotEnforcedRule {
    fn read(message: message::NotEnforced) -> Option<Self> {
        let attributes = message.attributes.into_iter().take(MAX_NOT_ENFORCED_ATTRIBUTES);
        Some(Self {
            rule: message.rule,
            attributes: attributes.map(Arc::from).collect(),
            effect: match message::Effect::try_from(message.effect).ok()? {
                message::Effect::RuleOmitted => Effect::RuleOmitted,
                message::Effect::EnforcedWithout => Effect::EnforcedWithout,
                message::Effect::NoEffect => Effect::NoEffect,
                message::Effect::Unspecified => return None,
            },
        })
    }
}

impl PeerAuthentications {
    /// The object that decides about connections to this port of the application.
    pub fn deciding(&self, port: u16) -> Option<&Arc<Origin>> {
        if self.ports.binary_search(&port).is_ok() {
            self.by_port.as_ref()
        } else {
            self.base.as_ref()
        }
    }

    /// Reads the extension of a workload.
    pub(crate) fn of_workload(extensions: &[Extension]) -> Option<Arc<Self>> {
        let (name, type_url) = (
            message::PEER_AUTHENTICATION_EXTENSION,
            message::PEER_AUTHENTICATION_TYPE_URL,
        );
        let message: message::PeerAuthenticationOrigin = find(extensions, name, type_url)?;
        let mut ports: Vec<u16> = message
            .ports
            .into_iter()
            .filter_map(|port| port_number(port).ok())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        Some(Arc::new(Self {
            base: message.base.and_then(Origin::read),
            by_port: message.by_port.and_then(Origin::read),
            ports,
        }))
    }
}

fn find<M: Message + Default>(extensions: &[Extension], name: &str, type_url: &str) -> Option<M> {
    let config = extensions
        .iter()
        .find(|extension| extension.name == name)?
        .config
        .as_ref()?;
    if config.type_url != type_url {
        return None;
    }
    M::decode(config.value.as_slice()).ok()
}

impl ObjectKind {
    /// The kind as it stands in the object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::PeerAuthentication => "PeerAuthentication",
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RuleOmitted => "the rule is left out and allows nothing",
            Self::EnforcedWithout => "the rule is enforced without it and may deny more than it says",
            Self::NoEffect => "nothing of the rule is left and it denies nothing",
        })
    }
}

/// `namespace/name`, with the generation where there is one.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)?;
        if self.generation > 0 {
            write!(f, ", generation {}", self.generation)?;
        }
        Ok(())
    }
}
