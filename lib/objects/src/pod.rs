//! Pods.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::metadata::{own, time};
use crate::read::{Field, Fields};
use crate::syntax::{self, PROTOCOLS, Protocol};

/// How many containers a pod may have.
const MAX_CONTAINERS: usize = 256;

/// A pod: what it runs and how it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// What it runs.
    pub spec: PodSpec,
    /// How it is.
    pub status: PodStatus,
}

/// What a pod runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSpec {
    /// The containers; at least one.
    pub containers: Vec<Container>,
    /// The containers that run before the others, or beside them when they restart always.
    pub init_containers: Vec<Container>,
    /// The service account; `default` when the manifest names none.
    pub service_account_name: String,
    /// The node it runs on; empty until it is placed.
    pub node_name: String,
    /// Labels that its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Whether it uses the node's own network.
    pub host_network: bool,
    /// What happens when a process ends.
    pub restart_policy: RestartPolicy,
}

/// One container of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    /// The name, unique in the pod.
    pub name: String,
    /// The image.
    pub image: String,
    /// The program with its first arguments; empty: the image's own.
    pub command: Vec<String>,
    /// Further arguments.
    pub args: Vec<String>,
    /// Environment variables, in order.
    pub env: Vec<EnvVar>,
    /// The ports it says it listens on.
    pub ports: Vec<ContainerPort>,
    /// An init container with `restartPolicy: Always` runs beside the others.
    pub restart_always: bool,
}

/// One environment variable.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvVar {
    /// The name.
    pub name: String,
    /// Where the value comes from.
    pub source: EnvSource,
}

/// Where the value of an environment variable comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum EnvSource {
    /// Written in the manifest.
    Value(String),
    /// A field of the pod.
    Field(FieldRef),
    /// Something that is kept and not understood, such as a Secret.
    Other,
}

/// A field of the pod, as environment variables may name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldRef {
    /// `metadata.name`.
    Name,
    /// `metadata.namespace`.
    Namespace,
    /// `spec.nodeName`.
    NodeName,
    /// `status.podIP`.
    PodIp,
    /// `spec.serviceAccountName`.
    ServiceAccountName,
}

/// A port that a container listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// The name; empty when it has none.
    pub name: String,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// What happens when a process of a pod ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// It is started again.
    #[default]
    Always,
    /// It is started again unless it ended well.
    OnFailure,
    /// Nothing.
    Never,
}

/// How a pod is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodStatus {
    /// Where it stands in its life.
    pub phase: Phase,
    /// Its addresses, the primary one first: `podIPs`, or `podIP` where that is missing.
    pub pod_ips: Vec<IpAddr>,
    /// Its conditions.
    pub conditions: Vec<PodCondition>,
    /// When its node took it on (RFC 3339, UTC).
    pub start_time: Option<String>,
}

/// Where a pod stands in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not everything of it runs yet.
    #[default]
    Pending,
    /// It runs.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended badly.
    Failed,
    /// Its node is silent.
    Unknown,
}

/// One condition of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCondition {
    /// The type, such as `Ready`.
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
}

impl Pod {
    /// Whether the condition Ready is True.
    pub fn is_ready(&self) -> bool {
        self.status
            .conditions
            .iter()
            .any(|condition| condition.kind == "Ready" && condition.status == "True")
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Pod {
        let spec = fields
            .require("spec", "a Pod needs a spec")
            .and_then(|field| PodSpec::read(&field));
        let status = fields.get("status").and_then(|field| PodStatus::read(&field));
        Pod {
            spec: spec.unwrap_or_default(),
            status: status.unwrap_or_default(),
        }
    }
}

impl Phase {
    /// Whether the pod runs nothing any more and never will.
    pub fn is_terminal(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }
}

impl PodSpec {
    pub(crate) fn read(field: &Field<'_>) -> Option<PodSpec> {
        const POLICIES: [(&str, RestartPolicy); 3] = [
            ("Always", RestartPolicy::Always),
            ("OnFailure", RestartPolicy::OnFailure),
            ("Never", RestartPolicy::Never),
        ];
        let mut fields = field.fields()?;
        let mut spec = PodSpec::default();
        if let Some(field) = fields.require("containers", "a Pod needs at least one container") {
            spec.containers = containers(&field);
            if field.items().is_empty() {
                field.error("a Pod needs at least one container");
            }
        }
        if let Some(field) = fields.get("initContainers") {
            spec.init_containers = containers(&field);
        }
        let older = fields.get("serviceAccount");
        let account = fields.get("serviceAccountName").or(older);
        spec.service_account_name = account
            .and_then(|field| field.checked(syntax::dns_subdomain))
            .map_or_else(|| "default".to_owned(), str::to_owned);
        if let Some(name) = fields
            .get("nodeName")
            .and_then(|field| field.checked(syntax::dns_subdomain))
        {
            spec.node_name = name.to_owned();
        }
        if let Some(field) = fields.get("nodeSelector") {
            spec.node_selector = field.text_map(syntax::label);
        }
        spec.host_network = fields
            .get("hostNetwork")
            .and_then(|field| field.boolean())
            .unwrap_or(false);
        spec.restart_policy = fields
            .get("restartPolicy")
            .and_then(|field| field.choice(&POLICIES))
            .unwrap_or_default();
        fields.keep(&KEPT_SPEC);
        fields.finish();
        Some(spec)
    }

