//! What is the same for the whole mesh.

use objects::MeshConfig;

use crate::service_entry::Visibility;

/// What is the same for the whole mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The trust domain of every identity.
    pub trust_domain: String,
    /// Other names of it: a policy that names one of these or the trust domain means all of them.
    pub trust_domain_aliases: Vec<String>,
    /// The DNS domain of Services.
    pub cluster_domain: String,
    /// The name of this cluster.
    pub cluster_id: String,
    /// The network that pods are on; empty where there is only one.
    pub network: String,
    /// The namespace whose policies apply to the whole mesh.
    pub root_namespace: String,
    /// The namespaces beside the root namespace whose Gateways may be those of a network; `*`: every namespace. Whoever
    /// may write in one of them is sent what the whole mesh has for that network.
    pub network_gateway_namespaces: Vec<String>,
    /// The namespaces beside the root namespace whose ServiceEntries and WorkloadEntries may stand for addresses that are
    /// nobody's alone: a large part of the world, and blocks with somebody else's addresses in them; `*`: every namespace.
    /// Whoever may write in one of them is sent what all others have for these.
    pub trusted_entry_namespaces: Vec<String>,
    /// Who sees ServiceEntries that do not say it themselves.
    pub service_entry_visibility: Visibility,
    /// Whether workloads list dry-run policies as they list the others, for node proxies that know dry runs without
    /// announcing it. Proxies that are not sent those policies must not be told to list them.
    pub list_dry_run: bool,
}

/// What a command line says of what the mesh's configuration may say too; `None`: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeshFlags {
    /// The trust domain of every identity.
    pub trust_domain: Option<String>,
    /// The namespace whose policies apply to the whole mesh.
    pub root_namespace: Option<String>,
}

impl Settings {
    /// The settings in a mesh with this configuration. What a command line says counts more, and where neither says
    /// anything these do.
    pub fn in_mesh(self, config: &MeshConfig, flags: &MeshFlags) -> Settings {
        let first = |flag: &Option<String>, said: &Option<String>, own: String| {
            flag.clone().or_else(|| said.clone()).unwrap_or(own)
        };
        Settings {
            trust_domain: first(&flags.trust_domain, &config.trust_domain, self.trust_domain),
            trust_domain_aliases: config.trust_domain_aliases.clone(),
            root_namespace: first(&flags.root_namespace, &config.root_namespace, self.root_namespace),
            ..self
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            trust_domain: "cluster.local".to_owned(),
            trust_domain_aliases: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            cluster_id: "Kubernetes".to_owned(),
            network: String::new(),
            root_namespace: "istio-system".to_owned(),
            network_gateway_namespaces: Vec::new(),
            trusted_entry_namespaces: Vec::new(),
            service_entry_visibility: Visibility::Public,
            list_dry_run: false,
        }
    }
}
