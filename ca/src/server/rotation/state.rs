//! What outlives a process.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::server::clock::Moment;

/// How many roots are remembered that were exchanged.
pub(super) const MAX_RETIRED: usize = 3;

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// No rotation: one root signs and is trusted.
    Steady,
    /// The new root is trusted; the old one signs.
    Introduced,
    /// The new root signs; the old one is trusted.
    Switched,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Steady => "steady",
            Self::Introduced => "introduced",
            Self::Switched => "switched",
        })
    }
}

/// How far the rotation of an authority is, as it is written down beside the authority's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationState {
    /// How far.
    pub phase: Phase,
    /// Since when.
    #[serde(with = "seconds")]
    pub since: SystemTime,
    /// Of the roots that are trusted and the one that signs; greater with every change.
    #[serde(deserialize_with = "seconds::number")]
    pub generation: u64,
    /// The longest life of any certificate that was issued.
    #[serde(with = "life")]
    pub longest_life: Duration,
    /// The roots that were exchanged before, in PEM, the last one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<String>,
    /// The last request of a rotation that was taken up, as its author called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// The text is no state of a rotation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state of the root's rotation cannot be read: {0}")]
pub struct StateError(String);

impl RotationState {
    pub(in crate::server) fn new(now: SystemTime, longest_life: Duration) -> Self {
        Self {
            phase: Phase::Steady,
            since: whole_seconds(now),
            generation: unix_seconds(now),
            longest_life,
            retired: Vec::new(),
            request: None,
        }
    }

    /// Generations are no smaller than the time in seconds, so that an authority that was made anew does not begin
    /// below what proxies remember of the one before.
    pub(super) fn followed_by(&self, phase: Phase, now: impl Into<Moment>) -> Self {
        let now = now.into();
        Self {
            phase,
            since: whole_seconds(now.latest),
            generation: self.generation.saturating_add(1).max(unix_seconds(now.stamp())),
            ..self.clone()
        }
    }

    /// How long it has been so.
    pub fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.since).unwrap_or_default()
    }

    /// As one line of JSON.
    pub fn to_text(&self) -> String {
        // It holds numbers and texts, which serde_json never refuses.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`RotationState::to_text`] wrote.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_text(text: &str) -> Result<Self, StateError> {
        serde_json::from_str(text).map_err(|error| StateError(error.to_string()))
    }
}

/// Rounded up: nothing that is waited for may come early.
pub(super) fn whole_seconds(time: SystemTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(unix_seconds(time))
}

pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs() + u64::from(since.subsec_nanos() > 0)
}

pub(in crate::server) mod seconds {
    use std::time::{Duration, SystemTime};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        super::unix_seconds(*time).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(number(deserializer)?))
    }

    /// Seconds since 1970, or a count that began there.
    pub(in crate::server) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        // The last second of the year 9999, behind which no time can be written (RFC 3339 §1); a greater number is
        // damage, and there must be room for the next one.
        const LAST: u64 = 253_402_300_799;
        match u64::deserialize(deserializer)? {
            seconds @ ..=LAST => Ok(seconds),
            _ => Err(serde::de::Error::custom("a time after the year 9999")),
        }
    }
}

mod life {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::server::MAX_TTL;

    pub(super) fn serialize<S: Serializer>(life: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        life.as_secs().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        // None was ever longer; a greater number is damage.
        let longest = MAX_TTL + Duration::from_secs(1);
        Ok(Duration::from_secs(u64::deserialize(deserializer)?).min(longest))
    }
}
