//! Who: the `source` of a rule.

use std::convert::Infallible;

use super::Matches;
use super::values::{block, http, pattern};
use crate::read::Field;
use crate::syntax::{self, IpBlock};

/// How many service accounts a list may hold, and how long each may be.
const MAX_SERVICE_ACCOUNTS: usize = 16;
const MAX_SERVICE_ACCOUNT_LENGTH: usize = 320;

/// Who asks; every part must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Identities without `spiffe://`; each may begin or end with `*`.
    pub principals: Matches<String>,
    /// Namespaces of the identity; each may begin or end with `*`.
    pub namespaces: Matches<String>,
    /// Service accounts, whatever the trust domain.
    pub service_accounts: Matches<ServiceAccountRef>,
    /// Addresses that packets come from.
    pub ip_blocks: Matches<IpBlock>,
    /// Trust domains are not enforced, so no value can be read: policies that enter have none.
    pub trust_domains: Matches<Infallible>,
    /// The HTTP attributes that are also named, which a layer 4 proxy cannot decide.
    pub http: Vec<&'static str>,
}

/// A service account in a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccountRef {
    /// The namespace; `None`: the policy's own.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl Source {
    pub(super) fn read(field: &Field<'_>) -> Option<Source> {
        const HTTP: [&str; 4] = [
            "remoteIpBlocks",
            "notRemoteIpBlocks",
            "requestPrincipals",
            "notRequestPrincipals",
        ];
        let mut fields = field.fields()?;
        for name in ["serviceAccounts", "notServiceAccounts"] {
            if let Some(field) = fields.get(name) {
                // Only for the limit; the items are read below.
                field.items_up_to(MAX_SERVICE_ACCOUNTS);
            }
        }
        let source = Source {
            principals: Matches::read(&mut fields, "principals", "notPrincipals", |item| {
                item.parsed(principal)
            }),
            namespaces: Matches::read(&mut fields, "namespaces", "notNamespaces", |item| {
                item.parsed(pattern)
            }),
            service_accounts: Matches::read(&mut fields, "serviceAccounts", "notServiceAccounts", |item| {
                item.parsed(service_account)
            }),
            ip_blocks: Matches::read(&mut fields, "ipBlocks", "notIpBlocks", |item| item.parsed(block)),
            trust_domains: Matches::read(&mut fields, "trustDomains", "notTrustDomains", |item| {
                item.error(
                    "trust domains are not enforced here, and leaving the field out silently would change what the \
                     policy means: write the trust domain into principals, such as example.org/*",
                );
                None
            }),
            http: http(&mut fields, &HTTP),
        };
        let names_others = !source.principals.is_empty() || !source.namespaces.is_empty();
        if names_others && !source.service_accounts.is_empty() && !field.is_stored() {
            field.error(
                "serviceAccounts and notServiceAccounts exclude principals and namespaces: use one kind",
            );
        }
        if fields.nothing_found() {
            field.error("an empty source would match everybody; drop the entry if that is meant");
        }
        fields.finish();
        Some(source)
    }
}

/// `namespace/name`, or a name in the policy's namespace.
pub(super) fn service_account(text: &str) -> Result<ServiceAccountRef, String> {
    if text.len() > MAX_SERVICE_ACCOUNT_LENGTH {
        return Err(format!("is longer than {MAX_SERVICE_ACCOUNT_LENGTH} characters"));
    }
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, text),
    };
    let good = namespace.is_none_or(|namespace| syntax::dns_label(namespace).is_ok());
    if !good || syntax::dns_subdomain(name).is_err() {
        return Err(
            "is no service account: write its name, or namespace/name; '*' is not accepted".to_owned(),
        );
    }
    Ok(ServiceAccountRef {
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    })
}

/// An identity without its scheme.
pub(super) fn principal(text: &str) -> Result<String, String> {
    if text.contains("spiffe://") {
        return Err(
            "would never match: drop spiffe:// and write cluster.local/ns/NAMESPACE/sa/ACCOUNT".to_owned(),
        );
    }
    pattern(text)
}
