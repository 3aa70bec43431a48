//! SPIFFE identities: who a workload is.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest SPIFFE id in bytes (SPIFFE-ID §2.3).
pub const MAX_SPIFFE_ID_LENGTH: usize = 2048;
/// The longest trust domain in bytes (SPIFFE-ID §2.3).
pub const MAX_TRUST_DOMAIN_LENGTH: usize = 255;

/// The identity of a workload: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
///
/// Identities are compared as parsed parts, never as patterns or text, so nothing in a name can change what
/// it matches. `Ord` makes sets of them have one order.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    trust_domain: Arc<str>,
    namespace: Arc<str>,
    service_account: Arc<str>,
}

impl Identity {
    /// An identity of parts known to be good (constants, values that were checked before). Parts that no SPIFFE
    /// id can have give an identity that equals no parsed one; [`Identity::try_new`] refuses them.
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Self {
        Self {
            trust_domain: trust_domain.into(),
            namespace: namespace.into(),
            service_account: service_account.into(),
        }
    }

    /// An identity of parts from outside.
    pub fn try_new(
        trust_domain: &str,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, IdentityError> {
        let length = "spiffe:///ns//sa/".len() + trust_domain.len() + namespace.len() + service_account.len();
        if length > MAX_SPIFFE_ID_LENGTH {
            return Err(IdentityError::TooLong { length });
        }
        check_trust_domain(trust_domain)?;
        check_segment(namespace, "namespace")?;
        check_segment(service_account, "service account")?;
        Ok(Self::new(trust_domain, namespace, service_account))
    }

    /// The trust domain, for instance `cluster.local`.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Kubernetes service account.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    /// The id without `spiffe://`, which is what `principals` in policies are compared with.
    pub fn principal(&self) -> String {
        format!(
            "{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    /// Reads exactly `spiffe://td/ns/x/sa/y`: no other scheme, case, segment count, port, query or escape.
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        if text.len() > MAX_SPIFFE_ID_LENGTH {
            return Err(IdentityError::TooLong { length: text.len() });
        }
        let rest = text.strip_prefix("spiffe://").ok_or(IdentityError::Scheme)?;
        // Six, so that a sixth segment is seen as one too many instead of being cut off.
        let mut segments = rest.splitn(6, '/');
        let mut next = || segments.next().ok_or(IdentityError::Shape);
        let (trust_domain, ns, namespace, sa, service_account) =
            (next()?, next()?, next()?, next()?, next()?);
        if ns != "ns" || sa != "sa" || segments.next().is_some() {
            return Err(IdentityError::Shape);
        }
        Self::try_new(trust_domain, namespace, service_account)
    }
}

/// Why a text is no identity. Blames whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Longer than a SPIFFE id may be.
    #[error("a SPIFFE id has at most {MAX_SPIFFE_ID_LENGTH} bytes, this has {length}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Another scheme, or none.
    #[error("an identity begins with \"spiffe://\"")]
    Scheme,
    /// Not the five segments of a Kubernetes workload.
    #[error("an identity has the form spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT")]
    Shape,
    /// A part without content, or `.` or `..`.
    #[error("the {part} of an identity may not be empty, \".\" or \"..\"")]
    Empty {
        /// Which part.
        part: &'static str,
    },
    /// A trust domain longer than allowed.
    #[error("a trust domain has at most {MAX_TRUST_DOMAIN_LENGTH} bytes, this has {length}")]
    TrustDomainTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A character that SPIFFE does not allow there.
    #[error("the {part} of an identity contains {character:?}; allowed are {allowed}")]
    Character {
        /// Which part.
        part: &'static str,
        /// The first offending character.
        character: char,
        /// What may stand there.
        allowed: &'static str,
    },
}

/// SPIFFE-ID §2.1: lower-case letters, digits, dots, dashes, underscores.
fn check_trust_domain(text: &str) -> Result<(), IdentityError> {
    if text.len() > MAX_TRUST_DOMAIN_LENGTH {
        return Err(IdentityError::TrustDomainTooLong { length: text.len() });
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    check_characters(text, "trust domain", allowed, "a-z, 0-9, '.', '-' and '_'")
}

/// SPIFFE-ID §2.2: letters, digits, dots, dashes, underscores; no relative segments.
fn check_segment(text: &str, part: &'static str) -> Result<(), IdentityError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    check_characters(text, part, allowed, "a-z, A-Z, 0-9, '.', '-' and '_'")
}

fn check_characters(
    text: &str,
    part: &'static str,
    is_allowed: impl Fn(char) -> bool,
    allowed: &'static str,
) -> Result<(), IdentityError> {
    if matches!(text, "" | "." | "..") {
        return Err(IdentityError::Empty { part });
    }
    match text.chars().find(|c| !is_allowed(*c)) {
        Some(character) => Err(IdentityError::Character {
            part,
            character,
            allowed,
        }),
        None => Ok(()),
    }
}
