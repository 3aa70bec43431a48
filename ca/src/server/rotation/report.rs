//! What one replica of an authority has seen, told to those with whom it shares the authority.
//!
//! A report holds for what its process does later too: whatever it signs after it has said that it is at a generation is
//! of that generation or a later one, so the list of older certificates only gets shorter. An old report therefore costs
//! time and never safety.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use mesh::Identity;

use super::ledger::Holder;

mod text;

pub use text::ReportError;

/// Stands for an identity of a holder where names would take too much room: the beginning of a SHA-256.
pub(super) type Tag = [u8; 6];

/// What one process has seen and what it vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it signs from now on is of this generation or a later one.
    pub generation: u64,
    /// When it was made.
    pub made: SystemTime,
    /// Its process issues nothing any more.
    pub ended: bool,
    /// Certificates that were issued before this time, and live no longer than this, may be in nobody's report.
    pub unseen: (SystemTime, Duration),
    /// When the last of the certificates ends that found no room here.
    pub unlisted_until: SystemTime,
    /// When it issued the last certificate of an earlier generation.
    pub last_old: SystemTime,
    pub(super) holders: BTreeMap<Holder, Seen>,
}

/// What is known of one holder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// It trusts the roots of the report's generation.
    pub(super) acknowledged: bool,
    /// Whose certificates of earlier generations may be in use, and when the last of them ends.
    pub(super) old: Vec<Tag>,
    pub(super) old_until: Option<SystemTime>,
    /// There are more of these than are listed.
    pub(super) more: bool,
    /// Who was issued a certificate of this generation since all replicas are at it.
    pub(super) new: Vec<Tag>,
    /// Who was before.
    pub(super) early: Vec<Tag>,
    /// When the last certificate of this generation ends.
    pub(super) new_until: Option<SystemTime>,
}

impl Report {
    /// One that says nothing but that a process is there.
    pub(super) fn empty(generation: u64, made: SystemTime, unseen: (SystemTime, Duration)) -> Self {
        Self {
            generation,
            made,
            ended: false,
            unseen,
            unlisted_until: SystemTime::UNIX_EPOCH,
            last_old: SystemTime::UNIX_EPOCH,
            holders: BTreeMap::new(),
        }
    }

    /// Whether nothing in it can matter any more at `now`: its process has ended and all certificates in it have too; or
    /// it was not renewed for longer than anything lives that its process can have issued, which is `longest`.
    pub fn is_spent(&self, now: SystemTime, longest: Duration) -> bool {
        let silent = now.duration_since(self.made).unwrap_or_default();
        now >= self.ends() && self.ended || silent > longest
    }

    /// When the last certificate that is told of ends.
    pub fn ends(&self) -> SystemTime {
        let ends = |seen: &Seen| seen.old_until.max(seen.new_until);
        let listed = self.holders.values().filter_map(ends).max();
        listed.unwrap_or(self.made).max(self.unlisted_until)
    }

    /// Whether `other` says the same, at another time.
    pub fn says_as(&self, other: &Self) -> bool {
        let mut other = other.clone();
        other.made = self.made;
        *self == other
    }

    /// Since when its process cannot have issued anything older than `generation`, at the earliest.
    pub(super) fn last_older_than(&self, generation: u64) -> SystemTime {
        if self.generation >= generation {
            self.last_old
        } else {
            self.made
        }
    }

    /// How many holders are told of.
    pub fn holders(&self) -> usize {
        self.holders.len()
    }
}

impl Seen {
    /// Whose certificates are older than a generation, and when the last ends: all, where the report is older itself.
    pub(super) fn older(&self, is_older: bool) -> (Vec<Tag>, bool, Option<SystemTime>) {
        if !is_older {
            return (self.old.clone(), self.more, self.old_until);
        }
        let all = self.old.iter().chain(&self.new).chain(&self.early);
        let mut all: Vec<Tag> = all.copied().collect();
        all.sort_unstable();
        all.dedup();
        (all, self.more, self.old_until.max(self.new_until))
    }
}

/// The tag of an identity that this holder has a certificate of. The holder's name is part of it, so that equal ones are
/// rare among the few identities of one holder.
pub(super) fn tag(holder: &Holder, identity: &Identity) -> Tag {
    let text = format!("{holder}\n{identity}");
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let mut tag = Tag::default();
    for (to, from) in tag.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    tag
}
