//! What matters of an authority's certificate.

use std::time::{Duration, SystemTime};

use super::{MAX_CERTIFICATES, MaterialError};

/// One certificate.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) der: Vec<u8>,
    /// For people.
    pub(super) name: String,
    pub(super) subject: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    /// The bits of the public key, without the algorithm.
    pub(super) public_key: Vec<u8>,
    /// CA:true, and may sign certificates.
    pub(super) is_authority: bool,
    /// How many authorities may be below it.
    pub(super) path_length: Option<u32>,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

/// All certificates of a PEM text; other blocks are left out.
pub(super) fn read(part: &'static str, text: &str) -> Result<Vec<Facts>, MaterialError> {
    let bad = |problem: String| MaterialError::Certificates { part, problem };
    let blocks = pem::parse_many(text).map_err(|error| bad(error.to_string()))?;
    let blocks: Vec<_> = blocks
        .into_iter()
        .filter(|block| block.tag() == "CERTIFICATE")
        .collect();
    if blocks.is_empty() && !text.trim().is_empty() {
        return Err(bad("there is no CERTIFICATE in it; it may be cut off".to_owned()));
    }
    if blocks.len() > MAX_CERTIFICATES {
        return Err(bad(format!("at most {MAX_CERTIFICATES} certificates are read")));
    }
    let facts = blocks.into_iter().map(|block| Facts::of(block.into_contents()));
    facts.collect::<Result<_, _>>().map_err(bad)
}

/// Each certificate once, in their order.
pub(super) fn distinct(certificates: Vec<Facts>) -> Vec<Facts> {
    let mut seen = Vec::with_capacity(certificates.len());
    for certificate in certificates {
        if !seen.contains(&certificate) {
            seen.push(certificate);
        }
    }
    seen
}

impl Facts {
    fn of(der: Vec<u8>) -> Result<Self, String> {
        let (rest, parsed) = x509_parser::parse_x509_certificate(&der)
            .map_err(|error| format!("a certificate is malformed: {error}"))?;
        if !rest.is_empty() {
            return Err("bytes follow a certificate".to_owned());
        }
        let basic = parsed
            .basic_constraints()
            .map_err(|error| format!("a certificate is malformed: {error}"))?;
        let may_sign = parsed
            .key_usage()
            .map_err(|error| format!("a certificate is malformed: {error}"))?
            .is_none_or(|usage| usage.value.key_cert_sign());
        Ok(Self {
            name: parsed.subject().to_string(),
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            public_key: parsed.public_key().subject_public_key.data.to_vec(),
            is_authority: may_sign && basic.as_ref().is_some_and(|basic| basic.value.ca),
            path_length: basic.and_then(|basic| basic.value.path_len_constraint),
            not_before: at(parsed.validity().not_before),
            not_after: at(parsed.validity().not_after),
            der,
        })
    }

    /// Whether its issuer's name is its own, and so it is not counted in path lengths: RFC 5280 §4.2.1.9.
    pub(super) fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether `issuer` has signed it.
    pub(super) fn is_signed_by(&self, issuer: &Facts) -> bool {
        if self.issuer != issuer.subject {
            return false;
        }
        let own = x509_parser::parse_x509_certificate(&self.der);
        let above = x509_parser::parse_x509_certificate(&issuer.der);
        match (own, above) {
            (Ok((_, own)), Ok((_, above))) => own.verify_signature(Some(above.public_key())).is_ok(),
            _ => false,
        }
    }
}

fn at(time: x509_parser::time::ASN1Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}
