//! One state of the mesh, as the steps in which a proxy is told of it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::subscription::Subscription;
use crate::xds::ResourceKind;
use crate::xds::table::View;

pub(super) struct Plan {
    view: Arc<View>,
    steps: VecDeque<Step>,
}

pub(super) struct Step {
    pub(super) kind: ResourceKind,
    changed: Vec<(Arc<str>, Bytes)>,
    pub(super) removed: Vec<Arc<str>>,
}

impl Plan {
    /// What there is to tell. Empty steps are left out, except where an answer is owed. `None` when the difference
    /// to what the client has cannot be known any more.
    pub(super) fn new(
        view: Arc<View>,
        node: &str,
        subscriptions: &mut HashMap<ResourceKind, Subscription>,
    ) -> Option<Plan> {
        let mut steps = VecDeque::new();
        let mut last = None;
        for kind in ResourceKind::ALL {
            let Some(subscription) = subscriptions.get_mut(&kind) else {
                continue;
            };
            let mut difference = subscription.take(view.table(kind), node)?;
            if kind == ResourceKind::Authorization && !difference.removed.is_empty() {
                let removed = std::mem::take(&mut difference.removed);
                last = Some(Step {
                    kind,
                    changed: Vec::new(),
                    removed,
                });
            }
            let step = Step {
                kind,
                changed: difference.changed,
                removed: difference.removed,
            };
            if difference.owed || !step.changed.is_empty() || !step.removed.is_empty() {
                steps.push_back(step);
            }
        }
        steps.extend(last);
        Some(Plan { view, steps })
    }

    pub(super) fn next(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }
}

impl Step {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let changed = self.changed.iter().map(|(name, _)| &**name);
        changed.chain(self.removed.iter().map(|name| &**name))
    }

    pub(super) fn encoded(&self) -> Vec<Bytes> {
        self.changed.iter().map(|(_, encoded)| encoded.clone()).collect()
    }
}
