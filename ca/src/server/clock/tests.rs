use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A machine: its monotonic clock counts, its wall clock is ahead or behind by what it was set to.
struct Machine {
    began: Instant,
    passed: Duration,
    /// In seconds.
    wrong_by: i64,
    clock: SettledClock,
}

impl Machine {
    fn new(wrong_by: i64) -> Machine {
        let began = Instant::now();
        let wall = shifted(start(), wrong_by);
        Machine {
            began,
            passed: Duration::ZERO,
            wrong_by,
            clock: SettledClock::new(SETTLED_AFTER, wall, began),
        }
    }

    fn truth(&self) -> SystemTime {
        start() + self.passed
    }

    fn wall(&self) -> SystemTime {
        shifted(self.truth(), self.wrong_by)
    }

    fn monotonic(&self) -> Instant {
        self.began + self.passed
    }

    fn look(&mut self) -> Moment {
        self.clock.look(self.wall(), self.monotonic())
    }

    /// Looks every so often, as the program does.
    fn pass(&mut self, time: Duration) -> Moment {
        let until = self.passed + time;
        while self.passed < until {
            self.passed = (self.passed + 20 * SECOND).min(until);
            self.look();
        }
        self.look()
    }

    fn doubt(&self) -> Option<Doubt> {
        self.clock.doubt(self.wall(), self.monotonic())
    }

    fn heard(&mut self, ahead: i64) -> bool {
        let told = shifted(self.truth(), ahead);
        self.clock.heard(told, self.wall(), self.monotonic())
    }
}

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn shifted(time: SystemTime, seconds: i64) -> SystemTime {
    let by = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { time - by } else { time + by }
}

#[test]
fn a_clock_that_goes_evenly_is_believed_to_the_moment() {
    let mut machine = Machine::new(0);
    for _ in 0..100 {
        let moment = machine.pass(MINUTE);
        assert_eq!(moment, Moment::from(machine.truth()));
        assert_eq!(machine.doubt(), None);
        assert!(machine.clock.own.slots.len() <= SLOTS as usize + 2);
    }
}

#[test]
fn a_step_in_either_direction_is_believed_once_it_has_lasted() {
    for by in [30 * 86_400, -30 * 86_400, 600, -600] {
        let mut machine = Machine::new(0);
        machine.pass(3 * HOUR);
        machine.wrong_by = by;
        for _ in 0..59 {
            let moment = machine.pass(MINUTE);
            assert!(moment.is_doubtful && moment.wall == machine.wall());
            let (before, after) = (machine.truth(), machine.wall());
            assert_eq!(
                (moment.earliest, moment.latest),
                (before.min(after), before.max(after))
            );
            let Some(Doubt::Set { seconds, settles_in }) = machine.doubt() else {
                panic!("{:?}", machine.doubt())
            };
            assert_eq!(seconds, by);
            assert!(settles_in <= HOUR);
        }
        let moment = machine.pass(5 * MINUTE);
        assert_eq!(moment, Moment::from(machine.wall()), "by {by} s");
        assert_eq!(machine.doubt(), None);
    }
}

#[test]
fn a_small_correction_is_no_doubt_but_nothing_ends_early_by_it() {
    let mut machine = Machine::new(0);
    machine.pass(2 * HOUR);
    machine.wrong_by = 100;
    let moment = machine.pass(MINUTE);
    assert!(!moment.is_doubtful && machine.doubt().is_none());
    assert_eq!(moment.earliest, machine.truth());
    assert_eq!(moment.stamp(), machine.wall());
}

#[test]
fn time_in_which_nobody_looked_proves_nothing() {
    let mut machine = Machine::new(0);
    machine.pass(2 * HOUR);
    machine.wrong_by = 86_400;
    // Stopped for a day, and a look every now and then.
    for _ in 0..20 {
        machine.passed += DAY;
        assert_eq!(machine.look().earliest, machine.truth());
    }
}

