//! Which workloads a policy is about.

use objects::Object;
use objects::selector::{self, Labels};

use crate::world::{Workload, World};

/// Which workloads a policy is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) namespace: &'a str,
    /// The policy lives in the root namespace, so that it is about the whole mesh.
    pub(crate) everywhere: bool,
    pub(crate) selector: &'a Labels,
}

impl<'a> Scope<'a> {
    pub(crate) fn of(world: &World<'_>, policy: &'a Object, selector: &'a Labels) -> Scope<'a> {
        let namespace = policy.metadata.namespace.as_str();
        Scope {
            namespace,
            everywhere: namespace == world.settings.root_namespace,
            selector,
        }
    }

    pub(crate) fn selects(&self, workload: &Workload) -> bool {
        (self.everywhere || workload.namespace() == self.namespace)
            && selector::matches(workload.labels(), self.selector)
    }

    /// Whether every workload that `other` selects is selected; also those that are not there yet.
    pub(crate) fn covers(&self, other: &Scope<'_>) -> bool {
        (self.everywhere || (!other.everywhere && self.namespace == other.namespace))
            && selector::matches(other.selector, self.selector)
    }

    /// Where it reaches, for people.
    pub(crate) fn place(&self) -> String {
        if self.everywhere {
            "the mesh".to_owned()
        } else {
            format!("namespace {}", self.namespace)
        }
    }
}
