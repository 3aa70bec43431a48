//! Who: the `source` of a rule.

use super::{Matches, block, http, list, pattern};
use crate::read::{Field, Fields};
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
        let mut source = Source::default();
        source.principals.any = list(&mut fields, "principals", |item| item.parsed(principal));
        source.principals.none = list(&mut fields, "notPrincipals", |item| item.parsed(principal));
        source.namespaces.any = list(&mut fields, "namespaces", |item| item.parsed(pattern));
        source.namespaces.none = list(&mut fields, "notNamespaces", |item| item.parsed(pattern));
        source.service_accounts.any = service_accounts(&mut fields, "serviceAccounts");
        source.service_accounts.none = service_accounts(&mut fields, "notServiceAccounts");
        source.ip_blocks.any = list(&mut fields, "ipBlocks", |item| item.parsed(block));
        source.ip_blocks.none = list(&mut fields, "notIpBlocks", |item| item.parsed(block));
        source.http = http(&mut fields, &HTTP);
        for name in ["trustDomains", "notTrustDomains"] {
            if let Some(field) = fields.get(name) {
                field.error(
                    "trust domains are not enforced here, and leaving the field out silently would change what the \
                     policy means: write the trust domain into principals, such as example.org/*",
                );
            }
        }
        let others = source.principals.any.len()
            + source.principals.none.len()
            + source.namespaces.any.len()
            + source.namespaces.none.len();
        if others > 0 && !source.service_accounts.is_empty() {
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

fn service_accounts(fields: &mut Fields<'_>, name: &'static str) -> Vec<ServiceAccountRef> {
    if let Some(field) = fields.get(name) {
        // Only for the limit; the items are read below.
        field.items_up_to(MAX_SERVICE_ACCOUNTS);
    }
    list(fields, name, |item| item.parsed(service_account))
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
