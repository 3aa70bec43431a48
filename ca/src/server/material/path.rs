//! The way from an issuing certificate to a root.

use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::MaterialError;
use super::facts::Facts;

/// The longest way, the root included: longer ones are refused by peers too.
const MAX_LENGTH: usize = 8;

/// From the issuing certificate to a root, both included; one when a root issues.
pub(super) struct Path {
    pub(super) certificates: Vec<Facts>,
}

/// Finds the way, and checks everyone on it.
pub(super) fn find(
    issuing: Facts,
    between: &[Facts],
    roots: &[Facts],
    now: SystemTime,
) -> Result<Path, MaterialError> {
    let start = issuing.name.clone();
    let mut certificates = vec![issuing];
    while let Some(last) = certificates.last()
        && !roots.contains(last)
    {
        // Roots first: a chain often ends with a copy of the root, or with the root's certificate by another root.
        let above = roots
            .iter()
            .chain(between)
            .find(|candidate| !certificates.contains(candidate) && last.is_signed_by(candidate));
        match above {
            Some(above) if certificates.len() < MAX_LENGTH => certificates.push(above.clone()),
            _ => return Err(MaterialError::NoRoot(start)),
        }
    }
    let mut below = 0;
    for (index, certificate) in certificates.iter().enumerate() {
        if !certificate.is_authority {
            return Err(MaterialError::NotAnAuthority(certificate.name.clone()));
        }
        if now < certificate.not_before || certificate.not_after <= now {
            return Err(MaterialError::NotValid {
                name: certificate.name.clone(),
                from: written(certificate.not_before),
                to: written(certificate.not_after),
            });
        }
        if certificate.path_length.is_some_and(|most| most < below) {
            return Err(MaterialError::PathLength(certificate.name.clone()));
        }
        if index + 1 < certificates.len() && !certificate.is_self_issued() {
            below += 1;
        }
    }
    Ok(Path { certificates })
}

impl Path {
    /// All but the root.
    pub(super) fn intermediates(&self) -> &[Facts] {
        &self.certificates[..self.certificates.len() - 1]
    }

    pub(super) fn not_before(&self) -> SystemTime {
        let latest = self.certificates.iter().map(|certificate| certificate.not_before);
        latest.max().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    pub(super) fn not_after(&self) -> SystemTime {
        let first = self.certificates.iter().map(|certificate| certificate.not_after);
        first.min().unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

fn written(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}
