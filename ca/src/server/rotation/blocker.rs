//! What a rotation waits for, for people.

use std::fmt;
use std::time::SystemTime;

use mesh::Identity;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::ledger::Holder;
use super::state::Phase;

/// How many identities of one holder are named.
const NAMED: usize = 3;

/// One thing that the next step waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// The phase is too young.
    Pause {
        /// When it is old enough.
        until: SystemTime,
    },
    /// Certificates that were issued before this process began, or by another replica, may be in use.
    Unseen {
        /// When they have expired, all of them.
        until: SystemTime,
    },
    /// A replica has not said that it follows.
    Replica {
        /// Its name, by which its report is kept.
        name: String,
        /// Whether there is a report that can be read.
        is_readable: bool,
        /// When all that it may have issued before it does has expired.
        until: SystemTime,
    },
    /// A holder has not acknowledged the new root, and has certificates from before it.
    NotAcknowledged {
        /// Who.
        holder: Holder,
        /// Of whom its certificates from before are.
        identities: Vec<Identity>,
        /// How many more there are that other replicas have issued.
        unnamed: usize,
        /// When these have expired.
        until: SystemTime,
    },
    /// A holder has certificates that the old root signed.
    NotRenewed {
        /// Who.
        holder: Holder,
        /// Of whom they are.
        identities: Vec<Identity>,
        /// How many more there are that other replicas have issued.
        unnamed: usize,
        /// When these have expired.
        until: SystemTime,
    },
}

/// How a rotation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationStatus {
    /// How far it is.
    pub phase: Phase,
    /// Since when.
    pub since: SystemTime,
    /// Of the roots that are trusted and the one that signs.
    pub generation: u64,
    /// How many are known to hold certificates.
    pub holders: usize,
    /// How many of these the next step does not wait for.
    pub done: usize,
    /// What the next step waits for.
    pub blockers: Vec<Blocker>,
}

impl Blocker {
    /// When it ends at the latest, by itself.
    pub fn until(&self) -> SystemTime {
        match self {
            Self::Pause { until }
            | Self::Unseen { until }
            | Self::Replica { until, .. }
            | Self::NotAcknowledged { until, .. }
            | Self::NotRenewed { until, .. } => *until,
        }
    }

    /// Who it is about, if about somebody.
    pub fn holder(&self) -> Option<&Holder> {
        match self {
            Self::Pause { .. } | Self::Unseen { .. } | Self::Replica { .. } => None,
            Self::NotAcknowledged { holder, .. } | Self::NotRenewed { holder, .. } => Some(holder),
        }
    }

    /// A stable word for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Pause { .. } => "pause",
            Self::Unseen { .. } => "unseen",
            Self::Replica { .. } => "replica",
            Self::NotAcknowledged { .. } => "not_acknowledged",
            Self::NotRenewed { .. } => "not_renewed",
        }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = At(self.until());
        match self {
            Self::Pause { .. } => write!(
                f,
                "copies of the roots in files and other replicas have until {until} to follow"
            ),
            Self::Unseen { .. } => write!(
                f,
                "certificates that this control plane has not seen issued may be in use until {until}"
            ),
            Self::Replica {
                name,
                is_readable: true,
                ..
            } => write!(
                f,
                "replica {name} has not said that it follows; what it has issued ends by {until}"
            ),
            Self::Replica { name, .. } => write!(
                f,
                "the report of replica {name} cannot be read; what it has issued ends by {until}"
            ),
            Self::NotAcknowledged {
                identities, unnamed, ..
            } => {
                write!(f, "has not acknowledged the new root; its certificates ")?;
                names(f, identities, *unnamed)?;
                write!(f, " from before end by {until}")
            }
            Self::NotRenewed {
                identities, unnamed, ..
            } => {
                write!(f, "has not renewed its certificates ")?;
                names(f, identities, *unnamed)?;
                write!(f, " of the old root, which end by {until}")
            }
        }
    }
}

fn names(f: &mut fmt::Formatter<'_>, identities: &[Identity], unnamed: usize) -> fmt::Result {
    f.write_str("(")?;
    for (index, identity) in identities.iter().take(NAMED).enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(f, "{comma}{identity}")?;
    }
    let more = identities.len().saturating_sub(NAMED) + unnamed;
    match (identities.is_empty(), more) {
        (_, 0) => {}
        (true, _) => write!(f, "{more} that other replicas have issued")?,
        (false, _) => write!(f, " and {more} more")?,
    }
    f.write_str(")")
}

struct At(SystemTime);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let text = OffsetDateTime::from_unix_timestamp(seconds)
            .ok()
            .and_then(|time| time.format(&Rfc3339).ok());
        f.write_str(text.as_deref().unwrap_or("the end of time"))
    }
}
