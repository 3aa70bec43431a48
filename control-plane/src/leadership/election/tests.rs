//! A few candidates and a server in one made-up time: clocks of different speed, requests that are lost, late or
//! answered by nobody, processes that die and come again.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const TICK: Duration = Duration::from_millis(50);
const CANDIDATES: usize = 3;
/// As the driver has it.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);

/// Optimistic concurrency, as the API has it.
#[derive(Default)]
struct Server {
    lease: Option<(Record, u64)>,
    versions: u64,
}

impl Server {
    fn perform(&mut self, ask: &Ask, based_on: u64, identity: &str, written: u64, timing: Timing) -> Answer {
        let claim = match ask {
            Ask::Read => return Answer::Read(self.lease.as_ref().map(|(record, _)| record.clone())),
            Ask::Create(_) if self.lease.is_some() => return Answer::Conflict,
            Ask::Replace(_) if self.lease.as_ref().map(|(_, version)| *version) != Some(based_on) => {
                return Answer::Conflict;
            }
            Ask::Create(claim) | Ask::Replace(claim) => claim,
        };
        let now = written.to_string();
        let record = Record {
            holder: identity.to_owned(),
            duration: timing.lease,
            acquired: claim.acquired.clone().unwrap_or_else(|| now.clone()),
            renewed: now,
            transitions: claim.transitions,
        };
        self.versions += 1;
        self.lease = Some((record.clone(), self.versions));
        Answer::Written(record)
    }

    fn version(&self) -> u64 {
        self.lease.as_ref().map_or(0, |(_, version)| *version)
    }
}

struct Request {
    ask: Ask,
    based_on: u64,
    sent: Instant,
    /// When the server performs it, by the true time; never, if it is lost.
    performed: Option<Duration>,
    /// When the candidate has its answer, or gives up.
    answered: Duration,
    /// What it is told, and what version that is.
    answer: Option<(Answer, u64)>,
    is_answer_lost: bool,
}

struct Process {
    identity: String,
    election: Election,
    version: u64,
    request: Option<Request>,
    /// Its clock at the true time nought, and how many thousandths of a second it goes in a second.
    clock: (Instant, u32),
}

impl Process {
    fn start(number: u64, at: Duration, random: &mut StdRng) -> Process {
        let base = Instant::now() + Duration::from_secs(random.random_range(0..100_000));
        let clock = (base, random.random_range(920..1080));
        let identity = format!("pod_{number}");
        let election = Election::new(identity.clone(), Timing::default(), local(clock, at));
        Process {
            identity,
            election,
            version: 0,
            request: None,
            clock,
        }
    }

    fn leads(&self, at: Duration) -> bool {
        self.election.leads_until(local(self.clock, at)).is_some()
    }
}

fn local((base, speed): (Instant, u32), at: Duration) -> Instant {
    base + at * speed / 1000
}

struct World {
    server: Server,
    processes: Vec<Process>,
    /// Writes on their way whose senders have given up or died.
    late: Vec<(Duration, Ask, u64, String)>,
    random: StdRng,
    at: Duration,
    started: u64,
    faulty: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let processes =
            (0..CANDIDATES as u64).map(|number| Process::start(number, Duration::ZERO, &mut random));
        World {
            server: Server::default(),
            processes: processes.collect(),
            late: Vec::new(),
            at: Duration::ZERO,
            started: CANDIDATES as u64,
            faulty: true,
            random,
        }
    }

    fn tick(&mut self) {
        self.at += TICK;
        if self.faulty && self.random.random_ratio(1, 2000) {
            let died = self.random.random_range(0..CANDIDATES);
            self.started += 1;
            let fresh = Process::start(self.started, self.at, &mut self.random);
            let old = std::mem::replace(&mut self.processes[died], fresh);
            if let Some(request) = old.request.filter(|request| request.answer.is_none()) {
                self.late.extend(
                    request
                        .performed
                        .map(|at| (at, request.ask, request.based_on, old.identity)),
                );
            }
        }
        let (now, timing) = (self.at, Timing::default());
        let written = u64::try_from(now.as_millis()).unwrap();
        let due = |(at, ..): &mut (Duration, Ask, u64, String)| *at <= now;
        for (_, ask, based_on, identity) in self.late.extract_if(.., due) {
            self.server.perform(&ask, based_on, &identity, written, timing);
        }
        for index in 0..CANDIDATES {
            self.advance(index, written);
        }
    }

    fn advance(&mut self, index: usize, written: u64) {
        let (at, timing) = (self.at, Timing::default());
        let process = &mut self.processes[index];
        let now = local(process.clock, at);
        let Some(request) = &mut process.request else {
            if let Step::Ask(ask) = process.election.step(now) {
                let request = self.send(index, ask, now);
                self.processes[index].request = Some(request);
            }
            return;
        };
        if request.answer.is_none() && request.performed.is_some_and(|performed| performed <= at) {
            let answer =
                self.server
                    .perform(&request.ask, request.based_on, &process.identity, written, timing);
            request.answer = Some((answer, self.server.version()));
        }
        if request.answered > at {
            return;
        }
        let Some(request) = process.request.take() else {
            return;
        };
        if request.answer.is_none() {
            self.late.extend(
                request
                    .performed
                    .map(|at| (at, request.ask, request.based_on, process.identity.clone())),
            );
        }
        let answer = match request.answer {
            Some((answer, version)) if !request.is_answer_lost => {
                if !matches!(answer, Answer::Conflict) {
                    process.version = version;
                }
                answer
            }
            _ => Answer::Failed,
        };
        process
            .election
            .answer(answer, request.sent, now, self.random.random());
    }

    fn send(&mut self, index: usize, ask: Ask, sent: Instant) -> Request {
        let mut millis = |range| Duration::from_millis(self.random.random_range(range));
        let (mut there, mut back) = (millis(1..100), millis(1..100));
        let (mut is_lost, mut is_answer_lost) = (false, false);
        if self.faulty {
            match self.random.random_range(0..20) {
                0 => is_lost = true,
                1 => is_answer_lost = true,
                2 => there = Duration::from_millis(self.random.random_range(100..30_000)),
                3 => back = Duration::from_millis(self.random.random_range(100..30_000)),
                _ => {}
            }
        }
        Request {
            ask,
            based_on: self.processes[index].version,
            sent,
            performed: (!is_lost).then_some(self.at + there),
            answered: self.at + (there + back).min(ANSWER_DEADLINE),
            answer: None,
            is_answer_lost: is_answer_lost || there + back > ANSWER_DEADLINE,
        }
    }

    fn leaders(&self) -> Vec<&str> {
        let leads = self.processes.iter().filter(|process| process.leads(self.at));
        leads.map(|process| &*process.identity).collect()
    }

    fn until(&mut self, end: Duration, mut check: impl FnMut(&World)) {
        while self.at < end {
            self.tick();
            check(self);
        }
    }
}

