//! How many certificates the CA signs: on one core, by key of the authority; and how long it takes until 1 000 nodes
//! that start at once have theirs, each over a TLS connection of its own to a whole control plane.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use benches::{Signing, Table, Thousand};
use criterion::Criterion;

const ROUNDS: usize = 15;
/// Certificates of one measurement.
const BATCH: u64 = 50;
/// Nodes that start at once.
const NODES: usize = 1000;
/// The promised time until all have their certificate.
const PROMISED: Duration = Duration::from_secs(10);

fn main() {
    let cases = Signing::all();
    let mut table = Table::of_rates("Certificates signed on one core", 1.0, "a second");
    for _ in 0..ROUNDS {
        for case in &cases {
            let began = Instant::now();
            for _ in 0..BATCH {
                black_box(case.sign(SystemTime::now()));
            }
            table.add(case.name(), BATCH, began.elapsed());
        }
    }
    table.print();

    let thousand = Thousand::start(NODES);
    let (took, processor) = thousand.all_at_once();
    let word = if took < PROMISED { "under" } else { "NOT under" };
    println!(
        "\n{NODES} nodes at once, a connection and a certificate each: {took:?} ({:.0} a second; {processor:?} of \
         processor time, clients included), {word} the promised {PROMISED:?}",
        NODES as f64 / took.as_secs_f64()
    );

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("signing");
    for case in &cases {
        group.bench_function(case.name(), |bencher| {
            bencher.iter(|| case.sign(SystemTime::now()))
        });
    }
    group.finish();
    criterion.final_summary();
}
