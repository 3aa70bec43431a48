//! Labels that say who is in the mesh.

use objects::selector::Labels;
use objects::{DATAPLANE_MODE_AMBIENT, DATAPLANE_MODE_LABEL, DATAPLANE_MODE_NONE, ReadObject, Spec};

use crate::code::Code;
use crate::finding::Finding;
use crate::world::World;

pub(crate) fn check(world: &World<'_>, found: &mut Vec<Finding>) {
    for read in world.objects.values() {
        let labels = &read.object.metadata.labels;
        match &read.object.spec {
            Spec::Namespace => mode(read, "metadata.labels", labels, found),
            Spec::Pod(pod) => {
                mode(read, "metadata.labels", labels, found);
                host_network(read, "spec.hostNetwork", pod.spec.host_network, labels, found);
            }
            Spec::Deployment(deployment) => {
                let (labels, spec) = (&deployment.template.labels, &deployment.template.spec);
                mode(read, "spec.template.metadata.labels", labels, found);
                host_network(
                    read,
                    "spec.template.spec.hostNetwork",
                    spec.host_network,
                    labels,
                    found,
                );
            }
            _ => {}
        }
    }
}

fn mode(read: &ReadObject, field: &str, labels: &Labels, found: &mut Vec<Finding>) {
    let Some(mode) = labels.get(DATAPLANE_MODE_LABEL) else {
        return;
    };
    if mode == DATAPLANE_MODE_AMBIENT || mode == DATAPLANE_MODE_NONE {
        return;
    }
    found.push(Finding::about(
        read,
        Code::UnknownDataplaneMode,
        format!("{field}[{DATAPLANE_MODE_LABEL:?}]"),
        format!("the mode {mode:?} is not known and counts as no label: it takes nobody into the mesh"),
        "write ambient to take part, or none to stay out",
    ));
}

fn host_network(read: &ReadObject, field: &str, host: bool, labels: &Labels, found: &mut Vec<Finding>) {
    if host
        && labels
            .get(DATAPLANE_MODE_LABEL)
            .is_some_and(|mode| mode == DATAPLANE_MODE_AMBIENT)
    {
        found.push(Finding::about(
            read,
            Code::HostNetworkNotEnrolled,
            field,
            "the pod uses the node's own network, which is not its own to capture, and is not enrolled although its \
             label asks for it: it speaks plaintext, and no policy protects it",
            "drop hostNetwork, or the label",
        ));
    }
}
