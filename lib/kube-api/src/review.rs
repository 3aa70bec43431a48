//! What is asked by creating an object that is never stored: token and access reviews, and requests for tokens.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api::{Api, Body, json as answer_json};
use crate::request::{self, Target};
use crate::status::StatusError;
use crate::store::Key;
use crate::tokens::{SERVER_AUDIENCE, TokenSubject};

/// Decides access reviews: gets the review's `spec`.
pub(crate) type Access = Box<dyn Fn(&Value) -> bool + Send + Sync>;

/// The shortest life of a token that may be asked for.
const MIN_TOKEN_SECONDS: u64 = 600;
/// The life of a token when nothing is asked for.
const DEFAULT_TOKEN_SECONDS: u64 = 3600;

/// What is reviewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Review {
    Token,
    SelfSubject,
    Access,
    SelfAccess,
    TokenRequest,
}

/// The resources of reviews, for discovery: group, plural, kind.
pub(crate) const REVIEWS: [(&str, &str, &str); 4] = [
    ("authentication.k8s.io", "tokenreviews", "TokenReview"),
    ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    (
        "authorization.k8s.io",
        "subjectaccessreviews",
        "SubjectAccessReview",
    ),
    (
        "authorization.k8s.io",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
    ),
];

/// Which review a path asks for.
pub(crate) fn kind_of(target: &Target) -> Option<Review> {
    if target.version != "v1" {
        return None;
    }
    let text = (
        target.group.as_str(),
        target.plural.as_str(),
        target.subresource.as_deref(),
    );
    match text {
        ("", "serviceaccounts", Some("token")) if target.namespace.is_some() => Some(Review::TokenRequest),
        ("authentication.k8s.io", "tokenreviews", None) => Some(Review::Token),
        ("authentication.k8s.io", "selfsubjectreviews", None) => Some(Review::SelfSubject),
        ("authorization.k8s.io", "subjectaccessreviews", None) => Some(Review::Access),
        ("authorization.k8s.io", "selfsubjectaccessreviews", None) => Some(Review::SelfAccess),
        _ => None,
    }
}

/// Answers a review: the object that was sent, with its status.
pub(crate) fn answer(
    api: &Arc<Api>,
    review: Review,
    target: &Target,
    headers: &HeaderMap,
    mut object: Value,
) -> Result<Response<Body>, StatusError> {
    if !object.is_object() {
        return Err(StatusError::bad_request("the body must be a JSON object"));
    }
    let (api_version, kind) = match review {
        Review::TokenRequest => ("authentication.k8s.io/v1".to_owned(), "TokenRequest"),
        _ => {
            let found = REVIEWS.iter().find(|(_, plural, _)| *plural == target.plural);
            (
                format!("{}/v1", target.group),
                found.map_or("", |(_, _, kind)| *kind),
            )
        }
    };
    let status = match review {
        Review::Token => token(api, &object["spec"]),
        Review::SelfSubject => json!({ "userInfo": user(api, headers) }),
        Review::Access | Review::SelfAccess => {
            let access = api.access.read().unwrap_or_else(PoisonError::into_inner);
            let allowed = access(&object["spec"]);
            let reason = if allowed { "" } else { "no rule allows it" };
            json!({ "allowed": allowed, "reason": reason })
        }
        Review::TokenRequest => token_request(api, target, &mut object)?,
    };
    object["kind"] = json!(kind);
    object["apiVersion"] = json!(api_version);
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    if object["metadata"].get("creationTimestamp").is_none() {
        object["metadata"]["creationTimestamp"] = Value::Null;
    }
    object["status"] = status;
    Ok(answer_json(StatusCode::CREATED, Bytes::from(object.to_string())))
}

fn token(api: &Api, spec: &Value) -> Value {
    let refused = |why: String| json!({ "user": {}, "error": why });
    let claims = match api.tokens.read(spec["token"].as_str().unwrap_or_default()) {
        Ok(claims) => claims,
        Err(why) => return refused(why),
    };
    let wanted = match spec["audiences"].as_array() {
        Some(list) if !list.is_empty() => list.clone(),
        _ => vec![json!(SERVER_AUDIENCE)],
    };
    let has = claims["aud"].as_array().cloned().unwrap_or_default();
    let common: Vec<_> = wanted
        .iter()
        .filter(|audience| has.contains(audience))
        .cloned()
        .collect();
    if common.is_empty() {
        return refused(format!(
            "[invalid bearer token, token audiences {} is invalid for the target audiences {}]",
            json!(has),
            json!(wanted)
        ));
    }
    match holder(api, &claims) {
        Ok(user) => json!({ "authenticated": true, "user": user, "audiences": common }),
        Err(why) => refused(why),
    }
}

