//! Certificates that an authority with a root of its own has taken back, and the lists that say so (RFC 5280 §5).

mod orders;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::authority::{AuthorityError, normal, whole_seconds};
use super::key::Key;
use super::rotation::{number, root_life};
use super::stored::{KeyAndCertificate, StoredAuthority};

pub use orders::{Answer, MAX_ORDERS, Order};

/// How many certificates are on the list at most. Each is taken off it when it must have expired.
pub const MAX_REVOKED: usize = 2048;
/// The length of a serial number in hexadecimal: what this authority gives its certificates.
const SERIAL_DIGITS: usize = 32;

/// What is revoked, and the lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    /// Greater with every change.
    #[serde(deserialize_with = "number")]
    pub number: u64,
    /// By serial number in lower-case hexadecimal.
    entries: BTreeMap<String, Entry>,
    /// What every process that has issued certificates is to revoke of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    orders: Vec<Order>,
    /// One list for each root that trusted certificates are signed by, in PEM.
    pub lists: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// Since when, in seconds since 1970.
    #[serde(deserialize_with = "number")]
    at: u64,
    /// When the certificate must have expired.
    #[serde(deserialize_with = "number")]
    until: u64,
}

/// Why nothing is revoked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// It is no serial number of ours.
    #[error(
        "'{0}' is no serial number of this authority: write 32 hexadecimal digits, as logs and `openssl x509 -serial` have them"
    )]
    Serial(String),
    /// There is no room.
    #[error(
        "{MAX_REVOKED} certificates are revoked already; each is forgotten when it must have expired. To break with all at once exchange the root"
    )]
    TooMany,
    /// There is no room for so many.
    #[error(
        "{found} certificates are meant, and {room} more can be revoked; to break with so many at once exchange the root"
    )]
    NoRoom {
        /// How many this process has issued of what is meant.
        found: usize,
        /// How many there is room for.
        room: usize,
    },
    /// There is no room for one that says which.
    #[error(
        "{MAX_ORDERS} revocations by identity or node are in force already; each is forgotten when its certificates must have expired"
    )]
    TooManyOrders,
}

/// A serial number as logs write it: lower case, without colons.
///
/// # Errors
/// When it is none of this authority's.
pub fn parse_serial(text: &str) -> Result<String, RevokeError> {
    let serial: String = text.trim().chars().filter(|one| *one != ':').collect();
    let serial = serial.to_ascii_lowercase();
    let is_good = serial.len() == SERIAL_DIGITS && serial.bytes().all(|byte| byte.is_ascii_hexdigit());
    let shown = || {
        text.chars()
            .take(80)
            .collect::<String>()
            .escape_default()
            .to_string()
    };
    is_good
        .then_some(serial)
        .ok_or_else(|| RevokeError::Serial(shown()))
}

impl Revocations {
    fn from_text(text: &str) -> Result<Self, serde_json::Error> {
        let read: Self = serde_json::from_str(text)?;
        match read
            .entries
            .keys()
            .find(|serial| parse_serial(serial).as_ref() != Ok(*serial))
        {
            Some(serial) => Err(serde::de::Error::custom(format!(
                "'{}' is no serial number",
                serial.escape_default()
            ))),
            None => Ok(read),
        }
    }

    /// As one line.
    fn to_text(&self) -> String {
        // It holds numbers and texts, which serde_json never refuses.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Puts these on the list, beyond its bound too.
    fn put(&mut self, serials: &[String], now: SystemTime, longest_life: Duration) {
        let entry = Entry {
            at: seconds(now),
            until: seconds(now + longest_life) + 1,
        };
        for serial in serials {
            let known = self.entries.entry(serial.clone()).or_insert(entry);
            known.until = known.until.max(entry.until);
        }
    }

    /// How many more the list takes.
    pub fn room(&self) -> usize {
        MAX_REVOKED.saturating_sub(self.len())
    }

    /// No smaller than the time in seconds, so that a list that was lost and begun anew is not older than what was told.
    fn advance(&mut self, now: SystemTime) {
        self.number = (self.number + 1).max(seconds(now));
    }

    /// How many are on the list.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether this serial number is on the list.
    pub fn contains(&self, serial: &str) -> bool {
        self.entries.contains_key(serial)
    }

    /// What is to be revoked by identity or node.
    pub fn orders(&self) -> &[Order] {
        &self.orders
    }

    /// When something was put on it last, of what is on it still.
    pub(super) fn last_change(&self) -> Option<SystemTime> {
        let entries = self.entries.values().map(|entry| entry.at);
        let last = entries.chain(self.orders.iter().map(|order| order.at)).max()?;
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(last))
    }

    /// Whether some must have expired by now.
    pub fn has_expired(&self, now: SystemTime) -> bool {
        let now = seconds(now);
        self.entries.values().any(|entry| entry.until <= now)
            || self.orders.iter().any(|order| order.until <= now)
    }
}

