//! Bulk transfer and 1 KiB request and response through an HBONE tunnel on loopback, beside plain TCP and plain TLS
//! in the same run. Client, proxies and application share one process and the machine's cores, so the rates are
//! bound by CPU time. Ends with tables of ratios; takes about a minute.

use std::time::{Duration, Instant};

use benches::{Kind, Path, Table, Work};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use tokio::runtime::Runtime;

/// Connections that ping-pong at once: one, and enough to share a tunnel.
const CONNECTIONS: [usize; 2] = [1, 16];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(20)
        .configure_from_args();
    let mut tables = vec![bulk(&mut criterion, &runtime)];
    for connections in CONNECTIONS {
        tables.push(ping_pong(&mut criterion, &runtime, connections));
    }
    criterion.final_summary();
    for table in tables {
        table.print();
    }
}

fn bulk(criterion: &mut Criterion, runtime: &Runtime) -> Table {
    let mut table = Table::of_rates(
        "bulk, one connection",
        Path::BULK as f64 / f64::from(1 << 20),
        "MiB/s",
    );
    let mut group = criterion.benchmark_group("bulk");
    // Steps are long: the same few in each sample keep the run short.
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Bytes(Path::BULK as u64));
    for kind in Kind::ALL {
        let mut path = Some(runtime.block_on(Path::open(kind, Work::Bulk, 1)));
        group.bench_function(BenchmarkId::from_parameter(kind.name()), |bencher| {
            bencher.iter_custom(|steps| {
                let took = timed(runtime, &mut path, steps);
                table.add(kind.name(), steps, took);
                took
            });
        });
    }
    group.finish();
    table
}

fn ping_pong(criterion: &mut Criterion, runtime: &Runtime, connections: usize) -> Table {
    let name = format!("ping-pong 1 KiB, {connections} at once");
    let mut table = Table::of_times(&name);
    let mut group = criterion.benchmark_group(name);
    for kind in Kind::ALL {
        let mut path = Some(runtime.block_on(Path::open(kind, Work::PingPong, connections)));
        group.bench_function(BenchmarkId::from_parameter(kind.name()), |bencher| {
            bencher.iter_custom(|rounds| {
                let took = timed(runtime, &mut path, rounds);
                table.add(kind.name(), rounds, took);
                took
            });
        });
    }
    group.finish();
    table
}

/// Runs the path's work as a task of the runtime's own threads, where product code runs, and times it.
fn timed(runtime: &Runtime, path: &mut Option<Path>, steps: u64) -> Duration {
    let mut own = path.take().expect("given back each time");
    let task = runtime.spawn(async move {
        let start = Instant::now();
        own.run(steps).await;
        (start.elapsed(), own)
    });
    let (took, own) = runtime.block_on(task).expect("no panic");
    *path = Some(own);
    took
}
