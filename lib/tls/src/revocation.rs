//! Certificates that their authority has taken back: revocation lists (RFC 5280 §5).

use std::fmt;
use std::sync::Arc;

use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptions, RevocationOptionsBuilder, UnknownStatusPolicy,
};

use crate::HandshakeError;
use crate::verify::{self, Chain};

/// The most text or DER read for all lists together, in bytes.
pub const MAX_REVOCATION_BYTES: usize = 32 * 1024 * 1024;
/// The most lists.
pub const MAX_REVOCATION_LISTS: usize = 64;
/// The most ways to choose one list for each issuer that are tried.
const MAX_CHOICES: usize = 64;

/// What is asked about the certificates of peers, their own and those above it.
#[derive(Clone, Debug, Default)]
pub enum Revocation {
    /// Nothing: no lists are configured.
    #[default]
    Unchecked,
    /// A certificate on a list is refused. One that no list covers is accepted, and lists count after their
    /// `nextUpdate` too, since an old list names true things.
    Listed(RevocationLists),
    /// As `Listed`, and every certificate below the root must be covered by a list of its issuer that is current.
    Required(RevocationLists),
    /// Everybody is refused, for this reason: a list is required, and none could be read.
    Closed(Arc<str>),
}

/// Revocation lists. Cheap to clone.
#[derive(Clone, Default)]
pub struct RevocationLists {
    lists: Arc<[Arc<CertRevocationList<'static>>]>,
}

/// Why lists could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationError {
    /// More than any sensible set of lists.
    #[error("{0} bytes of revocation lists; at most {MAX_REVOCATION_BYTES} are read")]
    TooLong(usize),
    /// More than any sensible set of lists.
    #[error("more than {MAX_REVOCATION_LISTS} revocation lists")]
    TooMany,
    /// Neither PEM nor DER of a revocation list.
    #[error("not a revocation list: {0}; PEM blocks `X509 CRL`, or one list in DER, are read")]
    Malformed(String),
    /// No list at all.
    #[error("there is no revocation list in it")]
    Empty,
}

