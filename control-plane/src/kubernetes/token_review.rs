//! Asking the Kubernetes API whose token it is.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ca::{AuthError, Authenticator, Caller};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewStatus};
use kube::Resource;
use kube::api::PostParams;
use kube::core::Request;
use serde_json::json;

use super::{ApiError, ask, shortened};
use crate::places::{Place, Places};
use crate::pods::Pods;

mod answers;
pub(crate) mod claims;

use answers::{Answers, Digest};

/// How long one review may take.
const REVIEW_DEADLINE: Duration = Duration::from_secs(5);
/// How many reviews are under way at once; further tokens are told to come again.
const MAX_REVIEWS: usize = 128;
/// How many of these one address may have begun: a node proxy shows one token at a time, and whoever sends rubbish must
/// not take the places of all others.
const MAX_REVIEWS_PER_PEER: usize = 8;
/// The longest token that is sent for review, in bytes.
const MAX_TOKEN_BYTES: usize = 64 * 1024;
/// The group of every service account.
const GROUP: &str = "system:serviceaccounts";
/// What the API says of the pod that a token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// From Kubernetes 1.30 on, and of its node.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Authenticates callers by TokenReview.
///
/// A token that the API has accepted is accepted for a short time without asking again ([`answers::FRESH`]), never
/// beyond its own end; identical reviews under way are one. While the API cannot be asked, callers are told to come
/// again, not that they are strangers.
#[derive(Clone)]
pub(crate) struct TokenReviewer {
    shared: Arc<Reviews>,
}

struct Reviews {
    client: kube::Client,
    audience: String,
    pods: Pods,
    of_peers: Places<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answers: Answers,
    under_way: std::collections::HashMap<Digest, Review>,
}

type Review = Shared<BoxFuture<'static, Result<Caller, AuthError>>>;

impl TokenReviewer {
    /// Accepts tokens for this audience. Where the API does not name the node of a token, that of its pod counts.
    pub(crate) fn new(client: kube::Client, audience: &str, pods: Pods) -> TokenReviewer {
        TokenReviewer {
            shared: Arc::new(Reviews {
                client,
                audience: audience.to_owned(),
                pods,
                of_peers: Places::default(),
                state: Mutex::default(),
            }),
        }
    }

    async fn review(&self, token: &str, from: Option<IpAddr>) -> Result<Caller, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::TooLong);
        }
        // What no API would accept for us costs it no request.
        let claims = claims::peek(token).ok_or(AuthError::Malformed)?;
        if !claims.is_for(&self.shared.audience) {
            return Err(AuthError::Audience {
                expected: self.shared.audience.clone(),
            });
        }
        let digest = answers::digest(token);
        let review = {
            let mut state = self.shared.state();
            let now = (Instant::now(), SystemTime::now());
            if let Some(caller) = state.answers.get(&digest, now) {
                return Ok(caller);
            }
            match state.under_way.get(&digest) {
                Some(review) => review.clone(),
                None if state.under_way.len() >= MAX_REVIEWS => {
                    return Err(AuthError::Unavailable(
                        "too many tokens are being reviewed".to_owned(),
                    ));
                }
                None => {
                    let peer = from
                        .map(|from| from.to_canonical().to_string())
                        .unwrap_or_default();
                    let place = self
                        .shared
                        .of_peers
                        .take(peer, MAX_REVIEWS_PER_PEER)
                        .ok_or_else(|| {
                            AuthError::Unavailable(
                                "too many tokens of your address are being reviewed".to_owned(),
                            )
                        })?;
                    let review = begin(
                        self.shared.clone(),
                        token.to_owned(),
                        digest,
                        claims.expires,
                        place,
                    );
                    state.under_way.insert(digest, review.clone());
                    review
                }
            }
        };
        review.await
    }
}

