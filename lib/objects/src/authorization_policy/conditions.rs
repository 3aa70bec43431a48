//! The `when` conditions of a rule.

use super::source::{principal, service_account};
use super::values::{block, pattern, port, some_text};
use super::{Matches, ServiceAccountRef};
use crate::document::quoted;
use crate::read::{Field, Fields};
use crate::syntax::IpBlock;

/// One condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The attribute, as written.
    pub key: String,
    /// What is asked of it.
    pub test: Test,
}

/// What is asked of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// `source.ip`.
    SourceIp(Matches<IpBlock>),
    /// `source.namespace`.
    SourceNamespace(Matches<String>),
    /// `source.principal`.
    SourcePrincipal(Matches<String>),
    /// `source.serviceAccount`.
    SourceServiceAccount(Matches<ServiceAccountRef>),
    /// `destination.ip`.
    DestinationIp(Matches<IpBlock>),
    /// `destination.port`.
    DestinationPort(Matches<u16>),
    /// An attribute of HTTP or of the TLS handshake, which a layer 4 proxy cannot decide.
    Http,
}

impl Condition {
    pub(super) fn read(field: &Field<'_>) -> Option<Condition> {
        let mut fields = field.fields()?;
        let key = fields.require("key", "the attribute").and_then(|field| {
            let key = field.text()?;
            if !is_known(key) {
                field.error(format!(
                    "there is no attribute {}; known are {}",
                    quoted(key),
                    KNOWN.join(", ")
                ));
                return None;
            }
            Some(key)
        });
        if fields.get("values").or(fields.get("notValues")).is_none() {
            field.error("needs values or notValues");
        }
        let test = match key {
            Some("source.ip") => Some(Test::SourceIp(both(&mut fields, block))),
            Some("source.namespace") => Some(Test::SourceNamespace(both(&mut fields, pattern))),
            Some("source.principal") => Some(Test::SourcePrincipal(both(&mut fields, principal))),
            Some("source.serviceAccount") => {
                Some(Test::SourceServiceAccount(both(&mut fields, service_account)))
            }
            Some("destination.ip") => Some(Test::DestinationIp(both(&mut fields, block))),
            Some("destination.port") => Some(Test::DestinationPort(both(&mut fields, port))),
            Some(_) => {
                both(&mut fields, some_text);
                Some(Test::Http)
            }
            None => None,
        };
        fields.finish();
        Some(Condition {
            key: key?.to_owned(),
            test: test?,
        })
    }
}

fn both<T>(fields: &mut Fields<'_>, read: fn(&str) -> Result<T, String>) -> Matches<T> {
    Matches::read(fields, "values", "notValues", |item| item.parsed(read))
}

const KNOWN: [&str; 14] = [
    "source.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "destination.ip",
    "destination.port",
    "remote.ip",
    "connection.sni",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "request.headers[NAME]",
    "request.auth.claims[NAME]",
    "experimental.envoy.filters.NAME",
];

fn is_known(key: &str) -> bool {
    let bracketed = |prefix: &str| {
        key.strip_prefix(prefix)
            .is_some_and(|rest| rest.len() > 2 && rest.starts_with('[') && rest.ends_with(']'))
    };
    KNOWN[..11].contains(&key)
        || bracketed("request.headers")
        || bracketed("request.auth.claims")
        || key
            .strip_prefix("experimental.envoy.filters.")
            .is_some_and(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests;
