//! The part of Istio's mesh configuration that concerns a control plane without sidecars. What else stands there is
//! other programs', and is passed over.

use crate::error::ParseErrors;
use crate::read::Field;
use crate::selector::{Labels, Operator, Requirement, Selector};
use crate::strict;

/// The longest trust domain (SPIFFE-ID, section 2.1).
const MAX_TRUST_DOMAIN: usize = 255;
/// How many trust domains may stand for that of the mesh.
const MAX_ALIASES: usize = 64;
/// How many rules may say which Services are for all clusters.
const MAX_SCOPES: usize = 64;
/// The label that makes a Service one of all clusters where the settings do not say it otherwise, as in Istio's ambient
/// profile.
const GLOBAL_LABEL: &str = "istio.io/global";

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
    /// `serviceScopeConfigs`: which Services are for all clusters of the mesh.
    pub service_scopes: ServiceScopes,
}

/// Which Services are for all clusters of the mesh, and which for their own alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceScopes(pub Vec<ServiceScope>);

/// One rule of [`ServiceScopes`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceScope {
    /// `namespaceSelector`: the namespaces of the Services; all, where it says nothing.
    pub namespaces: Selector,
    /// `servicesSelector`: the Services; all, where it says nothing.
    pub services: Selector,
    /// `scope`: `GLOBAL`, and not `LOCAL`.
    pub is_global: bool,
}

impl Default for ServiceScopes {
    /// The Services with the label `istio.io/global: "true"`.
    fn default() -> ServiceScopes {
        let labelled = Requirement {
            key: GLOBAL_LABEL.to_owned(),
            operator: Operator::In,
            values: vec!["true".to_owned()],
        };
        ServiceScopes(vec![ServiceScope {
            services: Selector {
                expressions: vec![labelled],
                ..Selector::default()
            },
            is_global: true,
            ..ServiceScope::default()
        }])
    }
}

impl ServiceScopes {
    /// Whether a Service with these labels, in a namespace with those, is for all clusters: the first rule that selects it
    /// says so. A Service that none selects is for its own cluster.
    pub fn is_global(&self, service: &Labels, namespace: &Labels) -> bool {
        let selects =
            |rule: &&ServiceScope| rule.services.matches(service) && rule.namespaces.matches(namespace);
        self.0.iter().find(selects).is_some_and(|rule| rule.is_global)
    }
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
                service_scopes: fields
                    .get("serviceScopeConfigs")
                    .map(|field| scopes(&field))
                    .unwrap_or_default(),
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

fn scopes(field: &Field<'_>) -> ServiceScopes {
    let items = field.items_up_to(MAX_SCOPES);
    ServiceScopes(items.iter().filter_map(scope).collect())
}

fn scope(field: &Field<'_>) -> Option<ServiceScope> {
    let mut fields = field.fields()?;
    let mut selector = |name| {
        let field = fields.get(name);
        field.and_then(|field| Selector::read(&field)).unwrap_or_default()
    };
    let (namespaces, services) = (selector("namespaceSelector"), selector("servicesSelector"));
    let scope = fields
        .get("scope")
        .and_then(|field| field.choice(&[("LOCAL", false), ("GLOBAL", true)]));
    // A selector under another name would select everything.
    fields.finish();
    Some(ServiceScope {
        namespaces,
        services,
        is_global: scope.unwrap_or_default(),
    })
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

#[cfg(test)]
mod tests;
