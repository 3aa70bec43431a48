//! What is served now: the built-in kinds and those whose definition is in the store.

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use crate::columns;
use crate::kinds::{self, Custom, DEFINITIONS, Resource};
use crate::store::Store;

/// Follows the definitions in the store.
pub(crate) struct Registry {
    built_in: Vec<Arc<Resource>>,
    current: RwLock<Arc<Served>>,
}

/// The resources that are served, in the order of their groups.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) resources: Vec<Arc<Resource>>,
}

impl Registry {
    pub(crate) fn new(store: &Store) -> Registry {
        let registry = Registry {
            built_in: kinds::built_in(),
            current: RwLock::new(Arc::new(Served {
                resources: Vec::new(),
            })),
        };
        registry.refresh(store);
        registry
    }

    /// Reads the definitions anew; called after each write of one.
    pub(crate) fn refresh(&self, store: &Store) {
        let mut resources = self.built_in.clone();
        for object in store.all(DEFINITIONS) {
            if let Some(resource) = from_definition(object.value()) {
                let taken = |other: &Arc<Resource>| other.qualified() == resource.qualified();
                if !resources.iter().any(taken) {
                    resources.push(Arc::new(resource));
                }
            }
        }
        resources.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural)));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Served { resources });
    }

    pub(crate) fn served(&self) -> Arc<Served> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Served {
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.resources
            .iter()
            .find(|resource| {
                resource.group == group
                    && resource.plural == plural
                    && resource.versions.iter().any(|served| served == version)
            })
            .cloned()
    }

    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Resource>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.resources
            .iter()
            .find(|resource| {
                resource.kind == kind
                    && resource.group == group
                    && resource.versions.iter().any(|served| served == version)
            })
            .cloned()
    }

    /// Whether exactly this resource is still served.
    pub(crate) fn holds(&self, resource: &Resource) -> bool {
        let uid = |resource: &Resource| resource.custom.as_ref().map(|custom| custom.uid.clone());
        self.resources
            .iter()
            .any(|other| other.qualified() == resource.qualified() && uid(other) == uid(resource))
    }

    /// The groups but the core group, each with its versions, the preferred one first.
    pub(crate) fn groups(&self) -> Vec<(String, Vec<String>)> {
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for resource in self
            .resources
            .iter()
            .filter(|resource| !resource.group.is_empty())
        {
            let position = groups.iter().position(|(group, _)| *group == resource.group);
            let at = position.unwrap_or_else(|| {
                groups.push((resource.group.clone(), Vec::new()));
                groups.len() - 1
            });
            for version in &resource.versions {
                if !groups[at].1.contains(version) {
                    groups[at].1.push(version.clone());
                }
            }
        }
        for (_, versions) in &mut groups {
            versions.sort_by_key(|version| version_rank(version));
        }
        groups
    }

    pub(crate) fn of(&self, group: &str, version: &str) -> Vec<Arc<Resource>> {
        self.resources
            .iter()
            .filter(|resource| {
                resource.group == group && resource.versions.iter().any(|served| served == version)
            })
            .cloned()
            .collect()
    }
}

/// Order of preference: stable before beta before alpha, higher before lower ("Version priority").
fn version_rank(version: &str) -> (u8, std::cmp::Reverse<u32>, std::cmp::Reverse<u32>) {
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    let rest = version.strip_prefix('v').unwrap_or(version);
    for (rank, word) in [(1, "beta"), (2, "alpha")] {
        if let Some((major, minor)) = rest.split_once(word) {
            return (
                rank,
                std::cmp::Reverse(number(major)),
                std::cmp::Reverse(number(minor)),
            );
        }
    }
    (0, std::cmp::Reverse(number(rest)), std::cmp::Reverse(0))
}

/// Reads a definition; one that says nothing usable is not served.
fn from_definition(definition: &Value) -> Option<Resource> {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let texts = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .map(|items| items.iter().filter_map(text).collect())
            .unwrap_or_default()
    };
    let served: Vec<&Value> = spec["versions"]
        .as_array()?
        .iter()
        .filter(|version| version["served"] == true)
        .collect();
    let mut versions: Vec<String> = served
        .iter()
        .filter_map(|version| text(&version["name"]))
        .collect();
    versions.sort_by_key(|version| version_rank(version));
    let first = served
        .iter()
        .find(|version| version["name"].as_str() == versions.first().map(String::as_str))?;
    let names = &spec["names"];
    let kind = text(&names["kind"])?;
    Some(Resource {
        group: text(&spec["group"])?,
        plural: text(&names["plural"])?,
        singular: text(&names["singular"]).unwrap_or_else(|| kind.to_ascii_lowercase()),
        kind,
        short_names: texts(&names["shortNames"]),
        categories: texts(&names["categories"]),
        namespaced: spec["scope"] == "Namespaced",
        status: first["subresources"].get("status").is_some(),
        generation: true,
        update_needs_version: true,
        custom: Some(Custom {
            schema: first
                .get("schema")
                .and_then(|schema| schema.get("openAPIV3Schema"))
                .map(|schema| Arc::new(schema.clone())),
            uid: text(&definition["metadata"]["uid"]).unwrap_or_default(),
            rules: std::sync::OnceLock::new(),
        }),
        view: None,
        columns: columns::of_definition(first.get("additionalPrinterColumns")),
        versions,
    })
}

#[cfg(test)]
mod tests;
