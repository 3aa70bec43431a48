//! Whether peers would accept what is signed: names that cannot be written again, constraints on names or purposes,
//! and whatever else a verifier looks at are found before the first workload is refused.

use std::time::{Duration, SystemTime};

use mesh::Identity;
use tls::{KeyAndRequest, WorkloadCertificate};

use super::{Material, MaterialError};
use crate::server::authority;

/// Whom the certificate is for; nobody gets it.
const NAMES: (&str, &str, &str) = ("cluster.local", "probe", "probe");
/// Its life: only looked at here and now.
const LIFE: Duration = Duration::from_secs(60);

/// Signs a certificate and holds it against the roots, as a workload does.
pub(super) fn check(material: &Material, now: SystemTime) -> Result<(), MaterialError> {
    let refused = |error: &dyn std::fmt::Display| MaterialError::Refused(error.to_string());
    let identity = Identity::new(NAMES.0, NAMES.1, NAMES.2);
    let made = KeyAndRequest::generate(&identity).map_err(|error| refused(&error))?;
    let issued = authority::sign(material, &made.request_pem, &identity, LIFE, now.into())
        .map_err(|error| refused(&error))?;
    WorkloadCertificate::from_pem(&issued.chain, &made.key, &identity).map_err(|error| refused(&error))?;
    Ok(())
}
