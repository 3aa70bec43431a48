//! The part of Istio's mesh configuration that concerns a control plane without sidecars. What else stands there is
//! other programs', and is passed over.

use crate::error::ParseErrors;
use crate::read::Field;
use crate::selector::Selector;
use crate::strict;

/// The longest trust domain (SPIFFE-ID, section 2.1).
const MAX_TRUST_DOMAIN: usize = 255;
/// How many trust domains may stand for that of the mesh.
const MAX_ALIASES: usize = 64;

/// Settings of a mesh, by the names of Istio's `MeshConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeshConfig {
    /// `trustDomain`: that of every identity.
    pub trust_domain: Option<String>,
    /// `trustDomainAliases`: policies that name one of these, or the trust domain, mean all of them.
    pub trust_domain_aliases: Vec<String>,
    /// `rootNamespace`: the namespace whose policies hold for the whole mesh.
    pub root_namespace: Option<String>,
    /// `discoverySelectors`: only namespaces that match any of them take part; none: every namespace does.
    pub discovery_selectors: Vec<Selector>,
}

impl MeshConfig {
    /// Reads the YAML text that the ConfigMap `istio` has under `mesh`; nothing is a mesh without settings.
    ///
    /// # Errors
    /// All that is wrong with the text and the settings above, by field.
    pub fn parse(text: &str) -> Result<MeshConfig, ParseErrors> {
        if text.trim().is_empty() {
            return Ok(MeshConfig::default());
        }
        strict::read_one("mesh", text, |root| {
            let mut fields = root.fields()?;
            let selectors = fields.get("discoverySelectors").map(|field| field.items());
            Some(MeshConfig {
                trust_domain: fields.get("trustDomain").and_then(|field| trust_domain(&field)),
                trust_domain_aliases: fields
                    .get("trustDomainAliases")
                    .map(|field| aliases(&field))
                    .unwrap_or_default(),
                root_namespace: fields.get("rootNamespace").and_then(|field| text_of(&field)),
                discovery_selectors: selectors
                    .unwrap_or_default()
                    .iter()
                    .filter_map(Selector::read)
                    .collect(),
            })
        })
    }
}

/// Empty is as if it were not there.
fn text_of(field: &Field<'_>) -> Option<String> {
    field.text().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn aliases(field: &Field<'_>) -> Vec<String> {
    let items = field.items();
    if items.len() > MAX_ALIASES {
        field.error(format!("may list at most {MAX_ALIASES}"));
    }
    items.iter().take(MAX_ALIASES).filter_map(trust_domain).collect()
}

fn trust_domain(field: &Field<'_>) -> Option<String> {
    let text = text_of(field)?;
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    if text.len() > MAX_TRUST_DOMAIN || !text.bytes().all(is_allowed) {
        field.error("must be of lower-case letters, digits, dots, dashes and underscores".to_owned());
        return None;
    }
    Some(text)
}
