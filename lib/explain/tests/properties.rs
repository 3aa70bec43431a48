//! What must hold of any objects, whatever they say.
//!
//! `EXPLAIN_SEED=N` repeats a run, `EXPLAIN_ROUNDS=N` sets how many sets of objects are tried.

#![allow(clippy::unwrap_used)] // Test code: a panic is a failed test.

#[path = "support/random.rs"]
mod random;
mod support;

use std::sync::Arc;

use compile::Settings;
use explain::{Basis, World};
use objects::Object;
use rand::seq::SliceRandom;
use random::{Random, rounds};
use serde_json::{Value, json};
use support::generator::{self, Connection, Entropy, Mesh};
use support::{ask, object, world};

const SETS: usize = 300;
const CONNECTIONS: usize = 40;

fn connections(random: &mut Random, mesh: &Mesh) -> Vec<Connection> {
    (0..CONNECTIONS)
        .map(|_| generator::connection(random, mesh))
        .collect()
}

/// Objects before and after a change.
type Change = (Vec<Value>, Vec<Value>);

/// Checks that whoever is let in after a change was let in before, and that some are not any more.
fn narrows(change: impl Fn(&mut Random, &[Value]) -> Change) {
    let mut random = Random::of_environment();
    let (mut still, mut lost) = (0, 0);
    for round in 0..rounds(SETS) {
        let mesh = generator::mesh(&mut random);
        let (first, second) = change(&mut random, &mesh.objects);
        let (before, after) = (world(&first), world(&second));
        for connection in connections(&mut random, &mesh) {
            let (was, is) = (ask(&before, &mesh, &connection), ask(&after, &mesh, &connection));
            assert!(
                was.is_allowed() || !is.is_allowed(),
                "round {round}: {was}, and then {is}\n{connection:?}\n{}\n->\n{}",
                serde_json::to_string_pretty(&first).unwrap(),
                serde_json::to_string_pretty(&second).unwrap()
            );
            lost += usize::from(was.is_allowed() && !is.is_allowed());
            still += usize::from(is.is_allowed());
        }
    }
    assert!(
        still > 0 && lost > 0,
        "{still} are let in still, {lost} no more: this says little"
    );
}

#[test]
fn a_strict_peer_authentication_more_never_admits_more() {
    narrows(|random, objects| {
        let mut strict = generator::peer_authentication(random, "more");
        strict["spec"]["mtls"] = json!({"mode": "STRICT"});
        remove(&mut strict["spec"], "portLevelMtls");
        (objects.to_vec(), with(objects, [strict]))
    });
}

#[test]
fn a_deny_more_never_admits_more() {
    narrows(|random, objects| {
        let mut deny = generator::authorization_policy(random, "more");
        deny["spec"]["action"] = "DENY".into();
        if deny["spec"]["rules"].is_null() {
            deny["spec"]["rules"] = json!([{}]);
        }
        (objects.to_vec(), with(objects, [deny]))
    });
}

#[test]
fn an_allow_less_never_admits_more_while_another_selects_the_workload() {
    narrows(|random, objects| {
        let [stays, mut goes] = ["stays", "goes"].map(|name| {
            let mut allow = generator::authorization_policy(random, name);
            for field in ["action", "targetRefs"] {
                remove(&mut allow["spec"], field);
            }
            remove(&mut allow["metadata"], "annotations");
            allow
        });
        // Both select the same pods, so that one is left wherever the other goes.
        goes["metadata"]["namespace"] = stays["metadata"]["namespace"].clone();
        goes["spec"]["selector"] = stays["spec"]["selector"].clone();
        (with(objects, [stays.clone(), goes]), with(objects, [stays]))
    });
}

#[test]
fn the_order_of_documents_and_how_they_are_split_change_nothing() {
    let mut random = Random::of_environment();
    for round in 0..rounds(SETS) {
        let mesh = generator::mesh(&mut random);
        let (whole, mut shuffled) = (world(&mesh.objects), mesh.objects.clone());
        shuffled.shuffle(&mut random.0);
        let mut split = World::new(Basis::Manifests, Settings::default(), []);
        let mut rest = shuffled.as_slice();
        while !rest.is_empty() {
            let (part, others) = rest.split_at((1 + random.below(4)).min(rest.len()));
            split.set(
                parsed(&mut random, part)
                    .into_iter()
                    .map(|object| (object.key(), Some(object))),
            );
            rest = others;
        }
        let shown = |world: &World| {
            let workloads: Vec<_> = world.snapshot().workloads().cloned().collect();
            let policies: Vec<_> = world.snapshot().policies().cloned().collect();
            (workloads, policies)
        };
        assert_eq!(shown(&whole), shown(&split), "round {round}");
        for connection in connections(&mut random, &mesh) {
            let [one, other] = [&whole, &split].map(|world| ask(world, &mesh, &connection).to_string());
            assert_eq!(one, other, "round {round}");
        }
    }
}

