//! The names that a short name may stand for, as a pod's resolv.conf in Kubernetes has them.

/// A name with so many dots is complete (`ndots` of Kubernetes' default resolv.conf).
const COMPLETE: usize = 5;

/// The names to look for in the mesh, in this order, before the name is taken as it is. One with a final dot is whole.
pub(super) fn candidates(name: &str, namespace: &str, cluster_domain: &str) -> Vec<String> {
    if name.ends_with('.') || name.matches('.').count() >= COMPLETE {
        return Vec::new();
    }
    [
        format!("{namespace}.svc.{cluster_domain}"),
        format!("svc.{cluster_domain}"),
        cluster_domain.to_owned(),
    ]
    .into_iter()
    .map(|domain| format!("{name}.{domain}"))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_looked_for_as_in_kubernetes() {
        assert_eq!(
            candidates("web", "shop", "cluster.local"),
            [
                "web.shop.svc.cluster.local",
                "web.svc.cluster.local",
                "web.cluster.local"
            ]
        );
        assert!(
            candidates("web.shop", "demo", "cluster.local").contains(&"web.shop.svc.cluster.local".into())
        );
        assert!(candidates("web-0.web.shop.svc.cluster.local", "demo", "cluster.local").is_empty());
        assert!(candidates("web.shop.", "demo", "cluster.local").is_empty());
    }
}
