//! Settings of Istio's node proxy that mean nothing here, or nothing good.

use super::error::{ConfigError, invalid};
use super::variables::Variables;

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
