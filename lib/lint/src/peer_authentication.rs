//! What is to be said about PeerAuthentications.

use objects::enrolment::Reason;
use objects::{Kind, MtlsMode, PeerAuthentication, ReadObject};

use crate::code::Code;
use crate::finding::Finding;
use crate::modes;
use crate::scope::Scope;
use crate::world::{Mode, Workload, World, some};

pub(crate) fn check(world: &World<'_>, found: &mut Vec<Finding>) {
    for (read, policy) in world.peer_authentications() {
        disable(read, policy, found);
        if !policy.selector.is_empty() && read.object.metadata.namespace == world.settings.root_namespace {
            found.push(Finding::about(
                read,
                Code::SelectorInRootNamespace,
                "spec.selector",
                "a PeerAuthentication with a selector has no effect in the root namespace, not even on pods there",
                "move it to the namespace of the workloads, or drop the selector to mean the whole mesh",
            ));
            continue;
        }
        older(world, read, policy, found);
        plaintext_callers(world, read, policy, found);
    }
}

fn disable(read: &ReadObject, policy: &PeerAuthentication, found: &mut Vec<Finding>) {
    let port = policy
        .port_modes
        .iter()
        .find(|(_, mode)| **mode == MtlsMode::Disable);
    let field = match (policy.mode, port) {
        (MtlsMode::Disable, _) => "spec.mtls.mode".to_owned(),
        (_, Some((port, _))) => format!("spec.portLevelMtls.{port}.mode"),
        _ => return,
    };
    found.push(Finding::about(
        read,
        Code::DisableIsPermissive,
        field,
        "DISABLE lets plaintext in and does not turn mTLS off: peers in the mesh still use it, as with PERMISSIVE",
        "write PERMISSIVE, which says what happens; to keep a workload out of the mesh, label it \
         istio.io/dataplane-mode=none",
    ));
}

/// A policy that an older one overrides.
fn older(world: &World<'_>, read: &ReadObject, policy: &PeerAuthentication, found: &mut Vec<Finding>) {
    let namespace = read.object.metadata.namespace.as_str();
    if policy.selector.is_empty() {
        let Some((oldest, decides)) =
            modes::widest(world, namespace).filter(|(oldest, _)| !std::ptr::eq(*oldest, read))
        else {
            return;
        };
        let place = Scope::of(world, &read.object, &policy.selector).place();
        found.push(Finding::about(
            read,
            Code::OlderPolicyDecides,
            "spec",
            if decides.selects_unknown {
                unknown_selector(oldest)
            } else {
                format!(
                    "{} is older (of the same age: comes first by name) and decides for {place}, so this one has no \
                     effect",
                    oldest.object.key()
                )
            },
            "keep one PeerAuthentication without a selector in a namespace",
        ));
        return;
    }
    let scope = Scope::of(world, &read.object, &policy.selector);
    let overridden: Vec<(&Workload, (&ReadObject, &PeerAuthentication))> = world
        .workloads
        .iter()
        .filter(|workload| scope.selects(workload))
        .filter_map(|workload| {
            let deciding = modes::deciding(world, workload)?;
            (!std::ptr::eq(deciding.0, read)).then_some((workload, deciding))
        })
        .collect();
    let Some((_, (first, decides))) = overridden.first() else {
        return;
    };
    found.push(Finding::about(
        read,
        Code::OlderPolicyDecides,
        "spec.selector",
        if decides.selects_unknown {
            unknown_selector(first)
        } else {
            format!(
                "{} also selects these workloads, is older (of the same age: comes first by name) and decides alone: {}",
                first.object.key(),
                some(overridden.iter().map(|(workload, _)| workload.name.as_str()))
            )
        },
        "let one PeerAuthentication select a workload",
    ));
}

/// What a policy does of which nobody can tell whom it selects.
fn unknown_selector(deciding: &ReadObject) -> String {
    format!(
        "{} cannot be read so far as to tell whom it selects: until it is mended or deleted it counts as STRICT for its \
         whole namespace, so this one has no effect",
        deciding.object.key()
    )
}

/// STRICT, and callers that cannot speak mTLS.
fn plaintext_callers(
    world: &World<'_>,
    read: &ReadObject,
    policy: &PeerAuthentication,
    found: &mut Vec<Finding>,
) {
    let port = policy
        .port_modes
        .iter()
        .find(|(_, mode)| **mode == MtlsMode::Strict);
    let (field, ports) = match (policy.mode, port) {
        (MtlsMode::Strict, _) => ("spec.mtls.mode".to_owned(), String::new()),
        (_, Some((port, _))) => (
            format!("spec.portLevelMtls.{port}.mode"),
            format!(" on port {port}"),
        ),
        _ => return,
    };
    let scope = Scope::of(world, &read.object, &policy.selector);
    let decides = |workload: &Workload| {
        let strict = |port| {
            let (mode, whose) = modes::mode(world, workload, port);
            mode == MtlsMode::Strict && whose.is_some_and(|whose| std::ptr::eq(whose, read))
        };
        workload.in_mesh()
            && scope.selects(workload)
            && (strict(None) || policy.port_modes.keys().any(|port| strict(Some(*port))))
    };
    let protects = if world.workloads.iter().any(|workload| scope.selects(workload)) {
        world.workloads.iter().any(decides)
    } else {
        world.mode(scope.namespace) == Mode::InMesh
    };
    if !protects {
        return;
    }
    let callers: Vec<String> = world
        .workloads
        .iter()
        .filter_map(|workload| Some(format!("{} ({})", workload.name, cannot(workload)?)))
        .collect();
    if callers.is_empty() {
        return;
    }
    found.push(Finding::about(
        read,
        Code::PlaintextCallers,
        field,
        format!(
            "under STRICT{ports}, callers without mTLS are refused, and the manifests hold {}: {}",
            if callers.len() == 1 { "one".to_owned() } else { callers.len().to_string() },
            some(callers.iter().map(String::as_str))
        ),
        "take those that call into the mesh (istio.io/dataplane-mode=ambient), or set portLevelMtls to PERMISSIVE for the \
         ports that they need",
    ));
}

/// Why a workload cannot call what is STRICT; `None`: it can, or never would.
fn cannot(workload: &Workload) -> Option<String> {
    match workload.outside()? {
        Reason::NotAPod | Reason::NodeProxy | Reason::Finished | Reason::ExcludedNamespace => None,
        Reason::Sidecar => Some("it has a sidecar, which must speak HBONE to get in".to_owned()),
        reason => Some(reason.to_string()),
    }
}

/// Whether the effective mode refuses plaintext to a port, and whose policy does.
pub(crate) fn strict<'a>(
    world: &World<'a>,
    workload: &Workload,
    port: Option<u16>,
) -> Option<&'a ReadObject> {
    let (mode, whose) = modes::mode(world, workload, port);
    whose.filter(|read| mode == MtlsMode::Strict && read.object.kind() == Kind::PeerAuthentication)
}
