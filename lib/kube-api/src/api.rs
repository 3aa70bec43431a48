//! From a request to its answer.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Semaphore;

use crate::faults::{Faults, Verb};
use crate::kinds::{Resource, resource_id};
use crate::logs::Logs;
use crate::records::Records;
use crate::registry::Registry;
use crate::render::Renderer;
use crate::request::{self, Form, Query, Target};
use crate::review::{self, Access};
use crate::status::StatusError;
use crate::store::Store;
use crate::tokens::Tokens;
use crate::{discovery, logs, openapi, protobuf, scale};

/// The largest body of a request, in bytes: 3 MiB, as a server has it.
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;
/// How many watches may be open at once; further ones are answered 429.
pub const MAX_WATCHERS: usize = 4096;

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Everything that requests are answered from.
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) faults: Faults,
    pub(crate) tokens: Tokens,
    pub(crate) access: RwLock<Access>,
    pub(crate) records: Records,
    pub(crate) watchers: Arc<Semaphore>,
    /// Whether somebody plays the kubelet and ends pods that are being deleted.
    pub(crate) kubelet: bool,
    /// Whether a token that is not known is refused, and one is demanded.
    pub(crate) require_token: bool,
    /// Whether Services get addresses here.
    pub(crate) service_addresses: bool,
    /// Time between bookmarks.
    pub(crate) bookmark_interval: Duration,
    /// Whether there are bookmarks after what does not concern a watch.
    pub(crate) prompt_bookmarks: bool,
    /// Where the output of containers is.
    pub(crate) logs: Option<Arc<dyn Logs>>,
}

/// One request for an object or a collection.
pub(crate) struct Call<'a> {
    pub(crate) api: &'a Arc<Api>,
    pub(crate) resource: Arc<Resource>,
    pub(crate) version: String,
    /// The version with its group that the owners of fields are recorded with.
    pub(crate) owned_version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    /// Empty, `status`, `scale` or `log`.
    pub(crate) subresource: String,
    pub(crate) query: Query,
    pub(crate) form: Form,
    pub(crate) manager: String,
    /// What the answer warns of.
    pub(crate) warnings: Mutex<Vec<String>>,
}