#[test]
fn names_change_nothing_where_no_two_policies_tie() {
    let mut random = Random::of_environment();
    for round in 0..rounds(SETS) {
        let mut mesh = generator::mesh(&mut random);
        for (second, object) in mesh.objects.iter_mut().enumerate() {
            object["metadata"]["creationTimestamp"] = format!("2026-02-01T00:00:{second:02}Z").into();
        }
        let mut renamed = mesh.objects.clone();
        let mut names: Vec<String> = (0..renamed.len())
            .map(|number| format!("policy-{number}"))
            .collect();
        names.shuffle(&mut random.0);
        for (object, name) in renamed.iter_mut().zip(&names) {
            if object["apiVersion"].as_str().unwrap().starts_with("security.") {
                object["metadata"]["name"] = name.as_str().into();
            }
        }
        let (before, after) = (world(&mesh.objects), world(&renamed));
        for connection in connections(&mut random, &mesh) {
            let [was, is] = [&before, &after].map(|world| {
                let answer = ask(world, &mesh, &connection);
                (answer.is_allowed(), answer.decisive().code())
            });
            // Of several that match, another may be named; what happens is the same.
            assert_eq!(was.0, is.0, "round {round}: {} {} {connection:?}", was.1, is.1);
        }
    }
}

/// A question with objects of its own is answered as by a mesh that has them, and leaves no trace.
#[test]
fn objects_of_one_question_count_and_leave_no_trace() {
    let mut random = Random::of_environment();
    for round in 0..rounds(SETS) {
        let mesh = generator::mesh(&mut random);
        let (mut reused, fresh) = (world(&mesh.objects), world(&mesh.objects));
        for connection in connections(&mut random, &mesh).iter().take(8) {
            let name = format!("a{}", random.below(6));
            let more = match random.below(3) {
                0 => vec![],
                1 => vec![generator::authorization_policy(&mut random, &name)],
                _ => {
                    let peer = generator::peer_authentication(&mut random, &name.replace('a', "p"));
                    vec![peer, generator::authorization_policy(&mut random, "new")]
                }
            };
            let (caller, target) = support::question(&mesh, connection);
            let asked = reused.with(more.iter().map(object), |world| {
                ask(world, &mesh, connection).to_string()
            });
            let narrowly = reused.ask_with(more.iter().map(object), &caller, &target);
            assert_eq!(narrowly.unwrap().to_string(), asked, "round {round}");
            let keys: Vec<_> = more.iter().map(|value| object(value).key()).collect();
            let kept = mesh
                .objects
                .iter()
                .filter(|value| !keys.contains(&object(value).key()));
            let together: Vec<Value> = kept.chain(&more).cloned().collect();
            assert_eq!(
                asked,
                ask(&world(&together), &mesh, connection).to_string(),
                "round {round}"
            );
            let [now, before] = [&reused, &fresh].map(|world| ask(world, &mesh, connection).to_string());
            assert_eq!(now, before, "round {round}");
        }
    }
}

fn with<const N: usize>(objects: &[Value], more: [Value; N]) -> Vec<Value> {
    objects.iter().cloned().chain(more).collect()
}

fn remove(of: &mut Value, field: &str) {
    of.as_object_mut().unwrap().remove(field);
}

/// Objects as text and back: as documents, or as a List.
fn parsed(random: &mut Random, part: &[Value]) -> Vec<Arc<Object>> {
    let text = if random.once_in(2) {
        json!({"apiVersion": "v1", "kind": "List", "items": part}).to_string()
    } else {
        let documents: Vec<String> = part.iter().map(|value| format!("---\n{value}\n")).collect();
        documents.concat()
    };
    let objects = objects::parse("part.yaml", &text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    objects.into_iter().map(Arc::new).collect()
}