impl RevocationLists {
    /// Reads the lists in `texts`, each a PEM text with one or several lists, or one list in DER.
    ///
    /// # Errors
    /// When one of them is no list, or there is none: a set that is read in part would be less than what was
    /// asked for.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, RevocationError> {
        let mut lists = Vec::new();
        let mut bytes = 0;
        for text in texts {
            bytes += text.len();
            if bytes > MAX_REVOCATION_BYTES {
                return Err(RevocationError::TooLong(bytes));
            }
            for der in ders(text)? {
                if lists.len() == MAX_REVOCATION_LISTS {
                    return Err(RevocationError::TooMany);
                }
                let list = OwnedCertRevocationList::from_der(&der)
                    .map_err(|error| RevocationError::Malformed(error.to_string()))?;
                lists.push(Arc::new(CertRevocationList::from(list)));
            }
        }
        if lists.is_empty() {
            return Err(RevocationError::Empty);
        }
        Ok(Self { lists: lists.into() })
    }

    fn with(&self, more: &Self) -> Self {
        Self {
            lists: self.lists.iter().chain(more.lists.iter()).cloned().collect(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lists.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Whether one of them names a certificate of this chain.
    fn name(&self, chain: &Chain<'_>) -> bool {
        let by_issuer = self.of_issuers(chain);
        // One at a time: of several lists under one name the library would look at the first only, and a list that is
        // signed by another key of that name says nothing about this chain.
        by_issuer.iter().flatten().any(|list| {
            options(std::slice::from_ref(list), false).is_some_and(|options| {
                let verified = chain.verify_unless_revoked(Some(options));
                matches!(verified, Err(webpki::Error::CertRevoked))
            })
        })
    }

    /// The lists of each issuer named in the chain; issuers without any are left out.
    fn of_issuers(&self, chain: &Chain<'_>) -> Vec<Vec<&CertRevocationList<'static>>> {
        let mut issuers = vec![chain.leaf.issuer().to_vec()];
        for certificate in chain.intermediates {
            if let Ok(parsed) = EndEntityCert::try_from(certificate) {
                issuers.push(parsed.issuer().to_vec());
            }
        }
        issuers.sort();
        issuers.dedup();
        issuers
            .iter()
            .map(|issuer| {
                let all = self.lists.iter().map(Arc::as_ref);
                all.filter(|list| list.issuer() == issuer).collect()
            })
            .filter(|lists: &Vec<_>| !lists.is_empty())
            .collect()
    }
}

impl fmt::Debug for RevocationLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lists", self.len())
    }
}

impl Revocation {
    /// With these lists besides. Where a list is required and none could be read, nobody is accepted all the same.
    pub(crate) fn with(&self, more: &RevocationLists) -> Self {
        match self {
            _ if more.is_empty() => self.clone(),
            Self::Unchecked => Self::Listed(more.clone()),
            Self::Listed(lists) => Self::Listed(lists.with(more)),
            Self::Required(lists) => Self::Required(lists.with(more)),
            Self::Closed(reason) => Self::Closed(reason.clone()),
        }
    }

    /// Judges a chain that leads to one of its anchors.
    pub(crate) fn judge(&self, chain: &Chain<'_>) -> Result<(), rustls::Error> {
        let (lists, required) = match self {
            Self::Unchecked => return Ok(()),
            Self::Closed(reason) => return Err(unknown(reason)),
            Self::Listed(lists) => (lists, false),
            Self::Required(lists) => (lists, true),
        };
        if lists.name(chain) {
            return Err(rustls::CertificateError::Revoked.into());
        }
        if !required {
            return Ok(());
        }
        let by_issuer = lists.of_issuers(chain);
        let choices: usize = by_issuer.iter().map(Vec::len).product();
        let mut last = "no list covers its issuer".to_owned();
        for choice in 0..choices.min(MAX_CHOICES) {
            let mut rest = choice;
            let chosen: Vec<_> = by_issuer
                .iter()
                .map(|lists| {
                    let list = lists[rest % lists.len()];
                    rest /= lists.len();
                    list
                })
                .collect();
            let Some(options) = options(&chosen, true) else {
                break;
            };
            match chain.verify_unless_revoked(Some(options)) {
                Ok(()) => return Ok(()),
                Err(webpki::Error::CertRevoked) => return Err(rustls::CertificateError::Revoked.into()),
                Err(webpki::Error::CrlExpired { .. }) => {
                    last = "the list of its issuer has expired".to_owned()
                }
                Err(webpki::Error::UnknownRevocationStatus) => {}
                Err(other) => last = other.to_string(),
            }
        }
        Err(unknown(&last))
    }

    /// Whether a list names a certificate of this chain, which leads to one of its anchors. That a list is missing, or old,
    /// says nothing here.
    pub(crate) fn names(&self, chain: &Chain<'_>) -> bool {
        match self {
            Self::Unchecked | Self::Closed(_) => false,
            Self::Listed(lists) | Self::Required(lists) => lists.name(chain),
        }
    }
}

fn options<'a>(lists: &'a [&'a CertRevocationList<'a>], required: bool) -> Option<RevocationOptions<'a>> {
    let (status, expiration) = if required {
        (UnknownStatusPolicy::Deny, ExpirationPolicy::Enforce)
    } else {
        (UnknownStatusPolicy::Allow, ExpirationPolicy::Ignore)
    };
    let builder = RevocationOptionsBuilder::new(lists).ok()?;
    Some(
        builder
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(status)
            .with_expiration_policy(expiration)
            .build(),
    )
}

fn unknown(reason: &str) -> rustls::Error {
    verify::refuse(HandshakeError::RevocationUnknown(reason.to_owned()))
}

/// The lists of one text, in DER.
fn ders(text: &[u8]) -> Result<Vec<Vec<u8>>, RevocationError> {
    const BEGIN: &[u8] = b"-----BEGIN";
    if !text.windows(BEGIN.len()).any(|window| window == BEGIN) {
        // An empty text is a file that is still to be filled.
        return if text.iter().all(u8::is_ascii_whitespace) {
            Ok(Vec::new())
        } else {
            Ok(vec![text.to_vec()])
        };
    }
    let blocks = ::pem::parse_many(text).map_err(|error| RevocationError::Malformed(error.to_string()))?;
    blocks
        .into_iter()
        .map(|block| match block.tag() {
            "X509 CRL" => Ok(block.into_contents()),
            other => Err(RevocationError::Malformed(format!("a PEM block `{other}`"))),
        })
        .collect()
}

#[cfg(test)]
mod tests;
