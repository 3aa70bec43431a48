//! What the control plane is told about this proxy.

use super::error::{ConfigError, invalid};
use super::variables::Variables;
use serde_json::Value;
use std::collections::BTreeMap;

/// `ISTIO_META_*` as text and `ISTIO_METAJSON_*` as the JSON that they hold.
pub(super) fn node_metadata(variables: &Variables) -> Result<BTreeMap<String, Value>, ConfigError> {
    const JSON: &str = "ISTIO_METAJSON_";
    let texts = variables.with_prefix("ISTIO_META_").into_iter();
    let mut metadata: BTreeMap<String, Value> =
        texts.map(|(name, value)| (name, Value::String(value))).collect();
    for (name, text) in variables.with_prefix(JSON) {
        let value = serde_json::from_str(&text).map_err(|error| {
            invalid(
                &format!("{JSON}{name}"),
                &text,
                &format!("JSON is expected: {error}"),
            )
        })?;
        metadata.insert(name, value);
    }
    Ok(metadata)
}
