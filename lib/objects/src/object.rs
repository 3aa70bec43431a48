//! One object: what it says, as types and as written.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::authorization_policy::AuthorizationPolicy;
use crate::config_map::ConfigMap;
use crate::deployment::Deployment;
use crate::document::{MAX_DEPTH, Tree};
use crate::endpoint_slice::EndpointSlice;
use crate::error::{ParseError, ParseErrors};
use crate::gateway::Gateway;
use crate::gateway_class::GatewayClass;
use crate::kind::{Kind, ObjectKey};
use crate::metadata::Metadata;
use crate::network_policy::NetworkPolicy;
use crate::node::Node;
use crate::peer_authentication::PeerAuthentication;
use crate::pod::Pod;
use crate::service::Service;
use crate::service_entry::ServiceEntry;
use crate::workload_entry::WorkloadEntry;
use crate::workload_group::WorkloadGroup;
use crate::{emit, parse};

mod merge;
mod timestamp;

pub use timestamp::timestamp;

/// One object. Its types and its text always say the same: it is changed only by making another.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Name, labels and the like.
    pub metadata: Metadata,
    /// What it says, by kind.
    pub spec: Spec,
    raw: Value,
    is_placeholder: bool,
}

/// What an object says, by kind. For kinds with a status that the mesh reads, that is inside.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    /// Nothing beside its metadata.
    Namespace,
    /// Nothing beside its metadata.
    ServiceAccount,
    /// A pod.
    Pod(Pod),
    /// A number of like pods.
    Deployment(Deployment),
    /// A name and addresses for pods.
    Service(Service),
    /// A machine.
    Node(Node),
    /// Endpoints of a Service.
    EndpointSlice(EndpointSlice),
    /// Who must speak mTLS.
    PeerAuthentication(PeerAuthentication),
    /// Who may talk to whom.
    AuthorizationPolicy(AuthorizationPolicy),
    /// Which packets pass.
    NetworkPolicy(NetworkPolicy),
    /// A proxy in front of others.
    Gateway(Gateway),
    /// What holds for all Gateways of a class.
    GatewayClass(GatewayClass),
    /// Names and addresses for what Kubernetes has no Service for.
    ServiceEntry(ServiceEntry),
    /// An endpoint that is no pod.
    WorkloadEntry(WorkloadEntry),
    /// What WorkloadEntries that register themselves are made from.
    WorkloadGroup(WorkloadGroup),
    /// Texts by key.
    ConfigMap(ConfigMap),
}

impl Spec {
    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Spec::Namespace => Kind::Namespace,
            Spec::ServiceAccount => Kind::ServiceAccount,
            Spec::Pod(_) => Kind::Pod,
            Spec::Deployment(_) => Kind::Deployment,
            Spec::Service(_) => Kind::Service,
            Spec::Node(_) => Kind::Node,
            Spec::EndpointSlice(_) => Kind::EndpointSlice,
            Spec::PeerAuthentication(_) => Kind::PeerAuthentication,
            Spec::AuthorizationPolicy(_) => Kind::AuthorizationPolicy,
            Spec::NetworkPolicy(_) => Kind::NetworkPolicy,
            Spec::Gateway(_) => Kind::Gateway,
            Spec::GatewayClass(_) => Kind::GatewayClass,
            Spec::ServiceEntry(_) => Kind::ServiceEntry,
            Spec::WorkloadEntry(_) => Kind::WorkloadEntry,
            Spec::WorkloadGroup(_) => Kind::WorkloadGroup,
            Spec::ConfigMap(_) => Kind::ConfigMap,
        }
    }
}

impl Object {
    /// Reads an object from JSON, with the same rules as [`crate::parse`].
    ///
    /// # Errors
    /// Everything that is wrong with it, by field.
    pub fn from_value(value: Value) -> Result<Object, ParseErrors> {
        let Some(tree) = Tree::from_value(&value) else {
            return Err(refused(format!("nested deeper than {MAX_DEPTH} levels")));
        };
        parse::object("", &tree).map_err(ParseErrors)
    }

    /// Reads an object that is stored already from JSON, with the rules of [`crate::parse_stored`].
    ///
    /// # Errors
    /// As [`crate::parse_stored`].
    pub fn from_stored_value(value: &Value, key: &ObjectKey) -> Result<Object, ParseErrors> {
        let Some(tree) = Tree::from_value(value) else {
            return Err(refused(format!("nested deeper than {MAX_DEPTH} levels")));
        };
        parse::stored("", &tree, key)
    }

