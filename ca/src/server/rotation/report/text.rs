//! Reports as JSON. Holders are named by node, namespace and pod; identities by their tags, eight characters each, so that
//! two thousand nodes with thirty identities each take less than 700 kB.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use super::{Report, Seen, Tag};
use crate::server::rotation::ledger::{Holder, MAX_HOLDERS};
use crate::server::rotation::state::{unix_seconds, whole_seconds};

/// The text is no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the report of a replica cannot be read: {0}")]
pub struct ReportError(String);

/// Times are seconds since 1970, rounded up.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    generation: u64,
    made: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    ended: bool,
    unseen_before: u64,
    unseen_life: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    unlisted_until: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    last_old: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    holders: BTreeMap<String, WrittenHolder>,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHolder {
    #[serde(default, skip_serializing_if = "is_default")]
    acknowledged: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    old: String,
    #[serde(default, skip_serializing_if = "is_default")]
    old_until: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    more: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    new: String,
    #[serde(default, skip_serializing_if = "is_default")]
    early: String,
    #[serde(default, skip_serializing_if = "is_default")]
    new_until: u64,
}

impl Report {
    /// As one line of JSON of at most `room` bytes, as long as that is enough for a report without holders. What finds no
    /// room is told more coarsely: first who has new certificates, then whose the old ones are, then which holders there
    /// are. Whoever reads it then waits longer.
    pub fn to_text(&self, room: usize) -> String {
        let mut report = self.clone();
        for coarser in [Report::without_new, Report::without_tags, Report::without_holders] {
            let text = report.text();
            if text.len() <= room {
                return text;
            }
            coarser(&mut report);
        }
        report.text()
    }

    /// Reads what [`Report::to_text`] wrote.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_text(text: &str) -> Result<Self, ReportError> {
        let written: Written = serde_json::from_str(text).map_err(|error| ReportError(error.to_string()))?;
        if written.holders.len() > MAX_HOLDERS {
            return Err(ReportError(format!("more than {MAX_HOLDERS} holders")));
        }
        let holders = written.holders.into_iter().map(|(name, seen)| {
            let mut parts = name.splitn(3, '/').map(str::to_owned);
            let (Some(node), Some(namespace), Some(pod)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(ReportError(format!("'{}' is no holder", name.escape_default())));
            };
            let holder = Holder { node, namespace, pod };
            Ok((holder, seen.read()?))
        });
        Ok(Self {
            generation: written.generation,
            made: time(written.made)?,
            ended: written.ended,
            unseen: (
                time(written.unseen_before)?,
                Duration::from_secs(written.unseen_life),
            ),
            unlisted_until: time(written.unlisted_until)?,
            last_old: time(written.last_old)?,
            holders: holders.collect::<Result<_, _>>()?,
        })
        .and_then(|report: Self| {
            match time(written.unseen_before.saturating_add(written.unseen_life)) {
                Ok(_) => Ok(report),
                Err(error) => Err(error),
            }
        })
    }

    fn text(&self) -> String {
        let name = |holder: &Holder| format!("{}/{}/{}", holder.node, holder.namespace, holder.pod);
        let holders = self
            .holders
            .iter()
            .map(|(holder, seen)| (name(holder), WrittenHolder::of(seen)));
        let written = Written {
            generation: self.generation,
            made: unix_seconds(self.made),
            ended: self.ended,
            unseen_before: unix_seconds(self.unseen.0),
            unseen_life: self.unseen.1.as_secs(),
            unlisted_until: unix_seconds(self.unlisted_until),
            last_old: unix_seconds(self.last_old),
            holders: holders.collect(),
        };
        // It holds numbers and texts, which serde_json never refuses.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// As it is read after it was written: times in whole seconds.
    pub fn rounded(mut self) -> Self {
        let round = |time: &mut SystemTime| *time = whole_seconds(*time);
        round(&mut self.made);
        round(&mut self.unseen.0);
        round(&mut self.unlisted_until);
        round(&mut self.last_old);
        for seen in self.holders.values_mut() {
            seen.old_until.iter_mut().for_each(round);
            seen.new_until.iter_mut().for_each(round);
        }
        self
    }

    fn without_new(&mut self) {
        for seen in self.holders.values_mut() {
            if !seen.new.is_empty() || !seen.early.is_empty() {
                seen.new.clear();
                seen.early.clear();
                // Where all of it counts as old, because the report is, it is not known of whom.
                seen.more |= self.ended;
                if self.ended {
                    seen.old_until = seen.old_until.max(seen.new_until);
                }
            }
        }
    }

    fn without_tags(&mut self) {
        for seen in self.holders.values_mut().filter(|seen| !seen.old.is_empty()) {
            seen.old.clear();
            seen.more = true;
        }
    }

    fn without_holders(&mut self) {
        let ends = self.holders.values().filter_map(|seen| {
            let new = seen.new_until.filter(|_| self.ended);
            seen.old_until.max(new)
        });
        self.unlisted_until = ends
            .chain([self.unlisted_until])
            .max()
            .unwrap_or(self.unlisted_until);
        self.holders.clear();
    }
}

impl WrittenHolder {
    fn of(seen: &Seen) -> Self {
        let until = |time: Option<SystemTime>| time.map_or(0, unix_seconds);
        Self {
            acknowledged: seen.acknowledged,
            old: tags(&seen.old),
            old_until: until(seen.old_until),
            more: seen.more,
            new: tags(&seen.new),
            early: tags(&seen.early),
            new_until: until(seen.new_until),
        }
    }

    fn read(self) -> Result<Seen, ReportError> {
        let until = |seconds: u64| (seconds > 0).then(|| time(seconds)).transpose();
        let seen = Seen {
            acknowledged: self.acknowledged,
            old: read_tags(&self.old)?,
            old_until: until(self.old_until)?,
            more: self.more,
            new: read_tags(&self.new)?,
            early: read_tags(&self.early)?,
            new_until: until(self.new_until)?,
        };
        // Certificates without an end would hold up nobody.
        let is_whole = (seen.old.is_empty() && !seen.more || seen.old_until.is_some())
            && (seen.new.is_empty() && seen.early.is_empty() || seen.new_until.is_some());
        if !is_whole {
            return Err(ReportError("certificates without an end".to_owned()));
        }
        Ok(seen)
    }
}

fn tags(tags: &[Tag]) -> String {
    BASE64URL_NOPAD.encode(&tags.concat())
}

fn read_tags(text: &str) -> Result<Vec<Tag>, ReportError> {
    let bytes = BASE64URL_NOPAD
        .decode(text.as_bytes())
        .map_err(|error| ReportError(error.to_string()))?;
    let (tags, rest) = bytes.as_chunks::<6>();
    if !rest.is_empty() {
        return Err(ReportError("a tag is cut off".to_owned()));
    }
    let mut tags = tags.to_vec();
    tags.sort_unstable();
    Ok(tags)
}

fn time(seconds: u64) -> Result<SystemTime, ReportError> {
    // A thousand years are enough, and leave room for adding to it.
    const LAST: u64 = 32_503_680_000;
    if seconds > LAST {
        return Err(ReportError("a time out of range".to_owned()));
    }
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
