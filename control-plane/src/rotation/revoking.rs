//! Taking certificates back: by their serial numbers, or all that were issued to an identity or on a node. The leader
//! writes down what is asked for; of identities and nodes every process that shares the authority looks for what it has
//! issued itself, and answers there.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use ca::{
    AuthorityError, MAX_ORDERS, MAX_REVOKED, Moment, Order, Revocations, RevokeError, Selection,
    StoredAuthority, parse_serial,
};
use serde_json::{Value, json};

use super::report::at;
use super::{Rotations, State};

/// How long after an order is first seen certificates are looked for that were signed before and are remembered after.
const SWEEP: Duration = Duration::from_secs(10);

/// What is to be revoked, and what of it is done here.
#[derive(Debug, Default)]
pub(super) struct Revoking {
    serials: Vec<String>,
    selections: Vec<Selection>,
    /// When orders were first seen here, by their numbers.
    seen: BTreeMap<u64, Seen>,
}

/// When an order was seen first. Certificates from before are meant.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Moment,
    /// How many certificates this process had issued: the clock may have been set since.
    issued: u64,
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    serials: Vec<String>,
    selections: Vec<Selection>,
}

impl Asked {
    pub(super) fn is_empty(&self) -> bool {
        self.serials.is_empty() && self.selections.is_empty()
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let selections = self.selections.iter().map(ToString::to_string);
        let all: Vec<String> = self.serials.iter().cloned().chain(selections).collect();
        f.write_str(&all.join(", "))
    }
}

impl Seen {
    const BEFORE_THE_BEGINNING: Seen = Seen {
        at: Moment::exactly(SystemTime::UNIX_EPOCH),
        issued: 0,
    };

    fn is_meant(&self, issued: &ca::IssuedCertificate) -> bool {
        issued.number < self.issued || issued.at <= self.at.wall
    }

    /// Whether everything that was being signed is remembered by now.
    fn is_long_ago(&self, now: &Moment) -> bool {
        let since = now.earliest.duration_since(self.at.earliest);
        // After a clock was set back it is not known.
        since.map_or(true, |since| since > SWEEP)
    }
}

impl Revoking {
    /// Of a process that begins with these: it has issued nothing yet.
    pub(super) fn beginning_with(revocations: Option<&Revocations>) -> Revoking {
        let orders = revocations.map(Revocations::orders).unwrap_or_default();
        Revoking {
            seen: orders
                .iter()
                .map(|order| (order.number, Seen::BEFORE_THE_BEGINNING))
                .collect(),
            ..Revoking::default()
        }
    }

    pub(super) fn asked(&self) -> Asked {
        Asked {
            serials: self.serials.clone(),
            selections: self.selections.clone(),
        }
    }

    /// These are written down, or cannot be.
    pub(super) fn done(&mut self, asked: &Asked) {
        self.serials.retain(|serial| !asked.serials.contains(serial));
        self.selections
            .retain(|selection| !asked.selections.contains(selection));
    }
}

