//! Which mTLS mode holds for a workload's port, and whose policy says so: what `compile` decides, with the objects that
//! were read. Nothing is decided here, so that the linter cannot say other than what is enforced.

use std::sync::Arc;

use compile::Compiler;
use objects::{MtlsMode, ObjectKey, PeerAuthentication, ReadObject, Spec};

use crate::input::Settings;
use crate::world::{Workload, World};

/// What decides about modes: a compiler that knows the PeerAuthentications and nothing else.
pub(crate) fn compiler<'a>(objects: impl Iterator<Item = &'a ReadObject>, settings: &Settings) -> Compiler {
    let mut compiler = Compiler::new(compile::Settings {
        root_namespace: settings.root_namespace.clone(),
        ..compile::Settings::default()
    });
    let policies = objects.filter(|read| matches!(read.object.spec, Spec::PeerAuthentication(_)));
    compiler.apply(policies.map(|read| (read.object.key(), Some(Arc::new(read.object.clone())))));
    compiler
}

/// The mode of a port (`None`: of every port that is not named), and the policy that decides; PERMISSIVE without one.
pub(crate) fn mode<'a>(
    world: &World<'a>,
    workload: &Workload,
    port: Option<u16>,
) -> (MtlsMode, Option<&'a ReadObject>) {
    let effective = world.mtls.effective_mtls(&workload.object, port);
    let whose = effective
        .decided_by
        .and_then(|key| world.objects.get(&key).copied());
    (effective.mode, whose)
}

/// The policy that counts for a workload instead of others that select it.
pub(crate) fn deciding<'a>(
    world: &World<'a>,
    workload: &Workload,
) -> Option<(&'a ReadObject, &'a PeerAuthentication)> {
    find(world, world.mtls.peer_authentication_of(&workload.object))
}

/// The policy that counts in a namespace instead of others without a selector.
pub(crate) fn widest<'a>(
    world: &World<'a>,
    namespace: &str,
) -> Option<(&'a ReadObject, &'a PeerAuthentication)> {
    find(world, world.mtls.peer_authentication_of_namespace(namespace))
}

fn find<'a>(world: &World<'a>, key: Option<ObjectKey>) -> Option<(&'a ReadObject, &'a PeerAuthentication)> {
    let read = world.objects.get(&key?).copied()?;
    match &read.object.spec {
        Spec::PeerAuthentication(policy) => Some((read, policy)),
        _ => None,
    }
}
