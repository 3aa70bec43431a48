//! What there is: groups, versions, resources, one by one and all at once.

use serde_json::{Value, json};

use crate::kinds::Resource;
use crate::registry::Served;
use crate::review::REVIEWS;
use crate::{logs, scale};

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

/// The version that this server follows.
pub(crate) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "32",
        "gitVersion": "v1.32.0",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

pub(crate) fn core_versions() -> Value {
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
}

pub(crate) fn groups(served: &Served) -> Value {
    let groups: Vec<Value> = all_groups(served).iter().map(group_value).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

pub(crate) fn group(served: &Served, name: &str) -> Option<Value> {
    let groups = all_groups(served);
    let found = groups.iter().find(|(group, _)| group == name)?;
    let mut value = group_value(found);
    value["kind"] = json!("APIGroup");
    value["apiVersion"] = json!("v1");
    Some(value)
}

/// The resources of one version of a group.
pub(crate) fn resources(served: &Served, group: &str, version: &str) -> Option<Value> {
    let found = served.of(group, version);
    let reviews = reviews(group, version);
    if found.is_empty() && reviews.is_empty() {
        return None;
    }
    let mut list = Vec::new();
    for resource in found {
        let mut entry = json!({
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": VERBS,
        });
        if !resource.short_names.is_empty() {
            entry["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            entry["categories"] = json!(resource.categories);
        }
        list.push(entry);
        if resource.status {
            list.push(json!({
                "name": format!("{}/status", resource.plural),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": resource.kind,
                "verbs": STATUS_VERBS,
            }));
        }
        if scale::is_scaled(&resource) {
            let [group, version, kind] = scale::KIND;
            list.push(json!({
                "name": format!("{}/scale", resource.plural),
                "singularName": "",
                "namespaced": true,
                "group": group,
                "version": version,
                "kind": kind,
                "verbs": STATUS_VERBS,
            }));
        }
        if logs::has_logs(&resource) {
            list.push(json!({
                "name": format!("{}/log", resource.plural),
                "singularName": "",
                "namespaced": true,
                "kind": resource.kind,
                "verbs": ["get"],
            }));
        }
        if is_account(&resource) {
            list.push(json!({
                "name": "serviceaccounts/token",
                "singularName": "",
                "namespaced": true,
                "group": "authentication.k8s.io",
                "version": "v1",
                "kind": "TokenRequest",
                "verbs": ["create"],
            }));
        }
    }
    for (plural, kind) in reviews {
        list.push(json!({
            "name": plural,
            "singularName": kind.to_ascii_lowercase(),
            "namespaced": false,
            "kind": kind,
            "verbs": ["create"],
        }));
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": list,
    }))
}

/// Everything at once (`apidiscovery.k8s.io/v2`): the core group, or all others.
pub(crate) fn aggregated(served: &Served, core: bool) -> Value {
    let groups = if core {
        vec![(String::new(), vec!["v1".to_owned()])]
    } else {
        all_groups(served)
    };
    let items: Vec<Value> = groups
        .iter()
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let mut resources: Vec<Value> = served
                        .of(group, version)
                        .iter()
                        .map(|resource| aggregated_resource(resource, version))
                        .collect();
                    for (plural, kind) in reviews(group, version) {
                        resources.push(json!({
                            "resource": plural,
                            "responseKind": { "group": group, "version": version, "kind": kind },
                            "scope": "Cluster",
                            "singularResource": kind.to_ascii_lowercase(),
                            "verbs": ["create"],
                        }));
                    }
                    json!({ "version": version, "resources": resources, "freshness": "Current" })
                })
                .collect();
            let metadata = if group.is_empty() {
                json!({})
            } else {
                json!({ "name": group })
            };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn aggregated_resource(resource: &Resource, version: &str) -> Value {
    let kind = json!({ "group": resource.group, "version": version, "kind": resource.kind });
    let mut subresources = Vec::new();
    if resource.status {
        subresources.push(json!({ "subresource": "status", "responseKind": kind, "verbs": STATUS_VERBS }));
    }
    if scale::is_scaled(resource) {
        let [group, version, kind] = scale::KIND;
        let kind = json!({ "group": group, "version": version, "kind": kind });
        subresources.push(json!({ "subresource": "scale", "responseKind": kind, "verbs": STATUS_VERBS }));
    }
    if logs::has_logs(resource) {
        subresources.push(json!({ "subresource": "log", "responseKind": kind, "verbs": ["get"] }));
    }
    if is_account(resource) {
        subresources.push(json!({
            "subresource": "token",
            "responseKind": { "group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest" },
            "verbs": ["create"],
        }));
    }
    let mut value = json!({
        "resource": resource.plural,
        "responseKind": kind,
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": VERBS,
    });
    for (field, words) in [
        ("shortNames", &resource.short_names),
        ("categories", &resource.categories),
    ] {
        if !words.is_empty() {
            value[field] = json!(words);
        }
    }
    if !subresources.is_empty() {
        value["subresources"] = json!(subresources);
    }
    value
}

fn is_account(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "serviceaccounts"
}

/// The reviews of a group's version, as plural and kind.
fn reviews(group: &str, version: &str) -> Vec<(&'static str, &'static str)> {
    let of_group = REVIEWS.iter().filter(|(of, ..)| *of == group && version == "v1");
    of_group.map(|(_, plural, kind)| (*plural, *kind)).collect()
}

/// Every group but the core group, those of reviews included.
pub(crate) fn all_groups(served: &Served) -> Vec<(String, Vec<String>)> {
    let mut groups = served.groups();
    for (group, ..) in REVIEWS {
        if !groups.iter().any(|(known, _)| known == group) {
            groups.push((group.to_owned(), vec!["v1".to_owned()]));
        }
    }
    groups
}

fn group_value((group, versions): &(String, Vec<String>)) -> Value {
    let version =
        |version: &String| json!({ "groupVersion": format!("{group}/{version}"), "version": version });
    let versions: Vec<Value> = versions.iter().map(version).collect();
    json!({
        "name": group,
        "preferredVersion": versions.first(),
        "versions": versions,
    })
}
