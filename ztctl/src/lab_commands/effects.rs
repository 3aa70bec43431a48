//! What changed objects do other than their authors wrote: the conditions that the control plane gives them, worked out
//! here from the same objects, since it writes them a moment after everything is in force.

use std::collections::{BTreeMap, BTreeSet};

use compile::{Compiler, Condition};
use lab::{LabError, Layout};
use objects::ObjectKey;

use crate::policy::{self, Failure};

/// How many objects are told of that were not changed themselves, such as the Services of a labelled namespace.
const OTHERS_MAX: usize = 20;

/// What the control plane tells about each object.
type Conditions = BTreeMap<ObjectKey, Vec<Condition>>;

/// A lab before its objects are changed.
pub(super) struct Effects {
    before: Conditions,
}

impl Effects {
    pub(super) async fn before(layout: &Layout) -> Effects {
        // Where it cannot be told, the change itself or what is told after it says why.
        let before = told(layout).await.unwrap_or_default();
        Effects { before }
    }

    /// What of the changed objects is not in force as it is written, and what is not any more of others.
    pub(super) async fn warnings(self, layout: &Layout, changed: &BTreeSet<ObjectKey>) -> Vec<String> {
        match told(layout).await {
            Ok(after) => compare(&self.before, &after, changed),
            Err(why) => vec![format!("what the mesh makes of the change cannot be told: {why}")],
        }
    }
}

fn compare(before: &Conditions, after: &Conditions, changed: &BTreeSet<ObjectKey>) -> Vec<String> {
    let (mut warnings, mut others) = (Vec::new(), Vec::new());
    for (key, conditions) in after {
        let known = before.get(key).map_or(&[][..], Vec::as_slice);
        for condition in conditions.iter().filter(|condition| !condition.is_clean()) {
            let text = format!(
                "{key}: {}: {} (condition {})",
                condition.reason, condition.message, condition.kind
            );
            let is_known = |old: &Condition| {
                (old.kind, old.reason, &old.message) == (condition.kind, condition.reason, &condition.message)
            };
            if changed.contains(key) {
                warnings.push(text);
            } else if !known.iter().any(is_known) {
                others.push(text);
            }
        }
    }
    let more = others.len().saturating_sub(OTHERS_MAX);
    others.truncate(OTHERS_MAX);
    warnings.append(&mut others);
    if more > 0 {
        warnings.push(format!(
            "{more} more objects are not in force as they are written: see their conditions (ztctl lab get -o yaml)"
        ));
    }
    warnings
}

/// Nothing where no mesh runs, whose control plane would tell.
async fn told(layout: &Layout) -> Result<Conditions, String> {
    let text = |error: LabError| error.to_string();
    if !lab::status(layout).await.map_err(text)?.mesh {
        return Ok(Conditions::new());
    }
    let objects = lab::objects(layout).await.map_err(text)?;
    let (settings, objects) = policy::in_lab(objects).map_err(|failure| match failure {
        Failure::Usage(why) | Failure::Unknown(why) => why,
    })?;
    let mut compiler = Compiler::new(settings);
    compiler.apply(objects.into_iter().map(|object| (object.key(), Some(object))));
    Ok(compiler.conditions().clone())
}

#[cfg(test)]
mod tests;
