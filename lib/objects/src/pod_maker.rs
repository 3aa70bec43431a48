//! What makes pods beside Deployments and is not read otherwise: StatefulSets, DaemonSets, ReplicaSets,
//! ReplicationControllers, Jobs and CronJobs. For whoever judges manifests, where the pods are not made yet.

use serde_json::{Map, Value, json};

use crate::error::ParseErrors;
use crate::lenient::UnreadObject;
use crate::object::Object;

/// The label that Kubernetes gives to the pods of a Job.
const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";

/// A document that makes pods.
#[derive(Clone, Copy, Debug)]
pub struct PodMaker<'a> {
    document: &'a UnreadObject,
    template: &'static str,
}

/// The document as one that makes pods; `None` for other kinds.
pub fn pod_maker(document: &UnreadObject) -> Option<PodMaker<'_>> {
    let template = match (document.api_version.as_str(), document.kind.as_str()) {
        ("apps/v1", "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("v1", "ReplicationController")
        | ("batch/v1", "Job") => "/spec/template",
        ("batch/v1", "CronJob") => "/spec/jobTemplate/spec/template",
        _ => return None,
    };
    Some(PodMaker { document, template })
}

/// A pod as a template says, under the name of its maker.
///
/// # Errors
/// What is wrong with the template.
pub fn pod_of_template(template: &Value, namespace: &str, name: &str) -> Result<Object, ParseErrors> {
    let field = |path: &str| template.pointer(path).cloned().unwrap_or(Value::Null);
    Object::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": field("/metadata/labels"),
            "annotations": field("/metadata/annotations"),
        },
        "spec": field("/spec"),
    }))
}

impl PodMaker<'_> {
    /// One of its pods, under its own name.
    ///
    /// # Errors
    /// What is wrong with its template.
    pub fn pod(&self) -> Result<Object, ParseErrors> {
        pod_of_template(self.template(), &self.document.namespace, self.name())
    }

    /// A Deployment under this name whose pods are as those of the maker, and are the maker's own where they are there.
    ///
    /// # Errors
    /// What is wrong with its template.
    pub fn as_deployment(&self, name: &str) -> Result<Object, ParseErrors> {
        let mut template = self.template().clone();
        let selector = self.selector(&mut template);
        Object::from_value(json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": self.document.namespace},
            "spec": {"selector": selector, "template": template},
        }))
    }

    /// Its name; of a Job that leaves it to the API server, the beginning of it.
    pub fn name(&self) -> &str {
        let made_up = self.document.value.pointer("/metadata/generateName");
        match (self.document.name.as_str(), made_up.and_then(Value::as_str)) {
            ("", Some(beginning)) => beginning.trim_end_matches(['-', '.']),
            (name, _) => name,
        }
    }

    /// The kind and name of what made it: the Deployment of a ReplicaSet, the CronJob of a Job.
    pub fn owner(&self) -> Option<(&str, &str)> {
        let owner = self.document.value.pointer("/metadata/ownerReferences/0")?;
        let text = |field| owner.get(field).and_then(Value::as_str);
        Some((text("kind")?, text("name")?))
    }

    fn template(&self) -> &Value {
        static NONE: Value = Value::Null;
        self.document.value.pointer(self.template).unwrap_or(&NONE)
    }

    /// What selects its pods. A Job's are told by a label that Kubernetes gives them, which the template gets.
    fn selector(&self, template: &mut Value) -> Value {
        if self.document.api_version == "batch/v1" {
            let label = json!({JOB_NAME_LABEL: self.name()});
            if let Some(labels) = labels(template) {
                labels.insert(JOB_NAME_LABEL.to_owned(), self.name().into());
            }
            return json!({"matchLabels": label});
        }
        let written = self.document.value.pointer("/spec/selector").cloned();
        match written.filter(|selector| selector.as_object().is_some_and(|fields| !fields.is_empty())) {
            // That of a ReplicationController is a map of labels.
            Some(labels) if self.document.api_version == "v1" => json!({"matchLabels": labels}),
            Some(selector) => selector,
            None => {
                let labels = template.pointer("/metadata/labels").cloned();
                json!({"matchLabels": labels.unwrap_or(Value::Object(Map::new()))})
            }
        }
    }
}

/// The labels of a template, which gets some if it has none; `None` where it cannot have any.
fn labels(template: &mut Value) -> Option<&mut Map<String, Value>> {
    let inner = |value: &'_ mut Value, name: &str| -> Option<()> {
        let field = value.as_object_mut()?.entry(name).or_insert(Value::Null);
        if field.is_null() {
            *field = Value::Object(Map::new());
        }
        Some(())
    };
    inner(template, "metadata")?;
    let metadata = template.get_mut("metadata")?;
    inner(metadata, "labels")?;
    metadata.get_mut("labels")?.as_object_mut()
}

#[cfg(test)]
mod tests;
