//! Whether the clock is believed, for people.

use std::time::Duration;

use ca::{Doubt, Moment};
use serde_json::{Value, json};

use crate::rotation::at;

/// How it stands with the clock.
pub(crate) struct Standing {
    pub(super) now: Moment,
    /// Why it is not believed.
    pub(crate) doubt: Option<Doubt>,
    /// By how many seconds it is ahead of the API server's, where that was heard; behind, where this is negative.
    pub(crate) ahead: Option<i64>,
    pub(super) settled_after: Duration,
}

impl Standing {
    /// Puts it into what is told of the roots, and where something waits for time to pass, among what is waited for.
    pub(crate) fn add_to(&self, report: &mut Value) {
        report["clock"] = self.to_json();
        let Some(doubt) = self.doubt else { return };
        let is_waiting = report["phase"] != "steady";
        if let Some(blockers) = report["blockers"].as_array_mut().filter(|_| is_waiting) {
            let blocker = json!({
                "code": "clock",
                "replica": null,
                "node": null,
                "pod": null,
                "until": doubt.settles_in().and_then(|time| at(self.now.wall + time)),
                "reason": self.reason(),
            });
            blockers.insert(0, blocker);
        }
    }

    /// In one sentence, with what to do; nothing where it is believed.
    pub(crate) fn reason(&self) -> Option<String> {
        let evenly = in_words(self.settled_after.as_secs());
        Some(match self.doubt? {
            Doubt::Set { seconds, .. } => format!(
                "the clock of this control plane was set {} {}; it is believed once it has gone evenly for {evenly}, and until \
                 then nothing is forgotten by it, and the CA's root is not exchanged",
                in_words(seconds.unsigned_abs()),
                if seconds < 0 { "back" } else { "ahead" },
            ),
            Doubt::Differs { seconds } => format!(
                "the clock of this control plane is {} {} the API server's; set the one that is wrong. Until then nothing is \
                 forgotten by it, and the CA's root is not exchanged",
                in_words(seconds.unsigned_abs()),
                if seconds < 0 { "behind" } else { "ahead of" },
            ),
            Doubt::Young { .. } => format!(
                "nobody has confirmed the clock of this control plane since it began; until it has gone evenly for {evenly} less \
                 time counts as passed"
            ),
        })
    }

    fn to_json(&self) -> Value {
        let doubt = self.doubt.map(|doubt| {
            json!({
                "code": doubt.code(),
                "seconds": match doubt {
                    Doubt::Set { seconds, .. } | Doubt::Differs { seconds } => Some(seconds),
                    Doubt::Young { .. } => None,
                },
                "reason": self.reason(),
            })
        });
        json!({ "doubt": doubt })
    }
}

/// `30d 2h`, `3h 12m`, `90s`.
pub(super) fn in_words(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    let two = |one: String, other: u64, unit: &str| match other {
        0 => one,
        other => format!("{one} {other}{unit}"),
    };
    match seconds {
        86_400.. => two(format!("{days}d"), hours, "h"),
        3600.. => two(format!("{hours}h"), minutes, "m"),
        120.. => two(format!("{minutes}m"), rest, "s"),
        _ => format!("{seconds}s"),
    }
}
