//! PeerAuthentication: who must speak mTLS.

use std::collections::BTreeMap;

use crate::read::{Field, Fields};
use crate::selector::{Labels, read_workload_selector};

/// Whether workloads accept plaintext.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerAuthentication {
    /// The workloads meant; empty (also `selector: {}`): all of the namespace, or of the mesh in the root namespace.
    pub selector: Labels,
    /// The mode of every port.
    pub mode: MtlsMode,
    /// Other modes of some ports. These are the workload's ports, not a Service's.
    pub port_modes: BTreeMap<u16, MtlsMode>,
    /// Why the policy cannot be read; empty unless it was stored so. Then it says STRICT for every port.
    pub unreadable: Vec<String>,
    /// It cannot even be told whom the policy selects: it then holds for everybody in its namespace, whatever
    /// others say.
    pub selects_unknown: bool,
}

/// Whether plaintext is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MtlsMode {
    /// As the next wider policy says.
    #[default]
    Unset,
    /// Yes; the mesh still uses mTLS where both sides can.
    Disable,
    /// Yes.
    Permissive,
    /// No: only mTLS.
    Strict,
}

const MODES: [(&str, MtlsMode); 4] = [
    ("UNSET", MtlsMode::Unset),
    ("DISABLE", MtlsMode::Disable),
    ("PERMISSIVE", MtlsMode::Permissive),
    ("STRICT", MtlsMode::Strict),
];

impl PeerAuthentication {
    /// The policy that stands for one of which nothing can be read.
    pub(crate) fn closed(unreadable: Vec<String>) -> PeerAuthentication {
        PeerAuthentication {
            mode: MtlsMode::Strict,
            unreadable,
            selects_unknown: true,
            ..PeerAuthentication::default()
        }
    }

    /// The same policy once something in it cannot be read.
    pub(crate) fn close(&mut self, problems: Vec<String>) {
        if !problems.is_empty() {
            self.mode = MtlsMode::Strict;
            self.port_modes.clear();
            self.unreadable.extend(problems);
        }
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<PeerAuthentication> {
        fields.keep(&["status"]);
        let Some(field) = fields.get("spec") else {
            return Some(PeerAuthentication::default());
        };
        let mut spec = field.fields()?;
        let before = field.mark();
        let selector = read_workload_selector(spec.get("selector"));
        let problems = field.take_back(before);
        if !problems.is_empty() {
            // The rest is read for its field names alone.
            spec.keep(&["mtls", "portLevelMtls"]);
            spec.finish();
            return Some(PeerAuthentication::closed(problems));
        }
        let mut policy = PeerAuthentication {
            selector,
            mode: spec
                .get("mtls")
                .and_then(|field| read_mode(&field))
                .unwrap_or_default(),
            ..PeerAuthentication::default()
        };
        if let Some(field) = spec.get("portLevelMtls") {
            policy.read_ports(&field);
        }
        spec.finish();
        Some(policy)
    }

    fn read_ports(&mut self, field: &Field<'_>) {
        if self.selector.is_empty() {
            field
                .error("needs a selector with matchLabels: only single workloads have modes for their ports");
        }
        let entries = field.entries();
        if entries.is_empty() {
            field.error("must name at least one port; leave it out otherwise");
        }
        for (key, entry) in entries {
            let port = key
                .parse::<u16>()
                .ok()
                .filter(|port| *port > 0 && port.to_string() == key);
            let Some(port) = port else {
                entry.error(format!(
                    "{key:?} is no port: the key must be a number between 1 and 65535"
                ));
                continue;
            };
            if let Some(mode) = read_mode(&entry) {
                self.port_modes.insert(port, mode);
            }
        }
    }
}

fn read_mode(field: &Field<'_>) -> Option<MtlsMode> {
    let mut fields = field.fields()?;
    let mode = fields.get("mode").map(|field| field.choice(&MODES));
    fields.finish();
    mode.unwrap_or(Some(MtlsMode::Unset))
}
