//! Settings of the mesh under Istio's names: the ConfigMap `istio` beside the control plane, key `mesh`. What the
//! command line says counts more.

use objects::{Kind, MeshConfig, Object, ObjectKey, Selector, Spec};

/// The ConfigMap's name, and the key in it.
pub(crate) const CONFIG_MAP: &str = "istio";
const KEY: &str = "mesh";

/// What is in force.
pub(crate) struct MeshSettings {
    key: ObjectKey,
    /// What the command line says, where it says something.
    flags: Flags,
    /// Empty for none.
    revision: String,
    /// What there was at the start, which a restart alone changes.
    fixed: Option<Fixed>,
    selectors: Vec<Selector>,
}

/// What the command line says of what the ConfigMap may say too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) trust_domain: Option<String>,
    pub(crate) root_namespace: Option<String>,
}

/// What does not change while the program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fixed {
    pub(crate) trust_domain: String,
    pub(crate) trust_domain_aliases: Vec<String>,
    pub(crate) root_namespace: String,
}

impl MeshSettings {
    /// `namespace` is the control plane's own.
    pub(crate) fn new(namespace: &str, flags: Flags, revision: &str) -> MeshSettings {
        MeshSettings {
            key: ObjectKey::new(Kind::ConfigMap, namespace, CONFIG_MAP),
            flags,
            revision: revision.to_owned(),
            fixed: None,
            selectors: Vec::new(),
        }
    }

    /// The revision whose policies and entries are read.
    pub(crate) fn revision(&self) -> &str {
        &self.revision
    }

    /// The ConfigMap.
    pub(crate) fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// The ConfigMap is now so, or is not there. Text that cannot be read changes nothing, and is said.
    pub(crate) fn read(&mut self, object: Option<&Object>) {
        let text = match object.map(|object| &object.spec) {
            Some(Spec::ConfigMap(map)) => map.data.get(KEY).map_or("", String::as_str),
            _ => "",
        };
        let config = match MeshConfig::parse(text) {
            Ok(config) => config,
            Err(errors) => {
                tracing::error!(
                    key = %self.key,
                    "the mesh's settings cannot be read, so those before stay in force: {errors}"
                );
                return;
            }
        };
        let wanted = self.fixed_of(&config);
        match &self.fixed {
            None => self.fixed = Some(wanted),
            Some(fixed) if *fixed != wanted => tracing::error!(
                key = %self.key, ?fixed, ?wanted,
                "trustDomain, trustDomainAliases and rootNamespace are in force as they were at the start; restart the control plane to change them"
            ),
            Some(_) => {}
        }
        if self.selectors != config.discovery_selectors {
            let said: Vec<String> = config
                .discovery_selectors
                .iter()
                .map(Selector::to_string)
                .collect();
            tracing::info!(selectors = ?said, "namespaces take part by other selectors");
            self.selectors = config.discovery_selectors;
        }
    }

    /// What holds since the start: of the ConfigMap, where one was read by now.
    pub(crate) fn fixed(&mut self) -> Fixed {
        if let Some(fixed) = &self.fixed {
            return fixed.clone();
        }
        let fixed = self.fixed_of(&MeshConfig::default());
        self.fixed = Some(fixed.clone());
        fixed
    }

    /// Which namespaces take part.
    pub(crate) fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    fn fixed_of(&self, config: &MeshConfig) -> Fixed {
        let defaults = compile::Settings::default();
        let first = |flag: &Option<String>, said: &Option<String>, default: String| {
            flag.clone().or_else(|| said.clone()).unwrap_or(default)
        };
        Fixed {
            trust_domain: first(
                &self.flags.trust_domain,
                &config.trust_domain,
                defaults.trust_domain,
            ),
            trust_domain_aliases: config.trust_domain_aliases.clone(),
            root_namespace: first(
                &self.flags.root_namespace,
                &config.root_namespace,
                defaults.root_namespace,
            ),
        }
    }
}

#[cfg(test)]
mod tests;