impl Api {
    pub(crate) async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let (parts, body) = request.into_parts();
        let answer = self.answer(&parts, body).await;
        let response = answer.unwrap_or_else(|error| failure(&error));
        self.records.add(&parts, response.status().as_u16());
        Ok(response)
    }

    async fn answer(self: &Arc<Self>, parts: &Parts, body: Incoming) -> Result<Response<Body>, StatusError> {
        if self.require_token {
            let known = request::bearer(&parts.headers).is_some_and(|token| self.tokens.is_known(token));
            if !known {
                return Err(StatusError::unauthorized());
            }
        }
        let Some(segments) = request::segments(parts.uri.path()) else {
            return Err(StatusError::bad_request("the path is not UTF-8"));
        };
        if let Some(page) = self.page(parts, &segments)? {
            return Ok(page);
        }
        let Some(target) = Target::parse(&segments) else {
            return Ok(no_such_page());
        };
        if let Some(kind) = review::kind_of(&target) {
            if parts.method != Method::POST {
                return Err(StatusError::method_not_allowed());
            }
            let plural = target.subresource.as_ref().unwrap_or(&target.plural);
            let (delay, answer) = self
                .faults
                .strike(Verb::Create, &resource_id(&target.group, plural));
            tokio::time::sleep(delay).await;
            if let Some(answer) = answer {
                return Err(answer);
            }
            let object = json_body(parts, body).await?;
            return review::answer(self, kind, &target, &parts.headers, object);
        }
        let served = self.registry.served();
        let Some(resource) = served.find(&target.group, &target.version, &target.plural) else {
            return Ok(no_such_page());
        };
        if resource.namespaced && target.name.is_some() && target.namespace.is_none()
            || !resource.namespaced && target.namespace.is_some()
        {
            return Ok(no_such_page());
        }
        let subresource = target.subresource.unwrap_or_default();
        match subresource.as_str() {
            "" => {}
            "status" if resource.status => {}
            "scale" if scale::is_scaled(&resource) => {}
            "log" if logs::has_logs(&resource) => {}
            _ => return Ok(no_such_page()),
        }
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        let manager = match query.field_manager.as_str() {
            "" => request::default_manager(&parts.headers),
            name if name.len() > 128 => {
                return Err(StatusError::bad_request(
                    "fieldManager: Invalid value: it may have 128 bytes at most",
                ));
            }
            name => name.to_owned(),
        };
        let call = Call {
            api: self,
            owned_version: resource.owned_version(&target.version),
            resource,
            version: target.version,
            namespace: target.namespace,
            name: target.name,
            subresource,
            query,
            form: Form::of(&parts.headers)?,
            manager,
            warnings: Mutex::default(),
        };
        let verb = call.verb(&parts.method)?;
        let (delay, answer) = self.faults.strike(verb, &call.resource.qualified());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if let Some(answer) = answer {
            return Err(answer);
        }
        let mut response = self.perform(&call, verb, parts, body).await?;
        for warning in call.warnings() {
            // RFC 9111 says no more of it, and RFC 7234 section 5.5 how it is written; 299 lasts.
            let text = format!("299 - {}", serde_json::Value::from(warning));
            if let Ok(value) = HeaderValue::from_str(&text) {
                response.headers_mut().append(WARNING, value);
            }
        }
        Ok(response)
    }

    async fn perform(
        &self,
        call: &Call<'_>,
        verb: Verb,
        parts: &Parts,
        body: Incoming,
    ) -> Result<Response<Body>, StatusError> {
        match verb {
            Verb::Get if call.subresource == "log" => call.log(parts.uri.query().unwrap_or_default()).await,
            Verb::Get if call.subresource == "scale" => call.scale(),
            Verb::Update if call.subresource == "scale" => call.set_scale(&json_body(parts, body).await?),
            Verb::Patch if call.subresource == "scale" => {
                let kind = request::media_type(&parts.headers);
                let kind = crate::patch::PatchKind::of(&kind, &call.resource)?;
                call.patch_scale(kind, &read_json(body).await?)
            }
            Verb::Get => call.get(),
            Verb::List => call.list().await,
            Verb::Watch => call.watch(),
            Verb::Create => call.create(json_body(parts, body).await?),
            Verb::Update => call.update(json_body(parts, body).await?),
            Verb::Patch => {
                let kind = request::media_type(&parts.headers);
                let kind = crate::patch::PatchKind::of(&kind, &call.resource)?;
                call.patch(kind, read_json(body).await?)
            }
            Verb::Delete => call.delete(&optional_json(parts, body).await?),
            Verb::DeleteCollection => call.delete_collection(&optional_json(parts, body).await?),
        }
    }

    /// What is not about objects.
    fn page(&self, parts: &Parts, segments: &[String]) -> Result<Option<Response<Body>>, StatusError> {
        let text: Vec<&str> = segments.iter().map(String::as_str).collect();
        let served = self.registry.served();
        let found = match text.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => return Ok(Some(plain(StatusCode::OK, "ok"))),
            ["version"] => Some(discovery::version()),
            ["api"] | ["apis"] if Form::of(&parts.headers)? == Form::Discovery => {
                let page = discovery::aggregated(&served, text == ["api"]);
                let mut response = json(StatusCode::OK, Bytes::from(page.to_string()));
                let kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
                return Ok(Some(response));
            }
            ["api"] => Some(discovery::core_versions()),
            ["apis"] => Some(discovery::groups(&served)),
            ["apis", group] => discovery::group(&served, group),
            ["api", version] => discovery::resources(&served, "", version),
            ["apis", group, version] => discovery::resources(&served, group, version),
            ["openapi", "v3"] => Some(openapi::index(&served)),
            ["openapi", "v3", "api", version] => openapi::document(&served, "", version),
            ["openapi", "v3", "apis", group, version] => openapi::document(&served, group, version),
            _ => return Ok(None),
        };
        if parts.method != Method::GET {
            return Err(StatusError::method_not_allowed());
        }
        Ok(Some(match found {
            Some(page) => json(StatusCode::OK, Bytes::from(page.to_string())),
            None => no_such_page(),
        }))
    }
}

