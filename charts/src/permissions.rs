//! Which requests to the Kubernetes API the chart allows to a service account, for tests that hold programs against it.
//!
//! Pure: requests are told by method, path and answer, as whoever records them has them.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

/// What one account may do.
#[derive(Clone, Debug)]
pub struct Grants {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    /// None: in every namespace.
    namespace: Option<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    /// Empty: all.
    names: Vec<String>,
    verbs: Vec<String>,
}

/// A verb on a resource, which a rule may grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// The API group; empty for the core one.
    pub group: String,
    /// The resource, with its subresource: `pods/status`.
    pub resource: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: String,
}

/// `list pods`, `patch authorizationpolicies/status.security.istio.io`.
impl fmt::Display for Permission {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(out, "{} {}{dot}{}", self.verb, self.resource, self.group)
    }
}

/// What a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The verb on the resource.
    pub permission: Permission,
    /// The namespace that is asked for; none for all of them, and for what is in none.
    pub namespace: Option<String>,
    /// The one object that is asked for.
    pub name: Option<String>,
}

impl Grants {
    /// What the roles among `objects` grant to the service account of this name through their bindings.
    pub fn of_account(objects: &[Value], account: &str) -> Grants {
        let bound = objects
            .iter()
            .filter(|object| {
                matches!(
                    object["kind"].as_str(),
                    Some("ClusterRoleBinding" | "RoleBinding")
                )
            })
            .filter(|binding| {
                let subjects = binding["subjects"].as_array().into_iter().flatten();
                subjects
                    .into_iter()
                    .any(|subject| subject["kind"] == "ServiceAccount" && subject["name"] == account)
            });
        let mut rules = Vec::new();
        for binding in bound {
            let namespace = binding["metadata"]["namespace"].as_str();
            let role = &binding["roleRef"];
            let role = objects
                .iter()
                .find(|object| object["kind"] == role["kind"] && object["metadata"]["name"] == role["name"]);
            let given = role
                .and_then(|role| role["rules"].as_array())
                .into_iter()
                .flatten();
            rules.extend(given.map(|rule| Rule {
                namespace: namespace.map(str::to_owned),
                groups: texts(&rule["apiGroups"]),
                resources: texts(&rule["resources"]),
                names: texts(&rule["resourceNames"]),
                verbs: texts(&rule["verbs"]),
            }));
        }
        Grants { rules }
    }

    /// Every verb on every resource.
    pub fn all(&self) -> BTreeSet<Permission> {
        let mut all = BTreeSet::new();
        for rule in &self.rules {
            for group in &rule.groups {
                for resource in &rule.resources {
                    for verb in &rule.verbs {
                        all.insert(Permission {
                            group: group.clone(),
                            resource: resource.clone(),
                            verb: verb.clone(),
                        });
                    }
                }
            }
        }
        all
    }

    /// Whether a request may be made.
    pub fn allow(&self, need: &Need) -> bool {
        self.rules.iter().any(|rule| {
            let namespace = rule.namespace.is_none() || rule.namespace == need.namespace;
            // The name of what is created is not known when it is asked who may.
            let name =
                rule.names.is_empty() || need.name.as_ref().is_some_and(|name| rule.names.contains(name));
            namespace
                && name
                && rule.groups.contains(&need.permission.group)
                && rule.resources.contains(&need.permission.resource)
                && rule.verbs.contains(&need.permission.verb)
        })
    }
}