const FAULTS_END: Duration = Duration::from_secs(300);

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn there_is_never_more_than_one_and_in_the_end_one(seed in any::<u64>()) {
        let mut world = World::new(seed);
        let mut led = false;
        world.until(FAULTS_END, |world| {
            let leaders = world.leaders();
            assert!(leaders.len() <= 1, "at {:?}: {leaders:?}", world.at);
            led |= !leaders.is_empty();
        });
        prop_assert!(led, "nobody led in five minutes");
        world.faulty = false;
        // What is under way comes to rest, the lease of one that died runs out, and somebody asks next.
        world.until(FAULTS_END + Duration::from_secs(60), |world| assert!(world.leaders().len() <= 1));
        let leader: Vec<String> = world.leaders().into_iter().map(str::to_owned).collect();
        prop_assert_eq!(leader.len(), 1);
        world.until(FAULTS_END + Duration::from_secs(120), |world| assert_eq!(world.leaders(), leader));
    }
}

fn held(holder: &str, renewed: &str) -> Record {
    Record {
        holder: holder.to_owned(),
        duration: Duration::from_secs(15),
        renewed: renewed.to_owned(),
        transitions: 3,
        ..Record::default()
    }
}

/// What is asked for once the time has come, and when that is.
fn next(election: &Election, mut now: Instant) -> (Ask, Instant) {
    loop {
        match election.step(now) {
            Step::Ask(ask) => return (ask, now),
            Step::Wait(until) => now = until,
        }
    }
}

#[test]
fn another_is_followed_only_when_it_was_silent_for_the_whole_lease() {
    let begin = Instant::now();
    let mut election = Election::new("me".to_owned(), Timing::default(), begin);
    let mut now = begin;
    let mut renewals = 0;
    loop {
        let (ask, at) = next(&election, now);
        if ask != Ask::Read {
            assert_eq!(
                ask,
                Ask::Replace(Claim {
                    acquired: None,
                    transitions: 4
                })
            );
            break;
        }
        assert!(at - begin < Duration::from_secs(60));
        // It renews for half a minute, with a clock of the last century, and then dies.
        renewals = if at - begin < Duration::from_secs(30) {
            renewals + 1
        } else {
            renewals
        };
        let record = held("other", &format!("19{renewals:02}-01-01T00:00:00.000000Z"));
        election.answer(Answer::Read(Some(record)), at, at, 7);
        now = at;
    }
    assert!(
        now - begin >= Duration::from_secs(30 - 4 + 15),
        "{:?}",
        now - begin
    );
    assert_eq!(election.leads_until(now), None);
    assert_eq!(election.holder(), Some("other"));
}

#[test]
fn what_was_given_back_is_taken_at_once_and_a_long_lease_is_not_believed() {
    let now = Instant::now();
    let mut election = Election::new("me".to_owned(), Timing::default(), now);
    let endless = Record {
        duration: Duration::from_secs(u64::MAX / 4),
        ..held("other", "")
    };
    election.answer(Answer::Read(Some(endless.clone())), now, now, 0);
    let later = now + MAX_FOREIGN_LEASE;
    election.answer(Answer::Read(Some(endless)), later, later, 0);
    assert!(matches!(next(&election, later), (Ask::Replace(_), at) if at == later));

    let mut election = Election::new("me".to_owned(), Timing::default(), now);
    election.answer(Answer::Read(Some(held("", ""))), now, now, 0);
    assert!(matches!(next(&election, now), (Ask::Replace(_), at) if at == now));
    let sent = now;
    let now = now + Duration::from_secs(2);
    election.answer(Answer::Written(held("me", "")), sent, now, 0);
    // The term is counted from before the write.
    assert_eq!(election.leads_until(now), Some(sent + Duration::from_secs(10)));
    assert_eq!(election.leads_until(sent + Duration::from_secs(10)), None);

    // Somebody else holds it, or it is gone: not ours from that moment on.
    for lost in [Some(held("other", "")), None] {
        election.answer(Answer::Written(held("me", "")), sent, now, 0);
        election.answer(Answer::Read(lost), now, now, 0);
        assert_eq!(election.leads_until(now), None);
    }
}
