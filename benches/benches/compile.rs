//! How long it takes to make again what one change of one object touches: a pod's label, or whom a policy allows.
//!
//! Beside that, a pod and a policy in a namespace of few and of many policies that each select other labels.
//!
//! Measured in turns over meshes of different sizes; the table has medians, and ratios to the smallest mesh.

use std::hint::black_box;
use std::time::Instant;

use benches::{Manifests, Table};
use compile::Output;
use criterion::{BenchmarkId, Criterion};

const PODS: [u32; 3] = [100, 1000, 10_000];
/// Policies in each namespace of fifty pods.
const POLICIES: [u32; 2] = [1, 100];
/// Policies of one namespace, each with a selector of its own.
const SELECTORS: [u32; 2] = [10, 10_000];
/// Even, so that each round ends where it began.
const ROUNDS: usize = 200;

fn main() {
    let mut cases: Vec<_> = PODS
        .iter()
        .flat_map(|pods| POLICIES.map(|policies| (*pods, policies)))
        .map(|(pods, policies)| {
            let name = format!("{pods} pods, {}", pods.div_ceil(50) * policies);
            (name, Manifests::new(pods, policies))
        })
        .collect();
    changes("pods, policies", &mut cases, |output| {
        assert_eq!(output.policies.len(), 1);
    });
    different_selectors();

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("compile");
    for (name, manifests) in &mut cases {
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("pod", &*name), |bencher| {
            bencher.iter(|| {
                turn += 1;
                manifests.change_pod(turn)
            });
        });
        group.bench_function(BenchmarkId::new("policy", &*name), |bencher| {
            bencher.iter(|| {
                turn += 1;
                manifests.change_policy(turn)
            });
        });
    }
    group.finish();
    criterion.final_summary();
}

/// A pod and a policy's selector change in a namespace of many policies that do not select the pod.
fn different_selectors() {
    let mut cases = SELECTORS.map(|policies| {
        let name = format!("{policies} policies");
        (name, Manifests::of_different_selectors(policies))
    });
    changes(
        "policies of its namespace, other selectors",
        &mut cases,
        |output| {
            assert_eq!(
                output.addresses.len(),
                1,
                "the pod lists the policy, or no longer"
            );
        },
    );
}

/// Changes a pod and a policy of each mesh in turns, and prints what that took.
fn changes(what: &str, cases: &mut [(String, Manifests)], policy_shows: impl Fn(&Output)) {
    let mut pod = Table::of_times(format!("Change of one pod ({what})"));
    let mut policy = Table::of_times(format!("Change of one policy ({what})"));
    for turn in 0..ROUNDS {
        for (name, manifests) in &mut *cases {
            let start = Instant::now();
            let output = black_box(manifests.change_pod(turn));
            pod.add(name, 1, start.elapsed());
            assert!(!output.is_empty() || turn == 0, "the change shows on the wire");
            let start = Instant::now();
            let output = black_box(manifests.change_policy(turn));
            policy.add(name, 1, start.elapsed());
            policy_shows(&output);
        }
    }
    pod.print();
    policy.print();
}
