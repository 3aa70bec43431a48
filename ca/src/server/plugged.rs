//! An intermediate authority that somebody else issued: the layouts in which it comes, in files or in a Secret.

use std::collections::BTreeMap;
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::material::{Material, MaterialError};
use super::stored::KeyAndCertificate;

/// The most that is read of one part, in bytes.
pub const MAX_PART_BYTES: usize = 1024 * 1024;

/// The names of Istio's layout: certificate, key, chain, roots, revocation list.
const ISTIO: [&str; 5] = [
    "ca-cert.pem",
    "ca-key.pem",
    "cert-chain.pem",
    "root-cert.pem",
    "ca-crl.pem",
];
/// Those of cert-manager's, which has the chain behind the certificate.
const CERT_MANAGER: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// A plugged-in authority, ready to sign. It has no `Debug`.
pub struct Plugged {
    /// What signs.
    pub material: Material,
    /// A list of certificates that the authority has revoked, in PEM, where there is one.
    pub revocation_list: Option<String>,
}

/// Why a plugged-in authority cannot be used. No text in here repeats a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PluggedError {
    /// There is nothing of it.
    #[error(
        "there is neither ca-cert.pem nor tls.crt: give ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem, or tls.crt, tls.key and ca.crt"
    )]
    Nothing,
    /// Some parts are there, others not.
    #[error("it is incomplete: {missing} is missing; give all of {all}")]
    Incomplete {
        /// The first part that is not there.
        missing: &'static str,
        /// All that are needed.
        all: String,
    },
    /// A part is no text, or far too long.
    #[error("{part} is not a PEM text of at most {MAX_PART_BYTES} bytes")]
    NotText {
        /// Which.
        part: &'static str,
    },
    /// The revocation list is none.
    #[error("ca-crl.pem holds no X509 CRL in PEM, or a malformed one")]
    RevocationList,
    /// The parts do not make an authority.
    #[error(transparent)]
    Material(#[from] MaterialError),
}

/// The names of all parts that are read.
pub fn plugged_parts() -> impl Iterator<Item = &'static str> {
    ISTIO.into_iter().chain(CERT_MANAGER)
}

impl Plugged {
    /// Puts together what `parts` hold by name; names that are not known are left out. Where both layouts are there,
    /// Istio's counts. `more_roots`, in PEM, are trusted besides.
    ///
    /// # Errors
    /// When parts are missing, cannot be read, or do not make an authority at `now`.
    pub fn from_parts(
        parts: &BTreeMap<String, Zeroizing<Vec<u8>>>,
        more_roots: &str,
        now: SystemTime,
    ) -> Result<Self, PluggedError> {
        let is_istio = ISTIO[..4].iter().any(|part| parts.contains_key(*part));
        let needed: &[&'static str] = if is_istio { &ISTIO[..4] } else { &CERT_MANAGER };
        if !needed.iter().any(|part| parts.contains_key(*part)) {
            return Err(PluggedError::Nothing);
        }
        let text = |part: &'static str| {
            let bytes = parts.get(part).ok_or_else(|| PluggedError::Incomplete {
                missing: part,
                all: needed.join(", "),
            })?;
            let text = std::str::from_utf8(bytes).ok();
            text.filter(|text| text.len() <= MAX_PART_BYTES)
                .ok_or(PluggedError::NotText { part })
        };
        let (certificate, key, chain, roots) = match *needed {
            [certificate, key, chain, roots] => (text(certificate)?, text(key)?, text(chain)?, text(roots)?),
            _ => (
                text(CERT_MANAGER[0])?,
                text(CERT_MANAGER[1])?,
                "",
                text(CERT_MANAGER[2])?,
            ),
        };
        let signing = KeyAndCertificate {
            key: Zeroizing::new(key.to_owned()),
            certificate: certificate.to_owned(),
        };
        let revocation_list = parts.contains_key(ISTIO[4]).then(|| text(ISTIO[4])).transpose()?;
        if let Some(list) = revocation_list {
            check_list(list)?;
        }
        Ok(Self {
            material: Material::new(
                &signing,
                chain,
                &format!("{}\n{more_roots}", roots.trim_end()),
                now,
            )?,
            revocation_list: revocation_list.map(str::to_owned),
        })
    }
}

fn check_list(text: &str) -> Result<(), PluggedError> {
    let blocks = pem::parse_many(text).map_err(|_| PluggedError::RevocationList)?;
    let sound = |block: &pem::Pem| {
        block.tag() == "X509 CRL"
            && x509_parser::parse_x509_crl(block.contents()).is_ok_and(|(rest, _)| rest.is_empty())
    };
    if blocks.is_empty() || !blocks.iter().all(sound) {
        return Err(PluggedError::RevocationList);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