#[test]
fn what_was_written_before_counts_until_somebody_confirms_the_clock_or_it_has_gone_evenly() {
    // It begins 30 days ahead of what was written a day before.
    let begin = || {
        let mut machine = Machine::new(30 * 86_400);
        let written = machine.truth() - DAY;
        let (wall, monotonic) = (machine.wall(), machine.monotonic());
        machine.clock.begins_with(written, wall, monotonic);
        (machine, written)
    };
    let (mut machine, written) = begin();
    let moment = machine.pass(MINUTE);
    assert_eq!(
        (moment.earliest, moment.latest),
        (written + MINUTE, machine.wall())
    );
    assert!(!moment.is_doubtful);
    assert_eq!(machine.doubt().map(|doubt| doubt.code()), Some("young"));
    assert_eq!(machine.pass(HOUR).earliest, machine.wall());
    assert_eq!(machine.doubt(), None);

    // Another clock says otherwise, for as long as it does.
    let (mut machine, _) = begin();
    for _ in 0..200 {
        assert!(!machine.heard(0));
        let moment = machine.pass(MINUTE);
        assert!(moment.is_doubtful && moment.earliest <= machine.truth());
        assert_eq!(machine.doubt(), Some(Doubt::Differs { seconds: 30 * 86_400 }));
    }
    // Mended, it settles.
    machine.wrong_by = 0;
    assert!(machine.heard(0));
    let moment = machine.pass(MINUTE);
    assert_eq!(
        (moment.earliest, moment.stamp()),
        (machine.truth(), machine.truth())
    );
    machine.pass(HOUR + 2 * MINUTE);
    assert_eq!(machine.look(), Moment::from(machine.truth()));

    // One that agrees confirms it at once; also one that was written a moment ago.
    let mut machine = Machine::new(0);
    let (wall, monotonic) = (machine.wall(), machine.monotonic());
    machine.clock.begins_with(wall - 90 * DAY, wall, monotonic);
    assert_eq!(machine.look().earliest, wall - 90 * DAY);
    assert!(machine.heard(-3));
    assert_eq!(machine.look(), Moment::from(wall));
    machine.clock.begins_with(wall - 90 * DAY, wall, monotonic);
    assert_eq!(machine.look(), Moment::from(wall), "it was confirmed before");

    // A clock that is behind what was written before.
    let mut machine = Machine::new(-86_400);
    let (truth, wall, monotonic) = (machine.truth(), machine.wall(), machine.monotonic());
    machine.clock.begins_with(truth, wall, monotonic);
    assert_eq!((machine.look().earliest, machine.look().latest), (wall, truth));
}

#[test]
fn the_word_of_another_clock_ends_with_it() {
    let mut machine = Machine::new(0);
    machine.heard(3600);
    assert_eq!(
        machine.clock.word(machine.wall(), machine.monotonic()),
        Some(-3600)
    );
    machine.pass(WORD_LASTS + SECOND);
    assert_eq!(machine.clock.word(machine.wall(), machine.monotonic()), None);
    // What it said is possible for as long as a step would be.
    assert!(machine.look().is_doubtful);
    machine.pass(HOUR + 2 * MINUTE);
    assert_eq!(machine.look(), Moment::from(machine.truth()));
}

/// A short time of settling is shorter than the time between two words of another clock.
#[test]
fn nothing_is_over_by_this_clock_as_long_as_the_word_of_another_counts() {
    let settled_after = 12 * SECOND;
    let (began, ahead) = (Instant::now(), 2 * HOUR);
    let mut clock = SettledClock::new(settled_after, start() + ahead, began);
    // Looked at often: what nobody has seen does not count.
    for tenth in 0..6000 {
        let passed = SECOND * tenth / 10;
        let (truth, monotonic) = (start() + passed, began + passed);
        if tenth % 600 == 0 {
            assert!(!clock.heard(truth, truth + ahead, monotonic));
        }
        let moment = clock.look(truth + ahead, monotonic);
        assert!(moment.is_doubtful);
        assert_eq!(moment.earliest, truth, "after {passed:?}");
    }
}

#[test]
fn a_list_is_never_dated_ahead_and_lasts_long_enough() {
    let mut machine = Machine::new(0);
    machine.pass(2 * HOUR);
    for by in [7 * 86_400, -7 * 86_400] {
        machine.wrong_by = by;
        let moment = machine.pass(SECOND);
        assert!(moment.stamp() <= machine.truth());
        assert!(moment.stamp() + moment.lasting(DAY) >= machine.truth() + DAY);
        let other = moment.at(moment.wall - MINUTE);
        assert_eq!(other.earliest + MINUTE, moment.earliest);
        assert_eq!(other.latest + MINUTE, moment.latest);
        machine.wrong_by = 0;
        machine.pass(2 * HOUR);
    }
}