impl Authenticator for TokenReviewer {
    fn authenticate<'a>(
        &'a self,
        token: &'a str,
        from: Option<IpAddr>,
    ) -> tls::BoxFuture<'a, Result<Caller, AuthError>> {
        Box::pin(async move {
            let mut caller = self.review(token, from).await?;
            if caller.node.is_empty() {
                caller.node = self.shared.pods.node_of(&caller).ok_or_else(|| {
                    AuthError::Unavailable(format!(
                        "the token names no node, and its pod {}/{} is not known (yet)",
                        caller.namespace, caller.pod_name
                    ))
                })?;
            }
            Ok(caller)
        })
    }
}

/// In a task of its own, so that it goes on when whoever began it goes.
fn begin(
    reviews: Arc<Reviews>,
    token: String,
    digest: Digest,
    expires: Option<SystemTime>,
    place: Place<String>,
) -> Review {
    let task = tokio::spawn(async move {
        let _place = place;
        let outcome = reviews.ask(&token).await;
        let mut state = reviews.state();
        state.under_way.remove(&digest);
        if let Ok(caller) = &outcome {
            let now = (Instant::now(), SystemTime::now());
            state.answers.put(digest, caller.clone(), expires, now);
        }
        outcome
    });
    let ended = |outcome: Result<_, tokio::task::JoinError>| {
        outcome.unwrap_or_else(|stopped| Err(AuthError::Unavailable(stopped.to_string())))
    };
    task.map(ended).boxed().shared()
}

impl Reviews {
    async fn ask(&self, token: &str) -> Result<Caller, AuthError> {
        let unavailable = |problem: String| AuthError::Unavailable(problem);
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": token, "audiences": [self.audience] },
        });
        let request = Request::new(TokenReview::url_path(&(), None))
            .create(&PostParams::default(), review.to_string().into_bytes())
            .map_err(|error| unavailable(error.to_string()))?;
        match ask::<TokenReview>(&self.client, request, REVIEW_DEADLINE).await {
            Ok(TokenReview {
                status: Some(status), ..
            }) => judge(status, token, &self.audience),
            Ok(_) => Err(unavailable("the API server's review has no status".to_owned())),
            Err(error) => {
                let problem = match &error {
                    ApiError::Answer { code: 401 | 403, .. } => {
                        format!("{error}; grant the control plane's service account create on tokenreviews")
                    }
                    _ => error.to_string(),
                };
                tracing::warn!("a token cannot be reviewed: {problem}");
                // The caller cannot mend it and need not know more.
                Err(unavailable(
                    "the API server does not review tokens now".to_owned(),
                ))
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Each entry is right by itself, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who holds a token, by the answer of the API to a review for an audience.
pub(crate) fn judge(status: TokenReviewStatus, token: &str, audience: &str) -> Result<Caller, AuthError> {
    if status.authenticated != Some(true) {
        let reason = status
            .error
            .filter(|error| !error.contains(token))
            .unwrap_or_default();
        return Err(AuthError::Rejected(shortened(&reason)));
    }
    // An API server that knows no audiences leaves them out; it has then compared none.
    if !status
        .audiences
        .unwrap_or_default()
        .iter()
        .any(|one| one == audience)
    {
        return Err(AuthError::Audience {
            expected: audience.to_owned(),
        });
    }
    let user = status.user.unwrap_or_default();
    if !user.groups.unwrap_or_default().iter().any(|group| group == GROUP) {
        return Err(AuthError::Subject);
    }
    let username = user.username.unwrap_or_default();
    let (namespace, service_account) = username
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .filter(|(namespace, account)| !namespace.is_empty() && !account.is_empty() && !account.contains(':'))
        .ok_or(AuthError::Subject)?;
    let extra = user.extra.unwrap_or_default();
    let one = |name: &str| match extra.get(name).map(Vec::as_slice) {
        Some([value]) => value.clone(),
        _ => String::new(),
    };
    let needed = |name: &'static str| {
        Some(one(name))
            .filter(|value| !value.is_empty())
            .ok_or(AuthError::MissingClaim(name))
    };
    Ok(Caller {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        pod_name: needed(POD_NAME)?,
        pod_uid: needed(POD_UID)?,
        node: one(NODE_NAME),
    })
}

#[cfg(test)]
mod tests;
