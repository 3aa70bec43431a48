//! What is judged, and what the cluster around it is.

use objects::{Object, ParseError, ReadObject, Reading, UnreadObject};

/// Everything that is judged together.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// The objects that were read.
    pub objects: Vec<ReadObject>,
    /// The documents of kinds that nobody reads.
    pub unread: Vec<UnreadObject>,
    /// What could not be read.
    pub errors: Vec<ParseError>,
}

impl Input {
    /// Takes what a file holds.
    pub fn add(&mut self, reading: Reading) {
        self.objects.extend(reading.objects);
        self.unread.extend(reading.unread);
        self.errors.extend(reading.errors);
    }
}

/// Objects that do not come from text, such as those that are applied.
impl FromIterator<Object> for Input {
    fn from_iter<I: IntoIterator<Item = Object>>(objects: I) -> Input {
        Input {
            objects: objects.into_iter().map(ReadObject::from).collect(),
            ..Input::default()
        }
    }
}

/// What the cluster is, as far as manifests do not show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The trust domains whose identities may call: the mesh's own and its aliases.
    pub trust_domains: Vec<String>,
    /// The namespace whose policies apply to the whole mesh.
    pub root_namespace: String,
    /// Whether a network plugin enforces NetworkPolicy. Where the manifests hold one that does, it counts as true.
    pub network_policy_enforced: bool,
    /// Whether the node agent lets the kubelet's probes pass by the proxy, as that of Istio does.
    pub probes_exempt: bool,
    /// Whether the control plane runs waypoints, as that of Istio does.
    pub waypoints_run: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            trust_domains: vec!["cluster.local".to_owned()],
            root_namespace: "istio-system".to_owned(),
            network_policy_enforced: false,
            probes_exempt: false,
            waypoints_run: true,
        }
    }
}
