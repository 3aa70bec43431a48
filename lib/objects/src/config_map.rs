//! ConfigMap: texts by key. Which of them mean something is their reader's affair.

use std::collections::BTreeMap;

use crate::read::Fields;

/// Texts by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMap {
    /// What `data` says.
    pub data: BTreeMap<String, String>,
}

impl ConfigMap {
    pub(crate) fn read(fields: &mut Fields<'_>) -> ConfigMap {
        let data = fields.get("data").map(|field| field.text_map(|_, _| Ok(())));
        fields.keep(&["binaryData", "immutable"]);
        ConfigMap {
            data: data.unwrap_or_default(),
        }
    }
}
