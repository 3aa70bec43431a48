use std::time::{Duration, SystemTime};

use super::{
    Action, FIRST_RETRY, LAST_RETRY, LONGEST_WAIT, REVOKED_MEMORY, REVOKED_SPREAD, Renewal, Validity,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// Our authority: the start of the life is backdated by two minutes or a tenth, whichever is less.
fn issued(now: SystemTime, life: Duration) -> Validity {
    Validity {
        not_before: now - (life / 10).min(Duration::from_secs(120)),
        not_after: now + life,
    }
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Lives through `span`, with an authority that answers as `answer` says; returns the fetches and, of all the
/// waking moments, how many had no usable certificate.
fn live(
    span: Duration,
    mut answer: impl FnMut(SystemTime) -> Option<Validity>,
) -> (Vec<SystemTime>, Vec<SystemTime>) {
    let (mut renewal, mut now, mut dice) = (Renewal::new(), start(), Dice(7));
    let (mut fetches, mut bare) = (Vec::new(), Vec::new());
    while now < start() + span {
        match renewal.next_action(now) {
            Action::Wait(wait) => {
                assert!(wait > Duration::ZERO && wait <= LONGEST_WAIT);
                now += wait;
                if !renewal.usable(now) {
                    bare.push(now);
                }
            }
            Action::Fetch => {
                fetches.push(now);
                // An answer takes a moment.
                now += Duration::from_millis(20);
                match answer(now) {
                    Some(validity) => renewal.on_success(now, validity, dice.roll()),
                    None => renewal.on_failure(now, dice.roll()),
                }
            }
        }
    }
    (fetches, bare)
}

#[test]
fn a_day_long_certificate_is_renewed_at_half_life() {
    let (fetches, bare) = live(10 * DAY, |now| Some(issued(now, DAY)));
    assert!(bare.is_empty(), "{bare:?}");
    assert!(
        (20..=22).contains(&fetches.len()),
        "{} fetches in ten days",
        fetches.len()
    );
    for pair in fetches.windows(2) {
        let gap = pair[1].duration_since(pair[0]).unwrap();
        assert!(
            gap >= (DAY / 2).mul_f64(0.949) && gap <= DAY / 2 + Duration::from_secs(1),
            "{gap:?}"
        );
    }
}

#[test]
fn renewals_are_spread_out() {
    let (fetches, _) = live(20 * DAY, |now| Some(issued(now, DAY)));
    let gaps: std::collections::BTreeSet<_> = fetches
        .windows(2)
        .map(|pair| pair[1].duration_since(pair[0]).unwrap().as_secs() / 60)
        .collect();
    assert!(gaps.len() > 10, "{gaps:?}");
}

#[test]
fn a_life_of_ten_seconds_works() {
    let (fetches, bare) = live(Duration::from_secs(3600), |now| {
        Some(issued(now, Duration::from_secs(10)))
    });
    assert!(bare.is_empty(), "{bare:?}");
    assert!(
        (700..=800).contains(&fetches.len()),
        "{} fetches in an hour",
        fetches.len()
    );
}

#[test]
fn a_foreign_authoritys_backdating_makes_nothing_overdue() {
    // Two minutes, whatever the life: counted from notBefore every such certificate would be overdue at once.
    let life = Duration::from_secs(10);
    let (fetches, bare) = live(Duration::from_secs(600), |now| {
        Some(Validity {
            not_before: now - Duration::from_secs(120),
            not_after: now + life,
        })
    });
    assert!(bare.is_empty(), "{bare:?}");
    assert!(fetches.len() <= 140, "{} fetches in ten minutes", fetches.len());
}

#[test]
fn pauses_double_up_to_a_limit() {
    let (fetches, _) = live(Duration::from_secs(4 * 3600), |_| None);
    let gaps: Vec<_> = fetches
        .windows(2)
        .map(|pair| pair[1].duration_since(pair[0]).unwrap().as_secs_f64())
        .collect();
    for (number, gap) in gaps.iter().enumerate() {
        let nominal = (FIRST_RETRY.as_secs_f64() * 2_f64.powi(number as i32)).min(LAST_RETRY.as_secs_f64());
        assert!(
            *gap >= nominal * 0.79 && *gap <= nominal * 1.21 + 0.1,
            "gap {number}: {gap} for {nominal}"
        );
    }
    assert!(gaps.len() > 90);
}

#[test]
fn a_held_certificate_is_kept_through_an_outage_and_not_beyond_its_end() {
    let begin = start();
    let end = begin + DAY / 2 + Duration::from_secs(10_000);
    // One certificate, then nothing until `end`.
    let (fetches, bare) = live(DAY, |now| {
        (now < begin + Duration::from_secs(1) || now >= end).then(|| issued(now, DAY))
    });
    assert!(
        bare.is_empty(),
        "the outage was shorter than the life that was left: {bare:?}"
    );
    assert!(
        fetches
            .iter()
            .any(|at| *at >= end && *at < end + LAST_RETRY.mul_f64(1.3))
    );

    let (fetches, bare) = live(3 * DAY, |now| {
        (now < begin + Duration::from_secs(1)).then(|| issued(now, DAY))
    });
    assert!(bare.iter().all(|at| *at >= begin + DAY), "{:?}", bare.first());
    assert!(!bare.is_empty());
    let after = fetches.iter().filter(|at| **at > begin + DAY).count();
    assert!(after > 2 * 24 * 3600 / 190, "it goes on trying: {after}");
}

#[test]
fn short_lives_are_tried_again_before_they_end() {
    let life = Duration::from_secs(10);
    let mut asked = 0;
    // Every second answer is a failure.
    let (_, bare) = live(Duration::from_secs(600), |now| {
        asked += 1;
        (asked % 2 == 1).then(|| issued(now, life))
    });
    assert!(bare.is_empty(), "{bare:?}");
}

#[test]
fn what_arrives_dead_is_no_success() {
    let mut renewal = Renewal::new();
    let now = start();
    renewal.on_success(now, issued(now, DAY), 0);
    let dead = Validity {
        not_before: now - DAY,
        not_after: now,
    };
    renewal.on_success(now, dead, 0);
    assert!(renewal.usable(now), "what was held stays");
    assert_eq!(renewal.failures(), 1);
    let mut fresh = Renewal::new();
    fresh.on_success(now, dead, 0);
    assert!(!fresh.usable(now));
    assert!(matches!(fresh.next_action(now), Action::Wait(_)), "no hot loop");
}

#[test]
fn a_clock_that_jumps_is_noticed() {
    let mut renewal = Renewal::new();
    let now = start();
    renewal.on_success(now, issued(now, DAY), u64::MAX);
    assert_eq!(renewal.next_action(now), Action::Wait(LONGEST_WAIT));
    assert_eq!(renewal.next_action(now + DAY), Action::Fetch);
    assert!(!renewal.usable(now + DAY));
    assert!(renewal.usable(now - DAY));
    assert!(renewal.due().unwrap() < now + DAY / 2);
}

#[test]
fn a_revoked_certificate_is_replaced_at_once_and_holders_do_not_ask_in_step() {
    let (now, mut dice) = (start(), Dice(11));
    let mut waits = Vec::new();
    for _ in 0..1000 {
        let mut renewal = Renewal::new();
        assert!(!renewal.on_revoked(now, dice.roll()), "nothing is held");
        renewal.on_success(now, issued(now, DAY), dice.roll());
        assert!(renewal.on_revoked(now, dice.roll()));
        let due = renewal.due();
        assert!(!renewal.on_revoked(now, dice.roll()), "said once");
        assert_eq!(renewal.due(), due);
        assert!(renewal.usable(now), "peers that were not told accept it");
        waits.push(due.unwrap().duration_since(now).unwrap());
        renewal.on_success(now + REVOKED_SPREAD, issued(now, DAY), dice.roll());
        assert!(!renewal.is_revoked());
        assert!(renewal.due().unwrap() > now + DAY / 3, "back to half life");
    }
    waits.sort();
    assert!(waits[999] < REVOKED_SPREAD);
    assert!(waits[500] > REVOKED_SPREAD / 4 && waits[500] < REVOKED_SPREAD * 3 / 4);
}

#[test]
fn an_authority_that_revokes_all_it_gives_is_asked_ever_more_seldom() {
    let (mut renewal, mut now, mut dice) = (Renewal::new(), start(), Dice(13));
    let mut fetches = Vec::new();
    while now < start() + Duration::from_secs(3600) {
        match renewal.next_action(now) {
            Action::Wait(wait) => now += wait,
            Action::Fetch => {
                fetches.push(now);
                renewal.on_success(now, issued(now, DAY), dice.roll());
                assert!(renewal.on_revoked(now, dice.roll()), "each is news");
            }
        }
    }
    assert!(fetches.len() < 40, "{} in an hour", fetches.len());
    let last = fetches.windows(2).last().unwrap();
    assert!(last[1].duration_since(last[0]).unwrap() >= LAST_RETRY.mul_f64(0.79));
    // Left alone for a while, the next one is replaced without a pause again.
    renewal.on_success(now, issued(now, DAY), dice.roll());
    now += REVOKED_MEMORY + Duration::from_secs(1);
    assert!(renewal.on_revoked(now, dice.roll()));
    assert!(renewal.due().unwrap() <= now + REVOKED_SPREAD);
}

#[test]
fn a_revocation_does_not_shorten_the_pause_of_a_failure() {
    let (mut renewal, now, mut dice) = (Renewal::new(), start(), Dice(17));
    renewal.on_success(now, issued(now, DAY), dice.roll());
    for _ in 0..8 {
        renewal.on_failure(now, dice.roll());
    }
    let due = renewal.due();
    assert!(renewal.on_revoked(now, dice.roll()));
    assert_eq!(renewal.due(), due);
    assert!(renewal.is_revoked());
}
