//! Deployments.

use crate::metadata::Metadata;
use crate::pod::PodSpec;
use crate::read::Fields;
use crate::selector::{Labels, Selector};

/// How many pods a Deployment may ask for.
const MAX_REPLICAS: u32 = 1_000_000;

/// A number of like pods.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// How many.
    pub replicas: u32,
    /// Which pods are its own.
    pub selector: Selector,
    /// What each of them is.
    pub template: PodTemplate,
}

/// What a pod made by a controller is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodTemplate {
    /// Its labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Labels,
    /// Its spec.
    pub spec: PodSpec,
}

impl Deployment {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Deployment> {
        fields.keep(&["status"]);
        let mut spec = fields.require("spec", "a Deployment needs a spec")?.fields()?;
        let replicas = spec
            .get("replicas")
            .and_then(|field| field.integer(0, MAX_REPLICAS))
            .unwrap_or(1);
        let selector_field = spec.require("selector", "which pods are its own");
        let selector = selector_field
            .as_ref()
            .and_then(Selector::read)
            .unwrap_or_default();
        let mut template = PodTemplate::default();
        if let Some(mut fields) = spec
            .require("template", "the pods to make")
            .and_then(|field| field.fields())
        {
            if let Some(metadata) = fields
                .get("metadata")
                .and_then(|field| Metadata::read_template(&field))
            {
                template.labels = metadata.labels;
                template.annotations = metadata.annotations;
            }
            let pod = fields
                .require("spec", "what the pods run")
                .and_then(|field| PodSpec::read(&field));
            template.spec = pod.unwrap_or_default();
            fields.finish();
        }
        if let Some(field) = selector_field {
            if selector.is_empty() {
                field.error("must not be empty: name the labels of the template");
            } else if !selector.matches(&template.labels) {
                field.error("does not match the labels of the template, so the pods would not be its own");
            }
        }
        spec.keep(&[
            "minReadySeconds",
            "paused",
            "progressDeadlineSeconds",
            "revisionHistoryLimit",
            "strategy",
        ]);
        spec.finish();
        Some(Deployment {
            replicas,
            selector,
            template,
        })
    }
}