impl Call<'_> {
    fn verb(&self, method: &Method) -> Result<Verb, StatusError> {
        let named = self.name.is_some();
        let verb = match (method.as_str(), named) {
            ("GET", _) if self.query.watch && self.subresource.is_empty() => Verb::Watch,
            ("GET", true) => Verb::Get,
            ("GET", false) => Verb::List,
            (_, true) if self.subresource == "log" => return Err(StatusError::method_not_allowed()),
            ("PUT", true) => Verb::Update,
            ("PATCH", true) => Verb::Patch,
            ("POST", false) if !self.resource.namespaced || self.namespace.is_some() => Verb::Create,
            ("DELETE", true) if self.subresource.is_empty() => Verb::Delete,
            ("DELETE", false) => Verb::DeleteCollection,
            _ => return Err(StatusError::method_not_allowed()),
        };
        Ok(verb)
    }

    pub(crate) fn renderer(&self) -> Renderer<'_> {
        Renderer {
            resource: &self.resource,
            version: &self.version,
            form: self.form,
            include_object: &self.query.include_object,
            now: OffsetDateTime::now_utc(),
        }
    }

    /// Warns whoever asked.
    pub(crate) fn warn(&self, warnings: Vec<String>) {
        *self.warnings.lock().unwrap_or_else(PoisonError::into_inner) = warnings;
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *warnings)
    }

    pub(crate) fn not_found(&self, name: &str) -> StatusError {
        let message = format!("{} {name:?} not found", self.resource.qualified());
        StatusError::new(404, "NotFound", message).about(&self.resource.group, &self.resource.plural, name)
    }
}

/// The present time, in whole seconds, as metadata has it.
pub(crate) fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let whole = now.replace_nanosecond(0).unwrap_or(now);
    whole.format(&Rfc3339).unwrap_or_default()
}

pub(crate) fn json(status: StatusCode, text: Bytes) -> Response<Body> {
    answer(
        status,
        "application/json",
        Full::new(text).map_err(|never| match never {}).boxed_unsync(),
    )
}

/// An answer whose end is not known yet.
pub(crate) fn stream(
    pieces: impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
) -> Response<Body> {
    let frames = pieces.map(|piece| piece.map(hyper::body::Frame::data));
    answer(
        StatusCode::OK,
        "application/json",
        http_body_util::StreamBody::new(frames).boxed_unsync(),
    )
}

fn failure(error: &StatusError) -> Response<Body> {
    let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, Bytes::from(error.to_value().to_string()));
    if let Some(seconds) = error.retry_after {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Text whose end may not be known yet.
pub(crate) fn stream_text(
    pieces: impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
) -> Response<Body> {
    let mut response = stream(pieces);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(text.as_bytes()));
    answer(
        status,
        "text/plain; charset=utf-8",
        body.map_err(|never| match never {}).boxed_unsync(),
    )
}

/// What a server says of a path that no API has: not even a `Status`.
fn no_such_page() -> Response<Body> {
    plain(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn answer(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

async fn json_body(parts: &Parts, body: Incoming) -> Result<Value, StatusError> {
    decode(parts, &read(body).await?)
}

/// Reads a body by its media type. Clients that say nothing mean JSON.
fn decode(parts: &Parts, bytes: &[u8]) -> Result<Value, StatusError> {
    match request::media_type(&parts.headers).as_str() {
        "application/json" | "" => parse(bytes),
        protobuf::MEDIA_TYPE => protobuf::read(bytes),
        _ => Err(StatusError::unsupported_media_type(
            "application/json, application/vnd.kubernetes.protobuf",
        )),
    }
}

async fn optional_json(parts: &Parts, body: Incoming) -> Result<Value, StatusError> {
    let bytes = read(body).await?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    decode(parts, &bytes)
}

async fn read_json(body: Incoming) -> Result<Value, StatusError> {
    parse(&read(body).await?)
}

async fn read(body: Incoming) -> Result<Bytes, StatusError> {
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(StatusError::too_large(format!(
            "Request entity too large: limit is {MAX_BODY_BYTES}"
        ))),
        Err(error) => Err(StatusError::bad_request(format!(
            "the body cannot be read: {error}"
        ))),
    }
}

fn parse(bytes: &[u8]) -> Result<Value, StatusError> {
    serde_json::from_slice(bytes).map_err(|error| {
        StatusError::bad_request(format!(
            "the body is not JSON, which is all that this server reads: {error}"
        ))
    })
}
