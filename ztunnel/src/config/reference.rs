//! Settings of Istio's node proxy that this one does not have.

use super::error::{ConfigError, invalid};
use super::variables::Variables;

/// The names, each with the value that asks for nothing.
const NOT_IMPLEMENTED: [(&str, &str); 2] = [("UNSTABLE_ENABLE_SOCKS5", "false"), ("TLS12_ENABLED", "false")];

/// The settings that are set and have no effect here, for one warning at the start.
pub(super) fn not_implemented(variables: &Variables) -> Vec<String> {
    let asks = |(name, nothing): &(&str, &str)| {
        let value = variables.optional(name)?;
        (value != *nothing).then(|| (*name).to_owned())
    };
    NOT_IMPLEMENTED.iter().filter_map(asks).collect()
}

/// `FAKE_CA` would sign certificates that prove nothing; a manifest that asks for it is a mistake.
pub(super) fn refuse_fake_authority(variables: &Variables) -> Result<(), ConfigError> {
    if variables.switch("FAKE_CA", false)? {
        return Err(invalid(
            "FAKE_CA",
            "true",
            "only `false`: certificates come from the authority at CA_ADDRESS",
        ));
    }
    Ok(())
}

/// What deployments set for Istio's node proxy and what nothing follows from: `INPOD_ENABLED` is always so here.
pub(super) fn ignore(variables: &Variables) {
    let _ = variables.raw("INPOD_ENABLED");
}
