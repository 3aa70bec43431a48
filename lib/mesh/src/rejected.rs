//! What is said about a resource that was not understood.

use std::fmt;

use crate::policy::Scope;
use crate::service::ServiceAddress;

/// A resource that cannot be understood, and therefore is not used. The last good version stays;
/// without one a closed placeholder is left ([`crate::Change::RejectedPolicy`],
/// [`crate::Change::RejectedAddress`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The resource: a uid, `namespace/hostname` or `namespace/name`; empty when not even that could be read.
    pub name: String,
    /// What was not understood, and where, as part of a sentence.
    pub reason: String,
    /// Of a policy: whom it selects, where that could be read with certainty.
    pub scope: Option<Scope>,
    /// Of a policy: it could be read with certainty that it is not to be enforced.
    pub dry_run: bool,
    /// Of a workload or service: the addresses, single ones and blocks, that could be read all the same.
    pub addresses: Vec<ServiceAddress>,
}

impl Rejected {
    /// A rejection of which nothing else is known.
    pub fn new(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reason: reason.into(),
            scope: None,
            dry_run: false,
            addresses: Vec::new(),
        }
    }

    /// The same under the name by which the resource was delivered, which counts more than what it says of
    /// itself.
    pub fn named(self, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..self
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

impl std::error::Error for Rejected {}
