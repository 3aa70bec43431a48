//! The cryptography, named explicitly: no process-wide default is read or set.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};

/// Which algorithms of TLS 1.3 are spoken.
///
/// All of them use the cipher suites `TLS_AES_256_GCM_SHA384` and `TLS_AES_128_GCM_SHA256` only: peers of the
/// mesh's protocol offer no other. They differ in the key exchange. This is a choice of algorithms; the library
/// that computes them is not a validated module under any of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CompliancePolicy {
    /// `X25519MLKEM768` preferred, then X25519, P-256, P-384.
    #[default]
    None,
    /// `X25519MLKEM768` alone: who cannot do it is refused.
    PostQuantum,
    /// What FIPS 140-3 approves of the above: ECDHE over P-256 and P-384 (SP 800-56A), AES-GCM (SP 800-38D).
    Fips,
}

/// The text names no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`pqc`, `fips`, or nothing")]
pub struct UnknownPolicy;

impl FromStr for CompliancePolicy {
    type Err = UnknownPolicy;

    /// Reads the form of `COMPLIANCE_POLICY`; empty is no policy.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Ok(Self::None),
            "pqc" => Ok(Self::PostQuantum),
            "fips" => Ok(Self::Fips),
            _ => Err(UnknownPolicy),
        }
    }
}

impl fmt::Display for CompliancePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::PostQuantum => "pqc",
            Self::Fips => "fips",
        })
    }
}

/// The provider of `policy`.
pub(crate) fn provider(policy: CompliancePolicy) -> Arc<CryptoProvider> {
    static ANY: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        with_groups(vec![
            aws_lc_rs::kx_group::X25519MLKEM768,
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
            aws_lc_rs::kx_group::SECP384R1,
        ])
    });
    static POST_QUANTUM: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| with_groups(vec![aws_lc_rs::kx_group::X25519MLKEM768]));
    static FIPS: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        with_groups(vec![
            aws_lc_rs::kx_group::SECP256R1,
            aws_lc_rs::kx_group::SECP384R1,
        ])
    });
    match policy {
        CompliancePolicy::None => ANY.clone(),
        CompliancePolicy::PostQuantum => POST_QUANTUM.clone(),
        CompliancePolicy::Fips => FIPS.clone(),
    }
}

fn with_groups(kx_groups: Vec<&'static dyn SupportedKxGroup>) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ],
        kx_groups,
        ..aws_lc_rs::default_provider()
    })
}