#[test]
fn what_is_signed_is_valid_whichever_time_it_is_and_does_not_live_for_months() {
    let mut machine = Machine::new(0);
    let settled = machine.pass(2 * HOUR);
    assert_eq!(settled.signing(), (machine.truth(), machine.truth()));
    // Set to another zone's time, or back: valid by both.
    for by in [14 * 3600, -14 * 3600] {
        machine.wrong_by = by;
        let (from, to) = machine.pass(SECOND).signing();
        for time in [machine.truth(), machine.wall()] {
            assert!(from <= time && time <= to, "by {by} s");
        }
        machine.wrong_by = 0;
        machine.pass(2 * HOUR);
    }
    // By a month: nobody else says anything, so it may have been set right.
    machine.heard(0);
    machine.wrong_by = 30 * 86_400;
    let moment = machine.pass(SECOND);
    // It was heard a moment ago, and goes on as this one did.
    assert_eq!(moment.likely, machine.truth());
    assert_eq!(machine.doubt().map(|doubt| doubt.code()), Some("differs"));
    let (from, to) = moment.signing();
    assert_eq!((from, to), (machine.truth(), machine.truth() + DAY));
    machine.pass(WORD_LASTS + MINUTE);
    let moment = machine.look();
    assert_eq!(moment.likely, machine.wall());
    assert_eq!(moment.signing(), (machine.wall() - DAY, machine.wall()));
    // The other one says so too: it is right now.
    machine.heard(30 * 86_400);
    assert_eq!(machine.look().likely, machine.wall());
    assert_eq!(machine.doubt().map(|doubt| doubt.code()), Some("set"));

    // One that goes on as it did, and another that says something else: nobody knows.
    let mut machine = Machine::new(0);
    machine.pass(2 * HOUR);
    assert!(!machine.heard(-30 * 86_400));
    let moment = machine.pass(SECOND);
    assert!(moment.is_doubtful && moment.likely == machine.wall());
    assert_eq!(moment.signing(), (machine.truth() - DAY, machine.truth()));
}

#[test]
fn ends_of_time_are_no_panic() {
    let mut machine = Machine::new(0);
    for wall in [
        SystemTime::UNIX_EPOCH,
        SystemTime::UNIX_EPOCH - 400 * DAY,
        start() + 4_000_000 * DAY,
    ] {
        machine.passed += MINUTE;
        let monotonic = machine.monotonic();
        let moment = machine.clock.look(wall, monotonic);
        assert!(moment.earliest <= wall && wall <= moment.latest);
        machine.clock.heard(wall, start(), monotonic);
        machine.clock.begins_with(wall, start(), monotonic);
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % limit
    }
}

#[test]
fn nothing_is_forgotten_while_it_counts_as_long_as_every_wrong_time_is_shorter_than_an_hour() {
    let seed = std::env::var("SEED").map_or(20_261_127, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    for run in 0..10 {
        let mut random = Random(seed + run);
        let mut machine = Machine::new(0);
        // When each ends by what was written down, and when what it stands for really ends.
        let mut entries: Vec<(SystemTime, SystemTime)> = Vec::new();
        let (mut kept, mut forgotten) = (0, 0);
        for _ in 0..150 {
            // Wrong for less than an hour, in either direction and several ways; then right for a while.
            let mut wrong = Duration::from_secs(random.below(3500));
            while !wrong.is_zero() && random.below(3) > 0 {
                let days = i64::try_from(random.below(200)).unwrap() - 100;
                machine.wrong_by = days * 86_400 + i64::try_from(random.below(7200)).unwrap() - 3600;
                let part = Duration::from_secs(random.below(wrong.as_secs() + 1));
                let moment = machine.pass(part);
                assert!(moment.earliest <= machine.truth() && machine.truth() <= moment.latest);
                wrong -= part;
                step(
                    &mut random,
                    moment,
                    machine.truth(),
                    &mut entries,
                    (&mut kept, &mut forgotten),
                );
            }
            machine.wrong_by = 0;
            let moment = machine.pass(Duration::from_secs(1 + random.below(9000)));
            assert!(moment.earliest <= machine.truth() && machine.truth() <= moment.latest);
            step(
                &mut random,
                moment,
                machine.truth(),
                &mut entries,
                (&mut kept, &mut forgotten),
            );
        }
        assert!(
            kept > 50 && forgotten > 50,
            "{kept} written, {forgotten} forgotten"
        );
    }
}

fn step(
    random: &mut Random,
    moment: Moment,
    truth: SystemTime,
    entries: &mut Vec<(SystemTime, SystemTime)>,
    (kept, forgotten): (&mut usize, &mut usize),
) {
    entries.retain(|(until, counts_until)| {
        let is_forgotten = *until <= moment.earliest;
        assert!(!is_forgotten || *counts_until <= truth, "forgotten too early");
        *forgotten += usize::from(is_forgotten);
        !is_forgotten
    });
    // Something lives for up to a day from now on, by true time.
    let life = Duration::from_secs(60 + random.below(86_400));
    entries.push((moment.stamp() + moment.lasting(life), truth + life));
    *kept += 1;
}
