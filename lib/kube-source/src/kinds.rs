//! Which objects are wanted, and how the API names their kinds.

use kube::core::{ApiResource, GroupVersionKind};
use objects::Kind;

/// Which objects are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub(crate) selections: Vec<Selection>,
}

/// The objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) kind: Kind,
    /// A field selector; none: all objects.
    pub(crate) fields: Option<String>,
    /// Only those of this namespace; none: of all.
    pub(crate) namespace: Option<String>,
}

impl Wanted {
    /// Every object of every kind that there is.
    pub fn everything() -> Wanted {
        Wanted::of(Kind::ALL)
    }

    /// Every object of these kinds.
    pub fn of(kinds: impl IntoIterator<Item = Kind>) -> Wanted {
        let all = |kind| Selection {
            kind,
            fields: None,
            namespace: None,
        };
        Wanted {
            selections: kinds.into_iter().map(all).collect(),
        }
    }

    /// What a control plane reads: every kind but Deployments, which only the lab's controllers follow, and
    /// ConfigMaps, of which [`Wanted::and_config_map`] adds one.
    pub fn for_control_plane() -> Wanted {
        let is_read = |kind: &Kind| !matches!(kind, Kind::Deployment | Kind::ConfigMap);
        Wanted::of(Kind::ALL.into_iter().filter(is_read))
    }

    /// What of another cluster of the mesh is read: where its services are, and how its network is reached.
    pub fn for_other_cluster() -> Wanted {
        Wanted::of([
            Kind::Namespace,
            Kind::Service,
            Kind::Pod,
            Kind::EndpointSlice,
            Kind::WorkloadEntry,
            Kind::Gateway,
        ])
    }

    /// And one ConfigMap, by a request for that alone, which can be permitted by name.
    #[must_use]
    pub fn and_config_map(mut self, namespace: &str, name: &str) -> Wanted {
        self.selections.push(Selection {
            kind: Kind::ConfigMap,
            fields: Some(format!("metadata.name={name}")),
            namespace: Some(namespace.to_owned()),
        });
        self
    }

    /// What a node agent reads: the pods of its node, and the namespaces.
    pub fn for_node(node: &str) -> Wanted {
        let pods = Selection {
            kind: Kind::Pod,
            fields: Some(format!("spec.nodeName={node}")),
            namespace: None,
        };
        let namespaces = Selection {
            kind: Kind::Namespace,
            fields: None,
            namespace: None,
        };
        Wanted {
            selections: vec![pods, namespaces],
        }
    }
}

/// How the API names a kind. Kinds may be served in several versions, of which `version` counts from the preferred
/// one and wraps around.
pub(crate) fn resource(kind: Kind, version: usize) -> ApiResource {
    let versions = kind.api_versions();
    let api_version = versions[version % versions.len()];
    let version = api_version.rsplit('/').next().unwrap_or(api_version);
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk(kind.group(), version, kind.as_str()),
        kind.plural(),
    )
}

/// The custom resource definition of a kind, by name; none for kinds that every API server has.
pub(crate) fn definition(kind: Kind) -> Option<String> {
    let built_in = matches!(
        kind.group(),
        "" | "apps" | "discovery.k8s.io" | "networking.k8s.io"
    );
    (!built_in).then(|| format!("{}.{}", kind.plural(), kind.group()))
}

/// The custom resource definitions themselves.
pub(crate) fn definitions() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
        "customresourcedefinitions",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_as_the_api_does() {
        let paths: Vec<_> = [
            (Kind::Pod, 0),
            (Kind::EndpointSlice, 0),
            (Kind::AuthorizationPolicy, 0),
            (Kind::AuthorizationPolicy, 1),
            (Kind::AuthorizationPolicy, 2),
        ]
        .map(|(kind, version)| resource(kind, version))
        .into_iter()
        .map(|resource| format!("{} {}", resource.api_version, resource.plural))
        .collect();
        assert_eq!(
            paths,
            [
                "v1 pods",
                "discovery.k8s.io/v1 endpointslices",
                "security.istio.io/v1 authorizationpolicies",
                "security.istio.io/v1beta1 authorizationpolicies",
                "security.istio.io/v1 authorizationpolicies",
            ]
        );
        assert_eq!(definition(Kind::EndpointSlice), None);
        assert_eq!(
            definition(Kind::PeerAuthentication).as_deref(),
            Some("peerauthentications.security.istio.io")
        );
    }

    #[test]
    fn a_new_kind_joins_by_itself() {
        let wanted = Wanted::everything();
        assert_eq!(wanted.selections.len(), Kind::ALL.len());
        assert!(
            Wanted::for_control_plane()
                .selections
                .iter()
                .all(|selection| !matches!(selection.kind, Kind::Deployment | Kind::ConfigMap))
        );
    }
}