    /// The policy that stands for a stored one of which nothing can be read: it refuses everything that the one
    /// there could have refused. `None` for other kinds, which close nothing.
    pub fn closed(key: &ObjectKey, problem: &str) -> Option<Object> {
        let unreadable = vec![problem.to_owned()];
        let (spec, written) = match key.kind {
            Kind::AuthorizationPolicy => (
                Spec::AuthorizationPolicy(AuthorizationPolicy::closed(unreadable)),
                json!({"action": "DENY", "rules": [{}]}),
            ),
            Kind::PeerAuthentication => (
                Spec::PeerAuthentication(PeerAuthentication::closed(unreadable)),
                json!({"mtls": {"mode": "STRICT"}}),
            ),
            _ => return None,
        };
        let metadata = Metadata {
            name: key.name.clone(),
            namespace: key.namespace.clone(),
            ..Metadata::default()
        };
        let raw = json!({
            "apiVersion": key.kind.api_versions().first(),
            "kind": key.kind.as_str(),
            "metadata": {"name": key.name, "namespace": key.namespace},
            "spec": written,
        });
        let mut object = Object::new(metadata, spec, raw);
        object.is_placeholder = true;
        Some(object)
    }

    /// Whether this only stands for what is stored ([`Object::closed`]): it must not be written back.
    pub fn is_placeholder(&self) -> bool {
        self.is_placeholder
    }

    /// Why a stored policy cannot be read as a whole; empty for all others.
    pub fn unreadable(&self) -> &[String] {
        match &self.spec {
            Spec::AuthorizationPolicy(policy) => &policy.unreadable,
            Spec::PeerAuthentication(policy) => &policy.unreadable,
            _ => &[],
        }
    }

    pub(crate) fn new(metadata: Metadata, spec: Spec, raw: Value) -> Object {
        Object {
            metadata,
            spec,
            raw,
            is_placeholder: false,
        }
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.spec.kind()
    }

    /// Which object it is.
    pub fn key(&self) -> ObjectKey {
        self.metadata.key(self.kind())
    }

    /// The object without what was written: only its types are left, and [`Object::raw`] is null. Text is most of the
    /// memory of a pod, and who only reads types needs none. Such an object cannot be written back, merged or patched.
    #[must_use]
    pub fn without_text(mut self) -> Object {
        self.raw = Value::Null;
        self
    }

    /// The whole document as written, with the namespace filled in; null after [`Object::without_text`].
    pub fn raw(&self) -> &Value {
        &self.raw
    }

    /// The `status` as written.
    pub fn status(&self) -> Option<&Value> {
        self.raw.get("status").filter(|status| !status.is_null())
    }

    /// The object as YAML, which [`crate::parse`] reads back to the same object.
    pub fn to_yaml(&self) -> String {
        emit::yaml(&self.raw)
    }

    /// The content of a Pod.
    pub fn as_pod(&self) -> Option<&Pod> {
        if let Spec::Pod(pod) = &self.spec {
            Some(pod)
        } else {
            None
        }
    }

    /// The content of a Service.
    pub fn as_service(&self) -> Option<&Service> {
        if let Spec::Service(service) = &self.spec {
            Some(service)
        } else {
            None
        }
    }

    /// The content of a Deployment.
    pub fn as_deployment(&self) -> Option<&Deployment> {
        if let Spec::Deployment(deployment) = &self.spec {
            Some(deployment)
        } else {
            None
        }
    }

    /// The content of a Node.
    pub fn as_node(&self) -> Option<&Node> {
        if let Spec::Node(node) = &self.spec {
            Some(node)
        } else {
            None
        }
    }

    /// The content of a Gateway.
    pub fn as_gateway(&self) -> Option<&Gateway> {
        if let Spec::Gateway(gateway) = &self.spec {
            Some(gateway)
        } else {
            None
        }
    }

    /// The content of a ServiceEntry.
    pub fn as_service_entry(&self) -> Option<&ServiceEntry> {
        if let Spec::ServiceEntry(entry) = &self.spec {
            Some(entry)
        } else {
            None
        }
    }

    /// The content of a WorkloadEntry.
    pub fn as_workload_entry(&self) -> Option<&WorkloadEntry> {
        if let Spec::WorkloadEntry(entry) = &self.spec {
            Some(entry)
        } else {
            None
        }
    }

