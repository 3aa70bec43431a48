//! Settings of the mesh under Istio's names: the ConfigMap `istio` beside the control plane, key `mesh`. What the
//! command line says counts more.

pub(crate) use compile::MeshFlags as Flags;
use objects::{Kind, MeshConfig, Object, ObjectKey, Selector, ServiceScopes, Spec};

use crate::events::{self, Notice};

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
    service_scopes: ServiceScopes,
    /// The ConfigMap's text cannot be read.
    is_unreadable: bool,
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
            service_scopes: ServiceScopes::default(),
            is_unreadable: false,
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

    /// The ConfigMap is now so, or is not there. Text that cannot be read changes nothing. What is not in force as it is
    /// written is said in the log, and is to be told to its author.
    pub(crate) fn read(&mut self, object: Option<&Object>) -> Option<Notice> {
        let text = match object.map(|object| &object.spec) {
            Some(Spec::ConfigMap(map)) => map.data.get(KEY).map_or("", String::as_str),
            _ => "",
        };
        let config = MeshConfig::parse(text);
        self.is_unreadable = config.is_err();
        let config = match config {
            Ok(config) => config,
            Err(errors) => {
                let instead = match self.fixed {
                    Some(_) => "those before stay in force",
                    None => "this control plane serves nobody until they can",
                };
                let note = format!("the mesh's settings cannot be read, so {instead}: {errors}");
                tracing::error!(key = %self.key, "{note}");
                return self.notice(object, "SettingsUnreadable", note);
            }
        };
        let mut notice = None;
        let wanted = self.fixed_of(&config);
        match &self.fixed {
            None => self.fixed = Some(wanted),
            Some(fixed) if *fixed != wanted => {
                let note = "trustDomain, trustDomainAliases and rootNamespace are in force as they were at the start; \
                            restart the control plane to change them";
                tracing::error!(key = %self.key, ?fixed, ?wanted, "{note}");
                notice = self.notice(object, "RestartNeeded", note.to_owned());
            }
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
        self.service_scopes = config.service_scopes;
        notice
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

    /// Whether there are settings that nobody knows: of no text that can be read, and none before.
    pub(crate) fn are_missing(&self) -> bool {
        self.is_unreadable && self.fixed.is_none()
    }

    /// Which namespaces take part.
    pub(crate) fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    /// Which Services are for all clusters.
    pub(crate) fn service_scopes(&self) -> &ServiceScopes {
        &self.service_scopes
    }

    fn notice(&self, object: Option<&Object>, reason: &str, note: String) -> Option<Notice> {
        Some(Notice {
            regarding: events::of_object(&self.key, &object?.metadata.uid),
            reason: reason.to_owned(),
            action: "ReadSettings",
            note,
        })
    }

    fn fixed_of(&self, config: &MeshConfig) -> Fixed {
        let settings = compile::Settings::default().in_mesh(config, &self.flags);
        Fixed {
            trust_domain: settings.trust_domain,
            trust_domain_aliases: settings.trust_domain_aliases,
            root_namespace: settings.root_namespace,
        }
    }
}

#[cfg(test)]
mod tests;
