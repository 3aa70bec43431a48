//! One change of the mesh, as the steps in which a proxy is told of it.
//!
//! A proxy applies each response at once, and judges a workload by the policies that hold for its namespace or the
//! mesh and by those that it lists, as far as it knows them. A response is of one type. For each workload to be judged
//! by all of the old or all of the new policies after every response, where one policy object changed, the order is:
//!
//! 0. New policies that have to be listed: nobody lists them yet.
//! 1. Workloads that stop listing a changed policy: it must not change under them. And workloads that start listing
//!    a policy that held for all: it still does, and will hold by the listing alone.
//! 2. Changed policies, and new ones that hold for all; also those that are gone and held for all, listed by nobody.
//! 3. All other addresses. Among them workloads that start listing a changed policy, or stop listing one that now
//!    holds for all.
//! 4. All other policies that are gone.
//!
//! One change of one object never makes a workload both stop listing a changed policy and start listing another
//! changed one; that is why changes are told one by one. Of several changes at once this order is still right for
//! workloads that list the same policies before and after.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Client;
use super::subscription::{Changes, Difference, FIELD_OVERHEAD, Shown, Subscription};
use crate::xds::ResourceKind;
use crate::xds::resource::Resource;
use crate::xds::resources::Resources;
use crate::xds::table::View;

/// Where in the order these steps are.
const CHANGED_POLICIES: usize = 2;
const OTHER_ADDRESSES: usize = 3;

pub(super) struct Plan {
    view: Arc<View>,
    steps: VecDeque<Step>,
}

pub(super) struct Step {
    pub(super) kind: ResourceKind,
    changed: Changes,
    pub(super) removed: Vec<Arc<str>>,
}

impl Plan {
    /// What there is to tell. Empty steps are left out, except where an answer is owed. `None` when the difference
    /// to what the client has cannot be known any more.
    ///
    /// `base` is the view that the client was told of last. Without one it is not known what its policies and
    /// workloads say, and the plan is what is safe for most: changed policies, addresses, policies that are gone.
    pub(super) fn new(
        base: Option<&View>,
        view: Arc<View>,
        client: &Client,
        subscriptions: &mut HashMap<ResourceKind, Subscription>,
    ) -> Option<Plan> {
        let knows_nothing = ResourceKind::ALL.iter().all(|kind| {
            let subscription = subscriptions.get(kind);
            subscription.is_some_and(Subscription::knows_nothing)
        });
        let mut take = |kind| match subscriptions.get_mut(&kind) {
            Some(subscription) => subscription.take(
                base.map(|base| client.shown(base, kind)),
                client.shown(&view, kind),
                &client.node,
            ),
            None => Some(Difference::default()),
        };
        let policies = take(ResourceKind::Authorization)?;
        let addresses = take(ResourceKind::Address)?;
        let replaced = base.and_then(|base| Replaced::between(base, &view, client));
        // Without what is replaced nothing has to come early, and what all clients share stays shared.
        let (early, late) = match &replaced {
            Some(replaced) => {
                let addresses = addresses.changed.into_these().into_iter();
                let (early, late): (Vec<_>, Vec<_>) =
                    addresses.partition(|changed| replaced.comes_after(&changed.resource));
                (early, Changes::These(late))
            }
            None => (Vec::new(), addresses.changed),
        };
        let (new, changed) = match &replaced {
            Some(replaced) if !early.is_empty() => {
                let policies = policies.changed.into_these().into_iter();
                let (new, changed): (Vec<_>, Vec<_>) =
                    policies.partition(|changed| replaced.is_to_be_listed(&changed.resource));
                (new, Changes::These(changed))
            }
            _ => (Vec::new(), policies.changed),
        };
        let was_wide = |name: &Arc<str>| {
            replaced
                .as_ref()
                .and_then(|replaced| replaced.old.get(name))
                .is_some_and(|policy| policy.is_wide)
        };
        let (wide_gone, gone): (Vec<_>, Vec<_>) = policies.removed.into_iter().partition(was_wide);
        let (policy, address) = (ResourceKind::Authorization, ResourceKind::Address);
        let policies_answered = !new.is_empty() || !gone.is_empty();
        let addresses_answered = !early.is_empty();
        let most = client.max_response;
        let policies_last = knows_nothing && late.length() > most && changed.length() <= most;
        let mut steps = [
            (Step::new(policy, Changes::These(new), Vec::new()), false),
            (Step::new(address, Changes::These(early), Vec::new()), false),
            (
                Step::new(policy, changed, wide_gone),
                policies.owed && !policies_answered,
            ),
            (
                Step::new(address, late, addresses.removed),
                addresses.owed && !addresses_answered,
            ),
            (Step::new(policy, Changes::default(), gone), false),
        ];
        if policies_last {
            steps.swap(CHANGED_POLICIES, OTHER_ADDRESSES);
        }
        let sent = steps.into_iter().filter(|(step, owed)| *owed || !step.is_empty());
        let steps = sent.flat_map(|(step, _)| step.parts(most)).collect();
        Some(Plan { view, steps })
    }

