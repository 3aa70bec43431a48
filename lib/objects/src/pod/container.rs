//! The containers of a pod.

use crate::metadata::own;
use crate::read::Field;
use crate::syntax::{self, PROTOCOLS, Protocol};

/// How many containers a pod may have.
const MAX_CONTAINERS: usize = 256;

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

/// The containers of a list; their names must differ.
pub(super) fn containers(field: &Field<'_>) -> Vec<Container> {
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
