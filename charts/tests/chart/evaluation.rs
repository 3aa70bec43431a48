//! What the chart's admission policies say about a request.

use kube_cel::{AdmissionRequest, GroupVersionResource, VapEvaluator, VapExpression};
use serde_json::{Value, json};

/// What an API server is asked to admit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// The object as it would be.
    pub(crate) object: Value,
    /// The object as it is.
    pub(crate) old: Value,
    /// The plural name of its resource.
    pub(crate) resource: String,
    /// Who asks: `username` and `extra`.
    pub(crate) user: Value,
}

/// What the policy of this name says; empty where it does not apply.
pub(crate) fn verdict(policy: &str, request: &Request) -> Vec<String> {
    let rendered = charts::rendered("defaults").unwrap();
    let policy = rendered
        .iter()
        .find(|thing| thing["kind"] == "ValidatingAdmissionPolicy" && thing["metadata"]["name"] == policy)
        .unwrap();
    let spec = &policy["spec"];
    let variables: Vec<(String, String)> = list(&spec["variables"])
        .map(|variable| (text(&variable["name"]), text(&variable["expression"])))
        .collect();
    let evaluator = VapEvaluator::builder()
        .object(request.object.clone())
        .old_object(request.old.clone())
        .params(json!({ "userInfo": request.user }))
        .namespace_object(json!({ "metadata": { "name": request.object["metadata"]["namespace"] } }))
        .request(AdmissionRequest {
            resource: GroupVersionResource {
                resource: request.resource.clone(),
                ..GroupVersionResource::default()
            },
            ..AdmissionRequest::default()
        })
        .build();
    let evaluate = |expression: &Value, message: &Value| {
        let expression = VapExpression {
            expression: inlined(&text(expression), &variables),
            message: message.as_str().map(str::to_owned),
            message_expression: None,
        };
        let result = evaluator.evaluate(&[expression]).remove(0);
        // An error in an expression would pass for a refusal.
        let said = result.message.unwrap_or_default();
        assert!(
            result.passed || message.is_null() || said == text(message),
            "{said}"
        );
        result.passed
    };
    for condition in list(&spec["matchConditions"]) {
        if !evaluate(&condition["expression"], &Value::Null) {
            return Vec::new();
        }
    }
    list(&spec["validations"])
        .filter(|validation| !evaluate(&validation["expression"], &validation["message"]))
        .map(|validation| text(&validation["message"]))
        .collect()
}

/// One thing is found, and it says what is expected.
#[track_caller]
pub(crate) fn says(found: &[String], expected: &str, of: &dyn std::fmt::Display) {
    assert!(
        found.len() == 1 && found[0].contains(expected),
        "{of}: {expected:?} is wanted, and there is {found:?}"
    );
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The evaluator knows no variables: their expressions are put in place of them, the later ones first. Of who asks it
/// knows too little, so that is given as a parameter.
fn inlined(expression: &str, variables: &[(String, String)]) -> String {
    variables
        .iter()
        .rev()
        .fold(expression.to_owned(), |expression, (name, value)| {
            expression.replace(&format!("variables.{name}"), &format!("({value})"))
        })
        .replace("request.userInfo", "params.userInfo")
        // It escapes the keys of maps as if they were names of fields, which an API server does not.
        .replace(
            "'ambient.istio.io/redirection'",
            "'ambient__dot__istio__dot__io__slash__redirection'",
        )
        .replace(
            "'authentication.kubernetes.io/node-name'",
            "'authentication__dot__kubernetes__dot__io__slash__node__dash__name'",
        )
}
