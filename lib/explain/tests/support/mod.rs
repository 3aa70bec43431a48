//! Random objects and connections, and what the rules and the mesh say about them.

#![allow(dead_code, clippy::unwrap_used)] // Test code of which each user takes a part.

pub(crate) mod generator;
pub(crate) mod oracle;

use std::sync::Arc;

use compile::Settings;
use explain::{Answer, Basis, Caller, Target, World};
use objects::Object;
use serde_json::Value;

use generator::{Connection, Mesh};

/// A mesh that stands on these objects.
pub(crate) fn world(objects: &[Value]) -> World {
    World::new(Basis::Manifests, Settings::default(), objects.iter().map(object))
}

/// One object, which must be good.
pub(crate) fn object(value: &Value) -> Arc<Object> {
    let object = Object::from_value(value.clone());
    Arc::new(object.unwrap_or_else(|errors| panic!("the generator made a bad object: {errors}\n{value}")))
}

/// What the mesh says about a connection.
pub(crate) fn ask(world: &World, mesh: &Mesh, connection: &Connection) -> Answer {
    let (caller, target) = question(mesh, connection);
    world
        .ask(&caller, &target)
        .unwrap_or_else(|error| panic!("{connection:?}: {error}"))
}

/// A connection as a question.
pub(crate) fn question(mesh: &Mesh, connection: &Connection) -> (Caller, Target) {
    let caller = match (connection.identity, connection.source) {
        (Some((namespace, name)), address) => Caller::Account {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            address,
        },
        (None, Some(address)) => Caller::Plaintext(address),
        (None, None) => unreachable!("a caller without identity has an address"),
    };
    let text = |field: &str| {
        mesh.pods[connection.pod]["metadata"][field]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let target = Target::Pod {
        namespace: text("namespace"),
        name: text("name"),
        port: connection.port,
    };
    (caller, target)
}

/// The connection for the oracle.
pub(crate) fn call<'a>(mesh: &'a Mesh, connection: &Connection) -> oracle::Call<'a> {
    let pod = &mesh.pods[connection.pod];
    // Both ends of a connection are of one family.
    let family = usize::from(connection.source.is_some_and(|source| source.is_ipv6()));
    let destination = &pod["status"]["podIPs"][family]["ip"];
    oracle::Call {
        destination: destination.as_str().unwrap().parse().unwrap(),
        identity: connection.identity,
        source: connection.source,
        pod,
        port: connection.port,
    }
}

/// Makes a mesh and connections of bytes, and holds the one against the other. Whether anybody was refused, and
/// anybody let in.
pub(crate) fn check_bytes(bytes: &[u8]) -> bool {
    let mut entropy = generator::Bytes(bytes);
    let mesh = generator::mesh(&mut entropy);
    let world = world(&mesh.objects);
    let mut seen = [false; 2];
    for _ in 0..16 {
        let connection = generator::connection(&mut entropy, &mesh);
        let answer = ask(&world, &mesh, &connection);
        let expected = oracle::allows(&mesh.objects, &call(&mesh, &connection));
        assert_eq!(
            answer.is_allowed(),
            expected,
            "{answer}\n{connection:?}\n{:#}",
            Value::from(mesh.objects.clone())
        );
        seen[usize::from(expected)] = true;
    }
    seen == [true; 2]
}