/// What a request needs by method, path with query, and the code of its answer. Nothing for discovery, which everybody may
/// read.
pub fn needs(method: &str, uri: &str, code: u16) -> Vec<Need> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let mut parts = path.trim_matches('/').split('/');
    let group = match parts.next() {
        Some("api") => "",
        Some("apis") => match parts.next() {
            Some(group) => group,
            None => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    let _version = parts.next();
    let parts: Vec<&str> = parts.collect();
    let (namespace, parts) = match parts.as_slice() {
        [] => return Vec::new(),
        ["namespaces", namespace, resource, rest @ ..] if !matches!(*resource, "status" | "finalize") => {
            (Some(*namespace), [&[*resource], rest].concat())
        }
        parts => (None, parts.to_vec()),
    };
    let resource = match parts.get(2) {
        Some(subresource) => format!("{}/{subresource}", parts[0]),
        None => parts[0].to_owned(),
    };
    // Of a list of one name, that name counts.
    let asked = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key));
    let selected = asked("fieldSelector=").and_then(|fields| {
        let fields = fields.replace("%3D", "=");
        fields.strip_prefix("metadata.name=").map(str::to_owned)
    });
    let name = parts.get(1).map(|name| (*name).replace("%3A", ":")).or(selected);
    let is_watch = matches!(asked("watch="), Some("true" | "1" | "t"));
    let verbs: &[&str] = match (method, parts.get(1)) {
        ("GET", _) if is_watch => &["watch"],
        ("GET", Some(_)) => &["get"],
        ("GET", None) => &["list"],
        ("POST", _) => &["create"],
        ("PUT", _) => &["update"],
        // An apply that makes the object.
        ("PATCH", _) if code == 201 => &["patch", "create"],
        ("PATCH", _) => &["patch"],
        ("DELETE", Some(_)) => &["delete"],
        ("DELETE", None) => &["deletecollection"],
        _ => return Vec::new(),
    };
    let need = |verb: &&str| Need {
        permission: Permission {
            group: group.to_owned(),
            resource: resource.clone(),
            verb: (*verb).to_owned(),
        },
        namespace: namespace.map(str::to_owned),
        name: name.clone().filter(|_| *verb != "create"),
    };
    verbs.iter().map(need).collect()
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(method: &str, uri: &str, code: u16) -> Vec<(String, Option<String>, Option<String>)> {
        let needs = needs(method, uri, code).into_iter();
        needs
            .map(|need| (need.permission.to_string(), need.namespace, need.name))
            .collect()
    }

    #[test]
    fn requests_are_understood() {
        let some = |text: &str| Some(text.to_owned());
        for (method, uri, expected) in [
            ("GET", "/api/v1/pods?limit=500", ("list pods", None, None)),
            (
                "GET",
                "/api/v1/pods?watch=true&resourceVersion=1",
                ("watch pods", None, None),
            ),
            ("GET", "/api/v1/namespaces", ("list namespaces", None, None)),
            ("GET", "/api/v1/namespaces/a", ("get namespaces", None, some("a"))),
            (
                "GET",
                "/api/v1/namespaces/a/secrets/b",
                ("get secrets", some("a"), some("b")),
            ),
            (
                "GET",
                "/api/v1/configmaps?fieldSelector=metadata.name%3Droots&watch=1",
                ("watch configmaps", None, some("roots")),
            ),
            (
                "POST",
                "/apis/authentication.k8s.io/v1/tokenreviews",
                ("create tokenreviews.authentication.k8s.io", None, None),
            ),
            (
                "PATCH",
                "/apis/security.istio.io/v1/namespaces/a/authorizationpolicies/b/status?force=true",
                (
                    "patch authorizationpolicies/status.security.istio.io",
                    some("a"),
                    some("b"),
                ),
            ),
            (
                "PUT",
                "/apis/coordination.k8s.io/v1/namespaces/a/leases/b",
                ("update leases.coordination.k8s.io", some("a"), some("b")),
            ),
            (
                "DELETE",
                "/api/v1/namespaces/a/pods/b",
                ("delete pods", some("a"), some("b")),
            ),
        ] {
            let (permission, namespace, name) = expected;
            assert_eq!(
                asked(method, uri, 200),
                [(permission.to_owned(), namespace, name)],
                "{method} {uri}"
            );
        }
        let applied = asked("PATCH", "/api/v1/namespaces/a/configmaps/b", 201);
        assert_eq!(applied[0], ("patch configmaps".to_owned(), some("a"), some("b")));
        assert_eq!(applied[1], ("create configmaps".to_owned(), some("a"), None));
        for discovery in [
            "/version",
            "/api",
            "/apis",
            "/apis/apps/v1",
            "/api/v1",
            "/openapi/v3",
        ] {
            assert_eq!(asked("GET", discovery, 200), [], "{discovery}");
        }
    }

    #[test]
    fn only_what_is_bound_is_granted() {
        let objects = [
            json!({ "kind": "ClusterRole", "metadata": { "name": "all" }, "rules": [
                { "apiGroups": [""], "resources": ["pods"], "verbs": ["list"] }] }),
            json!({ "kind": "Role", "metadata": { "name": "one", "namespace": "a" }, "rules": [
                { "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["s"], "verbs": ["get"] }] }),
            json!({ "kind": "ClusterRole", "metadata": { "name": "unbound" }, "rules": [
                { "apiGroups": [""], "resources": ["nodes"], "verbs": ["list"] }] }),
            json!({ "kind": "ClusterRoleBinding", "metadata": { "name": "x" }, "roleRef": { "kind": "ClusterRole", "name": "all" },
                "subjects": [{ "kind": "ServiceAccount", "name": "me" }] }),
            json!({ "kind": "RoleBinding", "metadata": { "name": "x", "namespace": "a" }, "roleRef": { "kind": "Role", "name": "one" },
                "subjects": [{ "kind": "ServiceAccount", "name": "me" }] }),
            json!({ "kind": "ClusterRoleBinding", "metadata": { "name": "y" }, "roleRef": { "kind": "ClusterRole", "name": "unbound" },
                "subjects": [{ "kind": "ServiceAccount", "name": "other" }] }),
        ];
        let grants = Grants::of_account(&objects, "me");
        let all: Vec<String> = grants.all().iter().map(ToString::to_string).collect();
        assert_eq!(all, ["list pods", "get secrets"]);
        let may = |method: &str, uri: &str| needs(method, uri, 200).iter().all(|need| grants.allow(need));
        for good in [
            "/api/v1/pods",
            "/api/v1/namespaces/b/pods",
            "/api/v1/namespaces/a/secrets/s",
        ] {
            assert!(may("GET", good), "{good}");
        }
        for bad in [
            "/api/v1/pods?watch=true",
            "/api/v1/nodes",
            "/api/v1/namespaces/a/secrets/t",
            "/api/v1/namespaces/b/secrets/s",
            "/api/v1/namespaces/a/secrets",
            "/apis/apps/v1/pods",
        ] {
            assert!(!may("GET", bad), "{bad}");
        }
        assert!(!may("PUT", "/api/v1/namespaces/a/secrets/s"));
    }
}
