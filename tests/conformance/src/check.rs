use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use crate::failure::{Failure, Outcome};

/// No single clause may take longer.
const CLAUSE_DEADLINE: Duration = Duration::from_secs(90);

/// What a run of the suite is made of: results, in the order in which they came.
#[derive(Debug)]
pub struct Report {
    area: &'static str,
    extensions: bool,
    only: Option<String>,
    pending: &'static [&'static str],
    lines: Vec<Line>,
}

/// One clause and what came of it.
#[derive(Debug)]
pub struct Line {
    /// Its name, the area first.
    pub clause: String,
    /// What came of it.
    pub result: Verdict,
    /// How long it took.
    pub took: Duration,
}

/// What came of a clause.
#[derive(Debug)]
pub enum Verdict {
    /// It holds.
    Passed,
    /// It does not hold, or could not be tried.
    Failed(String),
    /// It was not asked for.
    LeftOut(&'static str),
    /// It does not hold, which is known.
    Pending(String),
}

impl Report {
    /// An empty one. `only`: clauses whose name does not contain this are left out.
    pub fn new(area: &'static str, extensions: bool, only: Option<String>) -> Report {
        Report {
            area,
            extensions,
            only,
            pending: &[],
            lines: Vec::new(),
        }
    }

    /// Names clauses, area first, that are known not to hold yet: a failure of theirs is told and not counted as one.
    pub fn pending(mut self, clauses: &'static [&'static str]) -> Report {
        self.pending = clauses;
        self
    }

    /// Whether any of these clauses was asked for, so that what they need has to be set up.
    pub fn wants(&self, clauses: &[&str]) -> bool {
        clauses.iter().any(|name| self.is_asked_for(name))
    }

    /// Tries a clause of the public protocol.
    pub async fn clause(&mut self, name: &str, check: impl Future<Output = Outcome>) {
        self.run(name, check).await;
    }

    /// Tries what the project's own proxy promises beyond the protocol.
    pub async fn extension(&mut self, name: &str, check: impl Future<Output = Outcome>) {
        if self.extensions {
            self.run(name, check).await;
        } else {
            self.left_out(name, "an extension");
        }
    }

    /// Says that a clause cannot be tried here.
    pub fn left_out(&mut self, name: &str, why: &'static str) {
        if self.is_asked_for(name) {
            self.push(name, Verdict::LeftOut(why), Duration::ZERO);
        }
    }

    /// Says that an area could not be set up.
    pub fn setup_failed(&mut self, failure: &Failure) {
        self.push("set-up", Verdict::Failed(failure.to_string()), Duration::ZERO);
    }

    /// The results.
    pub fn into_lines(self) -> Vec<Line> {
        self.lines
    }

    async fn run(&mut self, name: &str, check: impl Future<Output = Outcome>) {
        if !self.is_asked_for(name) {
            return;
        }
        let began = Instant::now();
        let guarded = AssertUnwindSafe(check).catch_unwind();
        let result = match tokio::time::timeout(CLAUSE_DEADLINE, guarded).await {
            Ok(Ok(Ok(()))) => Verdict::Passed,
            Ok(Ok(Err(failure))) => Verdict::Failed(failure.to_string()),
            Ok(Err(_)) => Verdict::Failed("the check panicked".to_owned()),
            Err(_) => Verdict::Failed(format!("not done within {CLAUSE_DEADLINE:?}")),
        };
        self.push(name, result, began.elapsed());
    }

    fn is_asked_for(&self, name: &str) -> bool {
        let full = format!("{}/{name}", self.area);
        self.only.as_ref().is_none_or(|only| full.contains(only.as_str()))
    }

    fn push(&mut self, name: &str, mut result: Verdict, took: Duration) {
        let clause = format!("{}/{name}", self.area);
        if self.pending.contains(&clause.as_str()) {
            result = match result {
                Verdict::Failed(why) => Verdict::Pending(why),
                Verdict::Passed => {
                    eprintln!("{clause} holds now: take it off the list of pending clauses");
                    Verdict::Passed
                }
                other => other,
            };
        }
        eprintln!("{clause} {}", result.word());
        self.lines.push(Line { clause, result, took });
    }
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Verdict::Passed => "ok",
            Verdict::Failed(_) => "FAILED",
            Verdict::LeftOut(_) => "left out",
            Verdict::Pending(_) => "not yet",
        }
    }
}

/// Prints the table, then every failure, then a line as the test runner of Rust prints it. Whether all is well.
pub fn print(lines: &[Line]) -> bool {
    let width = lines.iter().map(|line| line.clause.len()).max().unwrap_or(0);
    println!();
    for line in lines {
        let note = match &line.result {
            Verdict::LeftOut(why) => format!(" ({why})"),
            _ => format!(" {:.1}s", line.took.as_secs_f32()),
        };
        println!("{:width$}  {}{note}", line.clause, line.result.word());
    }
    let (mut passed, mut failed, mut left_out) = (0, 0, 0);
    for line in lines {
        match &line.result {
            Verdict::Passed => passed += 1,
            Verdict::LeftOut(_) => left_out += 1,
            Verdict::Pending(why) => {
                left_out += 1;
                println!("\n{}, not yet: {why}", line.clause);
            }
            Verdict::Failed(why) => {
                failed += 1;
                println!("\n{}: {why}", line.clause);
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; {left_out} ignored; 0 measured; 0 filtered out"
    );
    failed == 0
}
