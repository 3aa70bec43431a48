//! Revoking all certificates of an identity or a node. A list names serial numbers only, and which there are is known to
//! the process that has issued them. So what is to be revoked is written beside the list, for every process that shares
//! the authority: each puts on the list what it has issued, and says that it has.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{RevokeError, seconds};
use crate::server::authority::AuthorityError;
use crate::server::issues::Selection;
use crate::server::rotation::number;
use crate::server::stored::StoredAuthority;

/// How many are in force at most. Each is forgotten when its certificates must have expired.
pub const MAX_ORDERS: usize = 64;
/// How many processes' answers to one are kept.
const MAX_ANSWERS: usize = 64;

/// Certificates of this selection are revoked that were issued before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Which.
    #[serde(serialize_with = "write", deserialize_with = "read")]
    pub selection: Selection,
    /// Stands for it: no other of this authority has the same.
    #[serde(deserialize_with = "number")]
    pub number: u64,
    /// Since when, in seconds since 1970.
    #[serde(deserialize_with = "number")]
    pub at: u64,
    /// When all such certificates must have expired, in seconds since 1970.
    #[serde(deserialize_with = "number")]
    pub until: u64,
    /// The processes that have revoked what they have issued, by name.
    pub answers: BTreeMap<String, Answer>,
}

/// What one process has revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// So many certificates.
    pub revoked: usize,
    /// And so many found no room on the list.
    pub left_out: usize,
    /// When the last of those ends that may be in use and that it does not know, in seconds since 1970; 0 where it knows all.
    #[serde(deserialize_with = "number")]
    pub unknown_until: u64,
}

impl StoredAuthority {
    /// Orders that what is valid of this selection is revoked; certificates of at most `longest_life`. Every process that
    /// shares the authority answers.
    ///
    /// # Errors
    /// When too many are in force, or the list cannot be signed.
    pub fn order(
        &mut self,
        selection: Selection,
        now: SystemTime,
        longest_life: Duration,
    ) -> Result<(), AuthorityError> {
        let mut revocations = self.sound_revocations()?.unwrap_or_default();
        // One again: all that was issued in between is meant too.
        revocations.orders.retain(|order| order.selection != selection);
        if revocations.orders.len() >= MAX_ORDERS {
            return Err(AuthorityError::Revoke(RevokeError::TooManyOrders.to_string()));
        }
        revocations.advance(now);
        revocations.orders.push(Order {
            selection,
            number: revocations.number,
            at: seconds(now),
            until: seconds(now + longest_life) + 1,
            answers: BTreeMap::new(),
        });
        self.sign_lists(revocations, now)
    }

    /// A process of this name has looked for what it has issued of an order, and puts on the list what is not on it yet, as
    /// far as there is room. Whether anything is new.
    ///
    /// # Errors
    /// When the list cannot be signed.
    pub fn answer(
        &mut self,
        order_number: u64,
        process: &str,
        serials: &[String],
        unknown_until: Option<SystemTime>,
        now: SystemTime,
        longest_life: Duration,
    ) -> Result<bool, AuthorityError> {
        let Some(mut revocations) = self.sound_revocations()? else {
            return Ok(false);
        };
        let room = revocations.room();
        let fresh: Vec<String> = serials
            .iter()
            .filter(|serial| !revocations.contains(serial))
            .cloned()
            .collect();
        let Some(order) = revocations
            .orders
            .iter_mut()
            .find(|order| order.number == order_number)
        else {
            return Ok(false);
        };
        let fitting = fresh.len().min(room);
        let before = order.answers.get(process).copied();
        let answer = Answer {
            revoked: before.map_or(0, |before| before.revoked) + fitting,
            left_out: fresh.len() - fitting,
            unknown_until: unknown_until.map_or(0, |until| seconds(until) + 1),
        };
        // An answer that finds no room is missing, which is said; what it names is revoked all the same.
        let has_room = before.is_some() || order.answers.len() < MAX_ANSWERS;
        if before == Some(answer) || !has_room && fitting == 0 {
            return Ok(false);
        }
        if has_room {
            order.answers.insert(process.to_owned(), answer);
        }
        revocations.put(&fresh[..fitting], now, longest_life);
        revocations.advance(now);
        self.sign_lists(revocations, now)?;
        Ok(true)
    }
}

fn write<S: Serializer>(selection: &Selection, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(selection)
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Selection, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}
