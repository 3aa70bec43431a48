//! Kubernetes and Istio objects as users write them: strict reading with file, line and field in every error,
//! label selectors, and the rule that says which pods are to be enrolled.
//!
//! Every field that Kubernetes knows is accepted where Kubernetes has it. The fields that the mesh or the lab use
//! have types here; the others are kept as written in [`Object::raw`]. A field that nobody knows is an error.
//!
//! What this crate deliberately is not: it does no I/O and watches nothing (`object-store` and `control-plane` do),
//! it does not turn objects into workloads and policies (`compile` does), and it is no general Kubernetes client:
//! only the kinds of [`Kind`] are read.

mod authorization_policy;
mod config_map;
mod deployment;
mod document;
mod emit;
mod endpoint_slice;
/// Which pods are to be enrolled in the mesh.
pub mod enrolment;
mod error;
mod foreign;
mod gateway;
mod gateway_class;
mod kind;
mod lenient;
mod mesh_config;
mod metadata;
mod network_policy;
mod node;
mod object;
mod parse;
mod peer_authentication;
mod pod;
mod pod_maker;
mod read;
mod revision;
mod scalar;
/// Label selectors.
pub mod selector;
mod service;
mod service_entry;
/// Strict reading of other YAML.
pub mod strict;
mod syntax;
mod warnings;
mod workload_entry;
mod workload_group;

pub use authorization_policy::{
    Action, AuthorizationPolicy, Condition, DRY_RUN_ANNOTATION, Matches, Operation, Rule, ServiceAccountRef,
    Source, TargetRef, Test,
};
pub use config_map::ConfigMap;
pub use deployment::{Deployment, PodTemplate};
pub use document::{MAX_DEPTH, MAX_DOCUMENTS, MAX_NODES, MAX_TEXT_BYTES};
pub use endpoint_slice::{AddressType, Endpoint, EndpointPort, EndpointSlice, TargetReference};
pub use error::{ParseError, ParseErrors, Warning};
pub use foreign::{ForeignPolicy, foreign_policy};
pub use gateway::{
    AllowedNamespaces, EAST_WEST_CLASS, GATEWAY_NAME_LABEL, Gateway, GatewayAddress, HBONE_PROTOCOL,
    Listener, NETWORK_LABEL, NO_WAYPOINT, REMOTE_CLASS, USE_WAYPOINT_LABEL, USE_WAYPOINT_NAMESPACE_LABEL,
    WAYPOINT_CLASS, WAYPOINT_FOR_LABEL,
};
pub use gateway_class::GatewayClass;
pub use kind::{Kind, ObjectKey, UnknownKind};
pub use lenient::{ReadObject, Reading, UnreadObject, parse_leniently};
pub use mesh_config::{MeshConfig, ServiceScope, ServiceScopes};
pub use metadata::{Metadata, Owner};
pub use network_policy::{NetworkPeer, NetworkPolicy, NetworkPort, NetworkRule};
pub use node::{Node, NodeAddress};
pub use object::{Object, Spec, timestamp};
pub use parse::{MAX_ERRORS, parse, parse_stored};
pub use peer_authentication::{MtlsMode, PeerAuthentication};
pub use pod::{
    Container, ContainerPort, EnvSource, EnvVar, FieldRef, Phase, Pod, PodCondition, PodSpec, PodStatus,
    RestartPolicy,
};
pub use pod_maker::{PodMaker, pod_maker, pod_of_template};
pub use revision::is_of_revision;
pub use selector::Selector;
pub use service::{
    IpFamily, IpFamilyPolicy, Service, ServicePort, ServiceType, TargetPort, TrafficDistribution,
    TrafficPolicy,
};
pub use service_entry::{
    AUTO_ALLOCATE_LABEL, AllocatedAddress, Location, Resolution, ServiceEntry, ServiceEntryPort,
};
pub use syntax::{IpBlock, Protocol};
pub use warnings::warnings;
pub use workload_entry::{AUTO_REGISTRATION_GROUP_ANNOTATION, EntryAddress, WorkloadEntry};
pub use workload_group::WorkloadGroup;

/// The label on a Namespace or Pod that says whether it takes part in the mesh: `ambient` or `none`.
pub const DATAPLANE_MODE_LABEL: &str = "istio.io/dataplane-mode";
/// The value of [`DATAPLANE_MODE_LABEL`] that enrols.
pub const DATAPLANE_MODE_AMBIENT: &str = "ambient";
/// The value of [`DATAPLANE_MODE_LABEL`] that opts out.
pub const DATAPLANE_MODE_NONE: &str = "none";
/// The annotation by which the node agent tells how far a pod's redirection is.
pub const REDIRECTION_ANNOTATION: &str = "ambient.istio.io/redirection";
/// The value of [`REDIRECTION_ANNOTATION`] while the rules are in and the node proxy has not acknowledged the pod.
pub const REDIRECTION_PENDING: &str = "pending";
/// The value of [`REDIRECTION_ANNOTATION`] once peers may tunnel to the pod.
pub const REDIRECTION_ENABLED: &str = "enabled";
/// The annotation that a sidecar injector leaves on the pods that it changed.
pub const SIDECAR_STATUS_ANNOTATION: &str = "sidecar.istio.io/status";
/// Annotations whose key begins so are written by the system; applying a manifest leaves them alone.
pub const SYSTEM_ANNOTATION_PREFIX: &str = "ambient.istio.io/";
/// The label by which an EndpointSlice names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// The annotation that says how a Service's traffic is spread, where the field is not used.
pub const TRAFFIC_DISTRIBUTION_ANNOTATION: &str = "networking.istio.io/traffic-distribution";
/// The namespace of namespaced objects that name none.
pub const DEFAULT_NAMESPACE: &str = "default";