impl StoredAuthority {
    /// What is revoked, if anything ever was.
    pub fn revocations(&self) -> Option<Revocations> {
        self.sound_revocations().ok().flatten()
    }

    /// The same, where what is written down must not be passed over.
    ///
    /// # Errors
    /// When it cannot be read: it would be revoked no longer.
    pub(super) fn sound_revocations(&self) -> Result<Option<Revocations>, AuthorityError> {
        let read = self.revoked.as_deref().map(Revocations::from_text).transpose();
        read.map_err(|error| {
            AuthorityError::Revoke(format!(
                "what is revoked cannot be read ({error}): restore it, or take it out, and what it named is accepted again"
            ))
        })
    }

    /// Puts these on the list, which must have expired within `longest_life`.
    ///
    /// # Errors
    /// When there is no room, or the list cannot be signed.
    pub fn revoke(
        &mut self,
        serials: &[String],
        now: SystemTime,
        longest_life: Duration,
    ) -> Result<(), AuthorityError> {
        let mut revocations = self.sound_revocations()?.unwrap_or_default();
        revocations.put(serials, now, longest_life);
        if revocations.len() > MAX_REVOKED {
            return Err(AuthorityError::Revoke(RevokeError::TooMany.to_string()));
        }
        revocations.advance(now);
        self.sign_lists(revocations, now)
    }

    /// Takes off the list what must have expired by `ended`, the earliest time that it may be, and signs it anew at `now`.
    /// Whether that was anything.
    ///
    /// # Errors
    /// When the list cannot be signed.
    pub fn forget_expired(&mut self, ended: SystemTime, now: SystemTime) -> Result<bool, AuthorityError> {
        let Some(mut revocations) = self.sound_revocations()?.filter(|all| all.has_expired(ended)) else {
            return Ok(false);
        };
        let ended = seconds(ended);
        revocations.entries.retain(|_, entry| entry.until > ended);
        revocations.orders.retain(|order| order.until > ended);
        revocations.advance(now);
        self.sign_lists(revocations, now)?;
        Ok(true)
    }

    /// Signs the lists anew, because the roots have changed; nothing where nothing was ever revoked.
    pub(super) fn renew_lists(&mut self, now: SystemTime) -> Result<(), AuthorityError> {
        match self.sound_revocations()? {
            Some(mut revocations) => {
                revocations.advance(now);
                self.sign_lists(revocations, now)
            }
            None => Ok(()),
        }
    }

    fn sign_lists(&mut self, mut revocations: Revocations, now: SystemTime) -> Result<(), AuthorityError> {
        let previous = self.previous.clone().zip(self.previous_key.clone());
        let previous = previous.map(|(certificate, key)| KeyAndCertificate { key, certificate });
        let roots = std::iter::once(&self.current).chain(&self.next).chain(&previous);
        let lists = roots.map(|root| list(root, &revocations, now));
        revocations.lists = lists.collect::<Result<Vec<_>, _>>()?.concat();
        self.revoked = Some(revocations.to_text());
        Ok(())
    }
}

/// All that is revoked, as signed by one root: a serial number that another root has given does no harm on it. It counts
/// until the root ends, since whoever needs a newer one is told.
fn list(
    root: &KeyAndCertificate,
    revocations: &Revocations,
    now: SystemTime,
) -> Result<String, AuthorityError> {
    let failed =
        |problem: String| AuthorityError::Revoke(format!("the list of revoked certificates: {problem}"));
    let key = Key::from_pem(&root.key).map_err(|problem| failed(problem.to_owned()))?;
    let block = pem::parse(&root.certificate).map_err(|error| failed(error.to_string()))?;
    let issuer =
        Issuer::from_ca_cert_der(&block.contents().into(), key).map_err(|error| failed(error.to_string()))?;
    let ends = root_life(&root.certificate).map_or(now, |life| life.not_after);
    let at = |time: SystemTime| OffsetDateTime::from(whole_seconds(time));
    let revoked = revocations
        .entries
        .iter()
        .map(|(serial, entry)| RevokedCertParams {
            serial_number: SerialNumber::from(bytes(serial)),
            revocation_time: at(SystemTime::UNIX_EPOCH + Duration::from_secs(entry.at)),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
    let list = CertificateRevocationListParams {
        this_update: at(now),
        next_update: at(ends.max(now + Duration::from_secs(1))),
        crl_number: SerialNumber::from(revocations.number),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let signed = list
        .signed_by(&issuer)
        .map_err(|error| failed(error.to_string()))?;
    Ok(normal(&signed.pem().map_err(|error| failed(error.to_string()))?))
}

fn bytes(serial: &str) -> Vec<u8> {
    let digits = serial.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).unwrap_or_default();
        u8::from_str_radix(text, 16).unwrap_or_default()
    };
    digits.map(byte).collect()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests;