    pub(super) fn next(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    pub(super) fn view(&self) -> &Arc<View> {
        &self.view
    }
}

impl Step {
    fn new(kind: ResourceKind, changed: Changes, removed: Vec<Arc<str>>) -> Step {
        Step {
            kind,
            changed,
            removed,
        }
    }

    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    /// The step as responses of about this length, or one resource where that alone is longer. What is new or changed
    /// comes before what is gone, as within one response.
    fn parts(self, most: usize) -> Vec<Step> {
        let removed = self.removed.iter().map(|name| removed_length(name));
        if self.changed.length() + removed.sum::<usize>() <= most {
            return vec![self];
        }
        let kind = self.kind;
        let mut parts = Vec::new();
        let (mut changed, mut removed, mut length) = (Vec::new(), Vec::new(), 0);
        for one in self.changed.into_these() {
            if length > 0 && length + one.length() > most {
                let full = std::mem::take(&mut changed);
                parts.push(Step::new(kind, Changes::These(full), Vec::new()));
                length = 0;
            }
            length += one.length();
            changed.push(one);
        }
        for name in self.removed {
            if length > 0 && length + removed_length(&name) > most {
                let (changed, removed) = (std::mem::take(&mut changed), std::mem::take(&mut removed));
                parts.push(Step::new(kind, Changes::These(changed), removed));
                length = 0;
            }
            length += removed_length(&name);
            removed.push(name);
        }
        parts.push(Step::new(kind, Changes::These(changed), removed));
        parts
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.changed
            .names()
            .chain(self.removed.iter().map(|name| &**name))
    }

    pub(super) fn encoded(&self) -> Resources {
        self.changed.encoded()
    }
}

fn removed_length(name: &str) -> usize {
    name.len() + FIELD_OVERHEAD
}

/// Two views with different policies.
struct Replaced<'a> {
    addresses: Shown<'a>,
    old: Shown<'a>,
    new: Shown<'a>,
}

impl<'a> Replaced<'a> {
    /// `None` when the policies are the same.
    fn between(base: &'a View, view: &'a View, client: &Client) -> Option<Replaced<'a>> {
        let policies = |view: &'a View| client.shown(view, ResourceKind::Authorization);
        let replaced = Replaced {
            addresses: client.shown(base, ResourceKind::Address),
            old: policies(base),
            new: policies(view),
        };
        (replaced.old.sequence() != replaced.new.sequence()).then_some(replaced)
    }

    /// Whether a policy is new and holds only for workloads that list it.
    fn is_to_be_listed(&self, policy: &Resource) -> bool {
        !policy.is_wide && self.old.get(&policy.name).is_none()
    }

    /// Whether changed policies must wait for this workload.
    fn comes_after(&self, workload: &Resource) -> bool {
        let Some(old) = self.addresses.get(&workload.name) else {
            return false;
        };
        let stops = old.listed.iter().filter(|name| !workload.listed.contains(name));
        let starts = workload.listed.iter().filter(|name| !old.listed.contains(name));
        let changed = |name: &Arc<str>| {
            let (old, new) = (self.old.get(name)?, self.new.get(name)?);
            (old.version != new.version).then_some((old.is_wide, new.is_wide))
        };
        stops
            .into_iter()
            .any(|name| changed(name) == Some((false, false)))
            || starts
                .into_iter()
                .any(|name| changed(name) == Some((true, false)))
    }
}