impl Rotations {
    /// Revokes certificates by their serial numbers. In force, and written down, a moment later.
    ///
    /// # Errors
    /// When one is none of ours, or too many are revoked already.
    pub(crate) fn revoke(&self, serials: &[&str]) -> Result<(), RevokeError> {
        let serials = serials.iter().map(|serial| parse_serial(serial));
        let serials: Vec<String> = serials.collect::<Result<_, _>>()?;
        let mut state = self.state();
        let revoked = state.revocations.as_ref().map_or(0, Revocations::len);
        if revoked + state.revoking.serials.len() + serials.len() > MAX_REVOKED {
            return Err(RevokeError::TooMany);
        }
        for serial in &serials {
            tracing::info!(serial, "a certificate is to be revoked");
        }
        state.revoking.serials.extend(serials);
        drop(state);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Revokes what every process has issued of this selection until it hears of it.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(crate) fn revoke_all(&self, selection: Selection) -> Result<(), RevokeError> {
        let own = self
            .shared
            .settings
            .issues
            .valid(self.now().earliest, Some(&selection));
        let mut state = self.state();
        let revocations = state.revocations.as_ref();
        let room = revocations.map_or(MAX_REVOKED, Revocations::room);
        let found = own
            .iter()
            .filter(|one| revocations.is_none_or(|revoked| !revoked.contains(&one.serial)))
            .count();
        if found > room {
            return Err(RevokeError::NoRoom { found, room });
        }
        let others = revocations.map(Revocations::orders).unwrap_or_default().iter();
        let others = others.filter(|order| order.selection != selection).count();
        if others + state.revoking.selections.len() >= MAX_ORDERS {
            return Err(RevokeError::TooManyOrders);
        }
        tracing::info!(%selection, found, "certificates are to be revoked");
        state.revoking.selections.push(selection);
        drop(state);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Puts on the list what was asked for, and what this process has issued of all that is ordered. Whether anything is
    /// new.
    pub(super) fn revoke_in(
        &self,
        stored: &mut StoredAuthority,
        asked: &Asked,
        now: Moment,
        longest_life: Duration,
    ) -> Result<bool, AuthorityError> {
        let mut is_news = false;
        if !asked.serials.is_empty() {
            let known = self.shared.settings.issues.ends(&asked.serials);
            stored.revoke(&asked.serials, now.stamp(), lasting(&now, longest_life, known))?;
            is_news = true;
        }
        for selection in &asked.selections {
            stored.order(selection.clone(), now.stamp(), now.lasting(longest_life))?;
            is_news = true;
        }
        let orders = if asked.selections.is_empty() {
            self.state().revocations.as_ref().map(|all| all.orders().to_vec())
        } else {
            stored.revocations().map(|all| all.orders().to_vec())
        };
        let orders = orders.unwrap_or_default();
        let is_known = |number: &u64| orders.iter().any(|order| order.number == *number);
        self.state().revoking.seen.retain(|number, _| is_known(number));
        for order in orders {
            is_news |= self.answer(stored, &order, now, longest_life)?;
        }
        Ok(is_news)
    }

    fn answer(
        &self,
        stored: &mut StoredAuthority,
        order: &Order,
        now: Moment,
        longest_life: Duration,
    ) -> Result<bool, AuthorityError> {
        let name = &self.shared.name;
        let issues = &self.shared.settings.issues;
        let first = Seen {
            at: now,
            issued: issues.count(),
        };
        let (seen, unseen) = {
            let mut state = self.state();
            let seen = *state.revoking.seen.entry(order.number).or_insert(first);
            (seen, state.rotation.unseen_end())
        };
        // By this process's own clock, and once more a little later: what is being signed is remembered a moment after.
        if order.answers.contains_key(name) && seen.is_long_ago(&now) {
            return Ok(false);
        }
        let mut found = issues.valid(now.earliest, Some(&order.selection));
        found.retain(|one| seen.is_meant(one));
        let ends = found.iter().map(|one| one.not_after).max();
        let serials: Vec<String> = found.into_iter().map(|one| one.serial).collect();
        // Where replicas tell each other, what nobody has seen is known to the one that tells how it stands.
        let unseen = unseen.filter(|until| self.shared.settings.rotation.alone && now.earliest < *until);
        let unknown_until = issues.forgotten_until(now.earliest).max(unseen);
        let is_new = stored.answer(
            order.number,
            name,
            &serials,
            unknown_until,
            now.stamp(),
            lasting(&now, longest_life, ends),
        )?;
        if is_new {
            tracing::info!(selection = %order.selection, found = serials.len(), "what was issued here is revoked");
        }
        Ok(is_new)
    }
}

/// How long what is revoked stays on the list: as long as any certificate lives, and no shorter than those that are known.
fn lasting(now: &Moment, longest_life: Duration, ends: Option<SystemTime>) -> Duration {
    let known = ends.and_then(|ends| ends.duration_since(now.stamp()).ok());
    now.lasting(longest_life).max(known.unwrap_or_default())
}

impl State {
    /// What is ordered, and whose answer is missing, for people. `now` decides what matters still.
    pub(super) fn orders(&self, is_alone: bool, own: &str, now: SystemTime) -> Value {
        let orders = self
            .revocations
            .as_ref()
            .map(Revocations::orders)
            .unwrap_or_default();
        orders
            .iter()
            .map(|order| self.order(order, is_alone, own, now))
            .collect()
    }

    fn order(&self, order: &Order, is_alone: bool, own: &str, now: SystemTime) -> Value {
        let time = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let sum = |of: fn(&ca::Answer) -> usize| order.answers.values().map(of).sum::<usize>();
        let unknown = |replica: Option<&str>, until: SystemTime| {
            (now < until).then(|| json!({ "replica": replica, "until": at(until) }))
        };
        let told = order.answers.iter();
        let mut unknowns: Vec<Value> = told
            .filter_map(|(name, answer)| {
                unknown(
                    Some(name.as_str()).filter(|_| !is_alone),
                    time(answer.unknown_until),
                )
            })
            .collect();
        let longest_silence = self.rotation.longest_silence();
        if !order.answers.contains_key(own) {
            unknowns.extend(unknown(Some(own).filter(|_| !is_alone), time(order.until)));
        }
        if !is_alone {
            unknowns.extend(self.rotation.unseen_end().and_then(|until| unknown(None, until)));
            match self.rotation.others() {
                None => unknowns.extend(unknown(None, time(order.until))),
                Some(others) => unknowns.extend(others.iter().filter_map(|(name, report)| {
                    let until = match report {
                        Some(report) if report.is_spent(now, longest_silence) => return None,
                        Some(report) if report.ended => report.ends(),
                        _ => time(order.until),
                    };
                    let has_answered = order.answers.contains_key(name);
                    unknown(Some(name.as_str()), until).filter(|_| !has_answered)
                })),
            }
        }
        json!({
            "selection": order.selection.to_string(),
            "number": order.number,
            "since": at(time(order.at)),
            "revoked": sum(|answer| answer.revoked),
            "leftOut": sum(|answer| answer.left_out),
            "answered": order.answers.len(),
            "unknown": unknowns,
        })
    }
}
