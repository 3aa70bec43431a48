//! One resource, encoded once for all clients.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use proto::discovery;

use super::ResourceKind;

/// A workload, service or policy as it goes over the wire.
#[derive(Debug)]
pub(crate) struct Resource {
    /// `uid` of a workload, `namespace/hostname` of a service, `namespace/name` of a policy.
    pub(crate) name: Arc<str>,
    /// Equal for equal content, also after a restart and in another replica.
    pub(crate) version: Arc<str>,
    /// The `network/ip` under which on-demand clients may ask for it.
    pub(crate) aliases: Vec<Arc<str>>,
    /// The node that runs it, where it is a workload on one.
    pub(crate) node: Option<Arc<str>>,
    /// The services (`namespace/hostname`) that a workload belongs to.
    pub(crate) services: Vec<Arc<str>>,
    /// The policies (`namespace/name`) that a workload lists.
    pub(crate) listed: Vec<Arc<str>>,
    /// A service and no workload.
    pub(crate) is_service: bool,
    /// Of a policy: it holds for a namespace or for the mesh, listed or not.
    pub(crate) is_wide: bool,
    /// Of a policy: it is tried out and decides nothing, where the proxy knows of such policies.
    pub(crate) is_dry_run: bool,
    /// Made of name and version; see [`super::table::Table::fingerprint`].
    pub(crate) fingerprint: u128,
    /// The message `Resource`, complete.
    pub(crate) encoded: Bytes,
}

/// What on-demand clients may ask for a resource by and what comes with it, and how workloads and policies hang
/// together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    pub(crate) aliases: Vec<Arc<str>>,
    pub(crate) node: Option<Arc<str>>,
    pub(crate) services: Vec<Arc<str>>,
    pub(crate) listed: Vec<Arc<str>>,
    pub(crate) is_service: bool,
    pub(crate) is_wide: bool,
    pub(crate) is_dry_run: bool,
}

impl Resource {
    pub(crate) fn new(kind: ResourceKind, name: &str, payload: Vec<u8>, links: Links) -> Resource {
        let version = version_of(&payload);
        let message = discovery::Resource {
            name: name.to_owned(),
            version: version.clone(),
            aliases: links.aliases.iter().map(|alias| alias.to_string()).collect(),
            resource: Some(prost_types::Any {
                type_url: kind.type_url().to_owned(),
                value: payload,
            }),
            ..discovery::Resource::default()
        };
        Resource {
            name: name.into(),
            fingerprint: fingerprint(name, &version),
            version: version.into(),
            aliases: links.aliases,
            node: links.node,
            services: links.services,
            listed: links.listed,
            is_service: links.is_service,
            is_wide: links.is_wide,
            is_dry_run: links.is_dry_run,
            encoded: message.encode_to_vec().into(),
        }
    }

    /// The resource once more under a name that a client asked for: some clients wait for exactly that name and do
    /// not look at aliases.
    pub(crate) fn encoded_as(&self, name: &str) -> Bytes {
        match discovery::Resource::decode(self.encoded.clone()) {
            Ok(mut message) => {
                message.name = name.to_owned();
                message.encode_to_vec().into()
            }
            // Not reached: it was encoded above. The original is a right answer too.
            Err(_) => self.encoded.clone(),
        }
    }
}

/// A number for a resource of this name in this version.
pub(crate) fn fingerprint(name: &str, version: &str) -> u128 {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in [name, "\0", version] {
        context.update(part.as_bytes());
    }
    let digest = context.finish();
    let bytes = digest.as_ref().iter().take(16);
    bytes.fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// 96 bits of SHA-256 in hex: short, because clients send all versions back when they reconnect.
fn version_of(payload: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, payload);
    digest
        .as_ref()
        .iter()
        .take(12)
        .fold(String::with_capacity(24), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