    /// What applying this manifest makes of the object that is there: the spec, labels and annotations that this one
    /// gives, and of the old one its status, uid, times and revision, the annotations that the system wrote, and what
    /// the system assigned where this one leaves it open (a Service's addresses, a Pod's or Node's placement).
    #[must_use]
    pub fn merged_over(&self, old: &Object) -> Object {
        merge::over(self, old)
    }

    /// The object changed by a JSON merge patch (RFC 7396): mappings are merged, null removes, everything else
    /// replaces.
    ///
    /// # Errors
    /// When the result is not a good object, or another one than before.
    pub fn patched(&self, patch: &Value) -> Result<Object, ParseErrors> {
        let mut raw = self.raw.clone();
        merge::patch(&mut raw, patch, 0);
        let patched = Object::from_value(raw)?;
        if patched.key() != self.key() {
            return Err(refused(format!(
                "a patch cannot make {} out of {}",
                patched.key(),
                self.key()
            )));
        }
        Ok(patched)
    }

    /// The object with its status merged with this one.
    ///
    /// # Errors
    /// When the status is not good for the kind.
    pub fn with_status(&self, status: Value) -> Result<Object, ParseErrors> {
        self.patched(&Value::Object(Map::from_iter([("status".to_owned(), status)])))
    }

    /// The object with one annotation set or, with `None`, removed.
    ///
    /// # Errors
    /// When the key is no good.
    pub fn with_annotation(&self, key: &str, value: Option<&str>) -> Result<Object, ParseErrors> {
        let change = BTreeMap::from([(key.to_owned(), value.map(str::to_owned))]);
        self.with_metadata_map("annotations", &change)
    }

    /// The object with labels set or, with `None`, removed.
    ///
    /// # Errors
    /// When a key or value is no good.
    pub fn with_labels(&self, changes: &BTreeMap<String, Option<String>>) -> Result<Object, ParseErrors> {
        self.with_metadata_map("labels", changes)
    }

    /// The object with the store's revision.
    #[must_use]
    pub fn with_resource_version(&self, revision: u64) -> Object {
        let mut object = self.clone();
        object.metadata.resource_version = revision;
        object.set_metadata("resourceVersion", revision.to_string());
        object
    }

    /// The object with a uid.
    #[must_use]
    pub fn with_uid(&self, uid: &str) -> Object {
        let mut object = self.clone();
        object.metadata.uid = uid.to_owned();
        object.set_metadata("uid", uid.to_owned());
        object
    }

    /// The object with the time when it was stored first, in whole seconds.
    #[must_use]
    pub fn with_creation_timestamp(&self, time: SystemTime) -> Object {
        let mut object = self.clone();
        object.metadata.creation_timestamp = Some(timestamp(time));
        object.set_metadata("creationTimestamp", timestamp(time));
        object
    }

    /// The object with the time since when it is being deleted, in whole seconds.
    #[must_use]
    pub fn with_deletion_timestamp(&self, time: SystemTime) -> Object {
        let mut object = self.clone();
        object.metadata.deletion_timestamp = Some(timestamp(time));
        object.set_metadata("deletionTimestamp", timestamp(time));
        object
    }

    fn with_metadata_map(
        &self,
        name: &str,
        changes: &BTreeMap<String, Option<String>>,
    ) -> Result<Object, ParseErrors> {
        let value = |value: &Option<String>| value.clone().map_or(Value::Null, Value::String);
        let entries: Map<_, _> = changes
            .iter()
            .map(|(key, text)| (key.clone(), value(text)))
            .collect();
        let metadata = Map::from_iter([(name.to_owned(), Value::Object(entries))]);
        self.patched(&Value::Object(Map::from_iter([(
            "metadata".to_owned(),
            Value::Object(metadata),
        )])))
    }

    fn set_metadata(&mut self, name: &str, value: String) {
        // An object without a mapping here could not have been read.
        if let Some(Value::Object(metadata)) = self.raw.get_mut("metadata") {
            metadata.insert(name.to_owned(), Value::String(value));
        }
    }
}

fn refused(problem: String) -> ParseErrors {
    ParseErrors(vec![ParseError {
        file: String::new(),
        line: None,
        object: None,
        field: String::new(),
        problem,
    }])
}

#[cfg(test)]
mod tests;
