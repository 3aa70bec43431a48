//! WorkloadGroups: what WorkloadEntries that register themselves are made from.

use std::collections::BTreeMap;

use crate::read::Fields;
use crate::selector::Labels;
use crate::syntax;
use crate::workload_entry::WorkloadEntry;

/// What WorkloadEntries that register themselves are made from. The mesh knows only the entries; the group is read so
/// that manifests with one are checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadGroup {
    /// The labels of its entries.
    pub labels: Labels,
    /// The annotations of its entries.
    pub annotations: BTreeMap<String, String>,
    /// What its entries are, but for their addresses.
    pub template: WorkloadEntry,
}

impl WorkloadGroup {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<WorkloadGroup> {
        fields.keep(&["status"]);
        let mut spec = fields.require("spec", "a WorkloadGroup needs a spec")?.fields()?;
        let mut group = WorkloadGroup::default();
        if let Some(mut metadata) = spec.get("metadata").and_then(|field| field.fields()) {
            if let Some(field) = metadata.get("labels") {
                group.labels = field.text_map(syntax::label);
            }
            if let Some(field) = metadata.get("annotations") {
                group.annotations = field.text_map(syntax::annotation);
            }
            metadata.finish();
        }
        if let Some(field) = spec.require("template", "what its WorkloadEntries are") {
            let template = WorkloadEntry::read_spec(&field).unwrap_or_default();
            if template.address.is_some() {
                field.error("must give no address: each WorkloadEntry has its own");
            }
            group.template = template;
        }
        spec.keep(&["probe"]);
        spec.finish();
        Some(group)
    }
}
