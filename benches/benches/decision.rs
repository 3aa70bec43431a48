//! How long a decision takes: against policies that do not select the workload, against principals and address blocks in
//! a rule, against rules, and when it is a refusal, with the search for the nearest miss.
//!
//! All are measured in turns in one run, so that what else the machine does weighs on all; the table has medians, and
//! ratios to the smallest case.

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::{Callers, Decisions, Table};
use criterion::{BenchmarkId, Criterion};

/// The promised median at the most policies and principals.
const PROMISED: Duration = Duration::from_micros(5);
/// Policies that do not select the workload.
const POLICIES: [u32; 4] = [10, 100, 1000, 10_000];
/// Principals in the rule that decides.
const PRINCIPALS: [u32; 4] = [1, 10, 100, 1000];
/// Address blocks in the rule that decides.
const BLOCKS: [u32; 4] = [1, 10, 100, 1000];
/// Rules of the policy that decides; the last one does.
const RULES: [u32; 3] = [10, 100, 1000];
const ROUNDS: usize = 2_001;
/// Decisions of one measurement: the clock itself costs some tens of nanoseconds.
const BATCH: u64 = 20;

fn main() {
    let (most_policies, most_principals) = (POLICIES[POLICIES.len() - 1], PRINCIPALS[PRINCIPALS.len() - 1]);
    let case = |policies, callers| Decisions::new(policies, callers);
    let by_policies = POLICIES.map(|policies| {
        (
            format!("{policies} policies"),
            case(policies, Callers::Principals(1)),
        )
    });
    let by_principals = PRINCIPALS.map(|count| {
        (
            format!("{count} principals"),
            case(10, Callers::Principals(count)),
        )
    });
    let by_blocks = BLOCKS.map(|count| (format!("{count} blocks"), case(10, Callers::Blocks(count))));
    let by_rules = RULES.map(|count| (format!("{count} rules"), case(10, Callers::Rules(count))));
    let both = (
        "both".to_owned(),
        case(most_policies, Callers::Principals(most_principals)),
    );
    let cases: Vec<_> = by_policies
        .into_iter()
        .chain(by_principals)
        .chain(by_blocks)
        .chain(by_rules)
        .chain([both])
        .collect();

    let mut allowing = Table::of_times("Decision that allows");
    let mut refusing = Table::of_times("Decision that refuses, with the nearest miss");
    let mut largest = Vec::new();
    for _ in 0..ROUNDS {
        for (name, case) in &cases {
            let took = time(|| assert!(black_box(case.allow()).is_allowed()));
            allowing.add(name, BATCH, took);
            if name == "both" {
                largest.push(took / BATCH as u32);
            }
            let took = time(|| assert!(black_box(case.refuse()).nearest_miss.is_some()));
            refusing.add(name, BATCH, took);
        }
    }
    allowing.print();
    refusing.print();
    largest.sort_unstable();
    let median = largest[largest.len() / 2];
    let word = if median < PROMISED { "under" } else { "NOT under" };
    println!(
        "\n{most_policies} policies and {most_principals} principals: {median:?}, {word} the promised {PROMISED:?}"
    );

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("decision");
    for (name, case) in &cases {
        group.bench_function(BenchmarkId::new("allow", name), |bencher| {
            bencher.iter(|| case.allow())
        });
        group.bench_function(BenchmarkId::new("refuse", name), |bencher| {
            bencher.iter(|| case.refuse())
        });
    }
    group.finish();
    criterion.final_summary();
}

fn time(mut decide: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..BATCH {
        decide();
    }
    start.elapsed()
}
