//! The cryptography, named explicitly: no process-wide default is read or set.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

/// Which algorithms are spoken.
///
/// In TLS 1.3 all of them use the cipher suites `TLS_AES_256_GCM_SHA384` and `TLS_AES_128_GCM_SHA256` only: peers of
/// the mesh's protocol offer no other. They differ in the key exchange. This is a choice of algorithms; the library
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

/// Which versions of TLS are spoken in tunnels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Versions {
    /// TLS 1.3 alone.
    #[default]
    Tls13,
    /// TLS 1.2 (RFC 5246) too, with ECDHE and AES-GCM (RFC 5289), where the peer knows no better. It shows the
    /// certificates of both sides to whoever listens, and knows no post-quantum key exchange: under
    /// [`CompliancePolicy::PostQuantum`] it is never spoken.
    AlsoTls12,
}

impl Versions {
    /// As the library names them, under `policy`.
    pub(crate) fn under(self, policy: CompliancePolicy) -> &'static [&'static SupportedProtocolVersion] {
        static NEW: &[&SupportedProtocolVersion] = &[&TLS13];
        static BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
        match (self, policy) {
            (Self::Tls13, _) | (_, CompliancePolicy::PostQuantum) => NEW,
            (Self::AlsoTls12, _) => BOTH,
        }
    }
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

/// The provider of `policy`, with the suites of `versions` alone: the library offers what the provider has, spoken or
/// not.
pub(crate) fn provider(policy: CompliancePolicy, versions: Versions) -> Arc<CryptoProvider> {
    static ANY: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| new(SUITES, ANY_GROUP));
    static ANY_ALSO_12: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| new(SUITES_ALSO_12, ANY_GROUP));
    static POST_QUANTUM: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| new(SUITES, &[aws_lc_rs::kx_group::X25519MLKEM768]));
    static FIPS: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| new(SUITES, FIPS_GROUPS));
    static FIPS_ALSO_12: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| new(SUITES_ALSO_12, FIPS_GROUPS));
    let provider = match (policy, versions) {
        (CompliancePolicy::None, Versions::Tls13) => &ANY,
        (CompliancePolicy::None, Versions::AlsoTls12) => &ANY_ALSO_12,
        (CompliancePolicy::PostQuantum, _) => &POST_QUANTUM,
        (CompliancePolicy::Fips, Versions::Tls13) => &FIPS,
        (CompliancePolicy::Fips, Versions::AlsoTls12) => &FIPS_ALSO_12,
    };
    LazyLock::force(provider).clone()
}

const SUITES: &[SupportedCipherSuite] = &[
    aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
    aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
];

const SUITES_ALSO_12: &[SupportedCipherSuite] = &[
    aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
    aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
    aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

const ANY_GROUP: &[&dyn SupportedKxGroup] = &[
    aws_lc_rs::kx_group::X25519MLKEM768,
    aws_lc_rs::kx_group::X25519,
    aws_lc_rs::kx_group::SECP256R1,
    aws_lc_rs::kx_group::SECP384R1,
];

const FIPS_GROUPS: &[&dyn SupportedKxGroup] =
    &[aws_lc_rs::kx_group::SECP256R1, aws_lc_rs::kx_group::SECP384R1];

fn new(suites: &[SupportedCipherSuite], groups: &[&'static dyn SupportedKxGroup]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: suites.to_vec(),
        kx_groups: groups.to_vec(),
        ..aws_lc_rs::default_provider()
    })
}