/// The user of a token, as long as what it is bound to exists.
fn holder(api: &Api, claims: &Value) -> Result<Value, String> {
    let bound = &claims["kubernetes.io"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = text(&bound["namespace"]);
    let check = |resource: &str, namespace: &str, reference: &Value, what: &str| {
        let found = api
            .store
            .get(&Key::new(resource, namespace, &text(&reference["name"])));
        let same =
            found.is_some_and(|found| crate::rules::text(found.value(), "uid") == text(&reference["uid"]));
        if same {
            Ok(())
        } else {
            Err(format!("[invalid bearer token, {what} has been invalidated]"))
        }
    };
    check(
        "serviceaccounts",
        &namespace,
        &bound["serviceaccount"],
        "service account token",
    )?;
    let mut extra = Map::new();
    extra.insert(
        "authentication.kubernetes.io/credential-id".into(),
        json!([format!("JTI={}", text(&claims["jti"]))]),
    );
    for (field, resource, namespace) in [("pod", "pods", namespace.as_str()), ("node", "nodes", "")] {
        let Some(reference) = bound.get(field) else {
            continue;
        };
        // A pod must still be there; the node of a pod is only told.
        if field == "pod" || bound.get("pod").is_none() {
            check(resource, namespace, reference, &format!("bound {field}"))?;
        }
        for part in ["name", "uid"] {
            extra.insert(
                format!("authentication.kubernetes.io/{field}-{part}"),
                json!([reference[part]]),
            );
        }
    }
    Ok(json!({
        "username": claims["sub"],
        "uid": bound["serviceaccount"]["uid"],
        "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
        "extra": extra,
    }))
}

fn user(api: &Api, headers: &HeaderMap) -> Value {
    let claims = request::bearer(headers).and_then(|token| api.tokens.read(token).ok());
    claims
        .and_then(|claims| holder(api, &claims).ok())
        .unwrap_or_else(|| json!({ "username": "kubernetes-admin", "groups": ["system:masters", "system:authenticated"] }))
}

fn token_request(api: &Api, target: &Target, object: &mut Value) -> Result<Value, StatusError> {
    let namespace = target.namespace.clone().unwrap_or_default();
    let account = target.name.clone().unwrap_or_default();
    let not_found = |resource: &str, name: &str| {
        StatusError::new(404, "NotFound", format!("{resource} {name:?} not found")).about("", resource, name)
    };
    let find = |resource: &str, namespace: &str, name: &str| {
        let found = api.store.get(&Key::new(resource, namespace, name));
        found.ok_or_else(|| not_found(resource, name))
    };
    let uid = |object: &crate::store::Stored| crate::rules::text(object.value(), "uid");
    let found = find("serviceaccounts", &namespace, &account)?;
    let spec = object["spec"].clone();
    let seconds = spec["expirationSeconds"]
        .as_u64()
        .unwrap_or(DEFAULT_TOKEN_SECONDS);
    let invalid = |field: &str, problem: &str| {
        Err(StatusError::invalid(
            "TokenRequest",
            "authentication.k8s.io",
            "",
            field,
            problem,
        ))
    };
    if seconds < MIN_TOKEN_SECONDS {
        return invalid(
            "spec.expirationSeconds",
            "Invalid value: may not specify a duration less than 10 minutes",
        );
    }
    let audiences: Vec<String> = match spec["audiences"].as_array() {
        Some(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        None => Vec::new(),
    };
    let mut subject = TokenSubject {
        service_account_uid: uid(&found),
        namespace: namespace.clone(),
        service_account: account.clone(),
        audiences: if audiences.is_empty() {
            vec![SERVER_AUDIENCE.to_owned()]
        } else {
            audiences
        },
        pod: None,
        node: None,
    };
    let reference = &spec["boundObjectRef"];
    let name = reference["name"].as_str().unwrap_or_default();
    let resource = match reference["kind"].as_str() {
        None => "",
        Some("Pod") => "pods",
        Some("Node") => "nodes",
        Some(kind) => {
            return Err(StatusError::bad_request(format!(
                "cannot bind token to object of type {kind}: this server binds to pods and nodes"
            )));
        }
    };
    if !resource.is_empty() {
        let bound = find(resource, if resource == "pods" { &namespace } else { "" }, name)?;
        let bound_uid = uid(&bound);
        if reference["uid"]
            .as_str()
            .is_some_and(|wanted| wanted != bound_uid)
        {
            let message = format!(
                "Operation cannot be fulfilled on {resource} {name:?}: the UID in the bound object reference does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(StatusError::new(409, "Conflict", message).about("", resource, name));
        }
        if resource == "nodes" {
            subject.node = Some((name.to_owned(), bound_uid));
        } else {
            let pod = &bound.value()["spec"];
            if pod["serviceAccountName"].as_str().unwrap_or("default") != account {
                return Err(StatusError::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            if let Some(node) = pod["nodeName"].as_str().filter(|node| !node.is_empty()) {
                let node_uid = api.store.get(&Key::new("nodes", "", node)).map(|node| uid(&node));
                subject.node = Some((node.to_owned(), node_uid.unwrap_or_default()));
            }
            subject.pod = Some((name.to_owned(), bound_uid));
        }
    }
    let token = api
        .tokens
        .sign(&subject, SystemTime::now(), Duration::from_secs(seconds))?;
    if !object["spec"].is_object() {
        object["spec"] = json!({});
    }
    object["spec"]["audiences"] = json!(subject.audiences);
    object["spec"]["expirationSeconds"] = json!(seconds);
    let end = OffsetDateTime::now_utc() + Duration::from_secs(seconds.min(u64::from(u32::MAX)));
    let end = end
        .replace_nanosecond(0)
        .unwrap_or(end)
        .format(&Rfc3339)
        .unwrap_or_default();
    Ok(json!({ "token": token, "expirationTimestamp": end }))
}