    /// The containers that run for the pod's whole life: the ordinary ones, then restartable init containers.
    pub fn containers_and_sidecars(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().chain(
            self.init_containers
                .iter()
                .filter(|container| container.restart_always),
        )
    }
}

/// The other fields of a PodSpec.
const KEPT_SPEC: [&str; 35] = [
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "ephemeralContainers",
    "hostAliases",
    "hostIPC",
    "hostPID",
    "hostUsers",
    "hostname",
    "hostnameOverride",
    "imagePullSecrets",
    "os",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "resourceClaims",
    "resources",
    "runtimeClassName",
    "schedulerName",
    "schedulingGates",
    "schedulingGroup",
    "securityContext",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "subdomain",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
    "workloadRef",
];

fn containers(field: &Field<'_>) -> Vec<Container> {
    let mut found: Vec<Container> = Vec::new();
    for item in field.items_up_to(MAX_CONTAINERS) {
        let Some(container) = Container::read(&item) else {
            continue;
        };
        if found.iter().any(|other| other.name == container.name) {
            item.error(format!("there is already a container named {:?}", container.name));
        }
        found.push(container);
    }
    found
}

impl Container {
    fn read(field: &Field<'_>) -> Option<Container> {
        let mut fields = field.fields()?;
        let name = fields.require("name", "every container needs a name");
        let mut container = Container {
            name: name
                .and_then(|field| field.checked(syntax::dns_label))
                .unwrap_or_default()
                .to_owned(),
            image: own(fields.get("image")),
            ..Container::default()
        };
        if let Some(field) = fields.get("command") {
            container.command = field.texts();
        }
        if let Some(field) = fields.get("args") {
            container.args = field.texts();
        }
        if let Some(field) = fields.get("env") {
            container.env = field.items().iter().filter_map(EnvVar::read).collect();
        }
        if let Some(field) = fields.get("ports") {
            container.ports = field.items().iter().filter_map(ContainerPort::read).collect();
        }
        if let Some(policy) = fields.get("restartPolicy") {
            let policies = [("Always", true), ("OnFailure", false), ("Never", false)];
            container.restart_always = policy.choice(&policies).unwrap_or(false);
        }
        fields.keep(&KEPT_CONTAINER);
        fields.finish();
        Some(container)
    }
}

/// The other fields of a Container.
const KEPT_CONTAINER: [&str; 18] = [
    "envFrom",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "restartPolicyRules",
    "securityContext",
    "startupProbe",
    "stdin",
    "stdinOnce",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeDevices",
    "volumeMounts",
    "workingDir",
];

impl EnvVar {
    fn read(field: &Field<'_>) -> Option<EnvVar> {
        let mut fields = field.fields()?;
        let name = fields
            .require("name", "every variable needs a name")
            .and_then(|field| {
                field.checked(|text| {
                    let good = !text.is_empty()
                        && text
                            .bytes()
                            .all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=');
                    if good {
                        Ok(())
                    } else {
                        Err("is no name of a variable: printable ASCII without '='".to_owned())
                    }
                })
            });
        let value = fields.get("value");
        let from = fields.get("valueFrom");
        if let (Some(_), Some(from)) = (&value, &from) {
            from.error("a variable has either a value or a valueFrom, not both");
        }
        let value = value.and_then(|field| {
            field.checked(|text| {
                if text.contains('\0') {
                    Err("holds a zero byte, which no variable can".to_owned())
                } else {
                    Ok(())
                }
            })
        });
        let source = match (value, from) {
            (_, Some(from)) => env_source(&from),
            (value, None) => EnvSource::Value(value.unwrap_or_default().to_owned()),
        };
        fields.finish();
        Some(EnvVar {
            name: name?.to_owned(),
            source,
        })
    }
}

fn env_source(field: &Field<'_>) -> EnvSource {
    const FIELDS: [(&str, FieldRef); 5] = [
        ("metadata.name", FieldRef::Name),
        ("metadata.namespace", FieldRef::Namespace),
        ("spec.nodeName", FieldRef::NodeName),
        ("status.podIP", FieldRef::PodIp),
        ("spec.serviceAccountName", FieldRef::ServiceAccountName),
    ];
    // Fields that Kubernetes offers and we keep without understanding them.
    const KEPT: [&str; 3] = ["status.hostIP", "status.hostIPs", "status.podIPs"];
    let Some(mut fields) = field.fields() else {
        return EnvSource::Other;
    };
    let mut source = EnvSource::Other;
    if let Some(mut reference) = fields.get("fieldRef").as_ref().and_then(Field::fields) {
        reference.keep(&["apiVersion"]);
        if let Some(path) = reference.require("fieldPath", "such as metadata.name") {
            let text = path.tree().text().unwrap_or_default();
            let known = FIELDS.iter().find(|(name, _)| *name == text);
            source = match known {
                Some((_, field)) => EnvSource::Field(*field),
                None if KEPT.contains(&text) || text.starts_with("metadata.") => EnvSource::Other,
                None => path.choice(&FIELDS).map_or(EnvSource::Other, EnvSource::Field),
            };
        }
        reference.finish();
    }
    fields.keep(&[
        "resourceFieldRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fileKeyRef",
    ]);
    fields.finish();
    source
}

impl ContainerPort {
    fn read(field: &Field<'_>) -> Option<ContainerPort> {
        let mut fields = field.fields()?;
        let name = fields
            .get("name")
            .and_then(|field| field.checked(syntax::port_name))
            .unwrap_or_default();
        let port = fields
            .require("containerPort", "the port")
            .and_then(|field| field.port());
        let protocol = fields
            .get("protocol")
            .and_then(|field| field.choice(&PROTOCOLS))
            .unwrap_or_default();
        fields.keep(&["hostPort", "hostIP"]);
        fields.finish();
        Some(ContainerPort {
            name: name.to_owned(),
            port: port?,
            protocol,
        })
    }
}

impl PodStatus {
    fn read(field: &Field<'_>) -> Option<PodStatus> {
        const PHASES: [(&str, Phase); 5] = [
            ("Pending", Phase::Pending),
            ("Running", Phase::Running),
            ("Succeeded", Phase::Succeeded),
            ("Failed", Phase::Failed),
            ("Unknown", Phase::Unknown),
        ];
        let mut fields = field.fields()?;
        let phase = fields
            .get("phase")
            .and_then(|field| field.choice(&PHASES))
            .unwrap_or_default();
        let address = fields
            .get("podIP")
            .and_then(|field| field.parsed(syntax::address));
        let mut pod_ips = Vec::new();
        for item in fields
            .get("podIPs")
            .map(|field| field.items())
            .unwrap_or_default()
        {
            let Some(mut entry) = item.fields() else { continue };
            pod_ips.extend(
                entry
                    .require("ip", "the address")
                    .and_then(|field| field.parsed(syntax::address)),
            );
            entry.finish();
        }
        if pod_ips.is_empty() {
            pod_ips.extend(address);
        }
        let conditions = fields
            .get("conditions")
            .map(|field| field.items())
            .unwrap_or_default();
        let conditions = conditions.iter().filter_map(PodCondition::read).collect();
        let start_time = time(fields.get("startTime"));
        fields.keep(&[
            "allocatedResources",
            "containerStatuses",
            "ephemeralContainerStatuses",
            "extendedResourceClaimStatus",
            "hostIP",
            "hostIPs",
            "initContainerStatuses",
            "message",
            "nominatedNodeName",
            "observedGeneration",
            "qosClass",
            "reason",
            "resize",
            "resourceClaimStatuses",
            "resources",
        ]);
        fields.finish();
        Some(PodStatus {
            phase,
            pod_ips,
            conditions,
            start_time,
        })
    }
}

impl PodCondition {
    fn read(field: &Field<'_>) -> Option<PodCondition> {
        let mut fields = field.fields()?;
        let kind = own(fields.require("type", "the condition's type"));
        let status = own(fields.require("status", "True, False or Unknown"));
        fields.keep(&[
            "lastProbeTime",
            "lastTransitionTime",
            "message",
            "observedGeneration",
            "reason",
        ]);
        fields.finish();
        Some(PodCondition { kind, status })
    }
}
