//! Serving workloads, services and policies over delta xDS.
//!
//! [`table`] holds what is served, encoded once for everybody, and [`history`] how it came to be so; [`session`] is
//! the protocol of one stream, without I/O; [`service`], [`body`] and [`pieces`] join them to gRPC; [`proxies`] knows who
//! is connected and how
//! far each one is. [`bundle`] is the roots that are trusted, for proxies that ask for them.

pub(crate) mod body;
pub(crate) mod bundle;
pub(crate) mod codec;
pub(crate) mod history;
pub(crate) mod node;
pub(crate) mod pieces;
pub(crate) mod proxies;
pub(crate) mod resource;
pub(crate) mod resources;
pub(crate) mod service;
pub(crate) mod session;
pub(crate) mod table;

use std::fmt;

use proto::origin::TRUST_BUNDLE_TYPE_URL;
use proto::security::AUTHORIZATION_TYPE_URL;
use proto::workload::ADDRESS_TYPE_URL;

/// What is served, by type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ResourceKind {
    /// Policies. Before the addresses, because a workload must not be known before the policies that it lists.
    Authorization,
    /// Workloads and services.
    Address,
    /// The roots that are trusted. Not of the mesh's objects, and served apart.
    TrustBundle,
}

impl ResourceKind {
    /// What is made of the mesh's objects.
    pub(crate) const ALL: [ResourceKind; 2] = [ResourceKind::Authorization, ResourceKind::Address];

    pub(crate) fn type_url(self) -> &'static str {
        match self {
            ResourceKind::Authorization => AUTHORIZATION_TYPE_URL,
            ResourceKind::Address => ADDRESS_TYPE_URL,
            ResourceKind::TrustBundle => TRUST_BUNDLE_TYPE_URL,
        }
    }

    pub(crate) fn from_type_url(type_url: &str) -> Option<ResourceKind> {
        ResourceKind::ALL
            .into_iter()
            .find(|kind| kind.type_url() == type_url)
    }
}

/// The message's name, as logs and the debug page say it.
impl fmt::Display for ResourceKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            ResourceKind::Authorization => "Authorization",
            ResourceKind::Address => "Address",
            ResourceKind::TrustBundle => "TrustBundle",
        })
    }
}
