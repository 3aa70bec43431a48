//! The roots that are trusted, as one resource, and what one stream was told of it. Apart from the session, because
//! roots need no order with workloads and policies, and must not wait for them.

use std::sync::Arc;

use ca::Revocations;
use prost::Message;
use proto::origin::TrustBundle;

use super::ResourceKind;
use super::resource::{Links, Resource};
use super::resources::Resources;
use super::session::{Rejection, Request, Response, shortened};

/// The roots that are trusted, at one generation.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) generation: u64,
    /// Of what is revoked.
    pub(crate) revocation_number: u64,
    resource: Resource,
}

/// What one stream has asked for and was told. Without I/O.
pub(crate) struct BundleSession {
    /// Makes this stream's nonces unlike those of any other.
    stream: u64,
    nonces: u64,
    current: Option<Arc<Bundle>>,
    is_subscribed: bool,
    /// The version that was sent last on this stream, or that the proxy has from an earlier one.
    told: Option<Arc<str>>,
    unanswered: Option<Unanswered>,
    acknowledged: Option<u64>,
    rejected: Option<Rejection>,
}

struct Unanswered {
    nonce: String,
    generation: u64,
}

impl Bundle {
    /// The roots of `trust_domain`, those that were exchanged in good order, both in PEM, and what is revoked.
    pub(crate) fn new(
        generation: u64,
        trust_domain: &str,
        roots: &str,
        retired: &str,
        revoked: Option<&Revocations>,
    ) -> Bundle {
        let revocation_number = revoked.map_or(0, |revoked| revoked.number);
        let message = TrustBundle {
            generation,
            trust_domain: trust_domain.to_owned(),
            roots: roots.to_owned(),
            retired_roots: retired.to_owned(),
            revocation_lists: revoked.map(|revoked| revoked.lists.clone()).unwrap_or_default(),
            revocation_number,
        };
        let payload = message.encode_to_vec();
        Bundle {
            generation,
            revocation_number,
            resource: Resource::new(ResourceKind::TrustBundle, trust_domain, payload, Links::default()),
        }
    }
}

#[cfg(test)]
impl Bundle {
    /// What a proxy reads in it.
    pub(crate) fn resource_roots(&self) -> tls::Roots {
        let message = proto::discovery::Resource::decode(self.resource.encoded.clone()).unwrap();
        let body = TrustBundle::decode(&*message.resource.unwrap().value).unwrap();
        tls::Roots::from_pem(&body.roots).unwrap()
    }

    pub(crate) fn resource_lists(&self) -> tls::RevocationLists {
        let message = proto::discovery::Resource::decode(self.resource.encoded.clone()).unwrap();
        let body = TrustBundle::decode(&*message.resource.unwrap().value).unwrap();
        tls::RevocationLists::parse([body.revocation_lists.as_bytes()]).unwrap()
    }
}

impl BundleSession {
    pub(crate) fn new(stream: u64, current: Option<Arc<Bundle>>) -> BundleSession {
        BundleSession {
            stream,
            nonces: 0,
            current,
            is_subscribed: false,
            told: None,
            unanswered: None,
            acknowledged: None,
            rejected: None,
        }
    }

    /// The bundle is now so.
    pub(crate) fn update(&mut self, current: Option<Arc<Bundle>>) {
        self.current = current;
    }

    /// Takes a request; returns what the proxy rejects with it.
    pub(crate) fn request(&mut self, request: Request) -> Option<Rejection> {
        if !self.is_subscribed {
            self.is_subscribed = true;
            self.resume(&request);
        }
        let answered = self.unanswered.take_if(|sent| sent.nonce == request.nonce)?;
        self.rejected = request.error.map(|reason| Rejection {
            kind: ResourceKind::TrustBundle,
            name: self.name(),
            reason: shortened(&reason),
        });
        if self.rejected.is_none() {
            self.acknowledged = Some(answered.generation);
        }
        self.rejected.clone()
    }

    /// What is to be sent now.
    pub(crate) fn next(&mut self) -> Option<Response> {
        let current = self.current.as_ref().filter(|_| self.is_subscribed)?;
        if self.told.as_ref() == Some(&current.resource.version) {
            return None;
        }
        self.told = Some(current.resource.version.clone());
        self.nonces += 1;
        let nonce = format!("{:x}-roots-{}", self.stream, self.nonces);
        self.unanswered = Some(Unanswered {
            nonce: nonce.clone(),
            generation: current.generation,
        });
        Some(Response {
            kind: ResourceKind::TrustBundle,
            nonce,
            revision: current.generation,
            resources: Resources::These(vec![current.resource.encoded.clone()]),
            removed: Vec::new(),
        })
    }

    /// The generation that is in force at the proxy, by its own word.
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        self.acknowledged
    }

    /// What the proxy does not accept, and was not sent anew.
    pub(crate) fn rejected(&self) -> Option<&Rejection> {
        self.rejected.as_ref()
    }

    /// What the proxy has from an earlier stream is in force.
    fn resume(&mut self, request: &Request) {
        let Some(current) = &self.current else { return };
        let has = request.initial_versions.get(&*current.resource.name);
        if has.is_some_and(|version| **version == *current.resource.version) {
            self.told = Some(current.resource.version.clone());
            self.acknowledged = Some(current.generation);
        }
    }

    fn name(&self) -> String {
        let name = self
            .current
            .as_ref()
            .map(|current| current.resource.name.to_string());
        name.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
