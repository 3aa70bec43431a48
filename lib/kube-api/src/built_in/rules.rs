//! What must be there, and what values there are (API reference of each kind). Only what readers count on: a server has
//! many more rules.

use serde_json::Value;

use crate::kinds::Resource;

/// The rules that an object breaks, each with its field and what a server says.
pub(crate) fn broken(resource: &Resource, object: &Value) -> Vec<(String, String)> {
    let mut found = Found::default();
    let spec = &object["spec"];
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pod(spec, "spec", &mut found),
        ("", "Service") => service(spec, &mut found),
        ("apps", "Deployment") => deployment(spec, &mut found),
        ("discovery.k8s.io", "EndpointSlice") => endpoint_slice(object, &mut found),
        ("networking.k8s.io", "NetworkPolicy") => {
            for (at, kind) in items(&spec["policyTypes"]).iter().enumerate() {
                found.choice(kind, &format!("spec.policyTypes[{at}]"), &["Ingress", "Egress"]);
            }
        }
        _ => {}
    }
    found.0
}

#[derive(Default)]
struct Found(Vec<(String, String)>);

impl Found {
    fn add(&mut self, field: &str, problem: impl Into<String>) {
        self.0.push((field.to_owned(), problem.into()));
    }

    /// A text or list must be there and not be empty.
    fn require(&mut self, value: &Value, field: &str) -> bool {
        let there = match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => true,
        };
        if !there {
            self.add(field, "Required value");
        }
        there
    }

    fn choice(&mut self, value: &Value, field: &str, choices: &[&str]) {
        if value
            .as_str()
            .is_some_and(|word| !word.is_empty() && !choices.contains(&word))
        {
            let choices: Vec<String> = choices.iter().map(|choice| format!("{choice:?}")).collect();
            self.add(
                field,
                format!(
                    "Unsupported value: {value}: supported values: {}",
                    choices.join(", ")
                ),
            );
        }
    }

    fn port(&mut self, value: &Value, field: &str) {
        if value
            .as_i64()
            .is_some_and(|number| !(1..=65535).contains(&number))
        {
            self.add(
                field,
                format!("Invalid value: {value}: must be between 1 and 65535, inclusive"),
            );
        }
    }
}

fn pod(spec: &Value, field: &str, found: &mut Found) {
    if !found.require(&spec["containers"], &format!("{field}.containers")) {
        return;
    }
    for list in ["containers", "initContainers"] {
        for (at, container) in items(&spec[list]).iter().enumerate() {
            let field = format!("{field}.{list}[{at}]");
            found.require(&container["name"], &format!("{field}.name"));
            found.require(&container["image"], &format!("{field}.image"));
            for (at, port) in items(&container["ports"]).iter().enumerate() {
                let field = format!("{field}.ports[{at}]");
                if found.require(&port["containerPort"], &format!("{field}.containerPort")) {
                    found.port(&port["containerPort"], &format!("{field}.containerPort"));
                }
                found.choice(&port["protocol"], &format!("{field}.protocol"), &PROTOCOLS);
            }
        }
    }
}

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

fn service(spec: &Value, found: &mut Found) {
    let kinds = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
    found.choice(&spec["type"], "spec.type", &kinds);
    if spec["type"] == "ExternalName" {
        found.require(&spec["externalName"], "spec.externalName");
    } else if spec["clusterIP"] != "None" {
        found.require(&spec["ports"], "spec.ports");
    }
    let ports = items(&spec["ports"]);
    for (at, port) in ports.iter().enumerate() {
        let field = |name: &str| format!("spec.ports[{at}].{name}");
        if found.require(&port["port"], &field("port")) {
            found.port(&port["port"], &field("port"));
        }
        found.port(&port["targetPort"], &field("targetPort"));
        found.choice(&port["protocol"], &field("protocol"), &PROTOCOLS);
        if ports.len() > 1 {
            found.require(&port["name"], &field("name"));
        }
    }
}

fn deployment(spec: &Value, found: &mut Found) {
    let selector = &spec["selector"];
    if selector.is_null() {
        found.add("spec.selector", "Required value");
    }
    let labels = &spec["template"]["metadata"]["labels"];
    let mut wanted = selector["matchLabels"].as_object().into_iter().flatten();
    if wanted.any(|(name, value)| labels.get(name) != Some(value)) {
        found.add(
            "spec.template.metadata.labels",
            format!("Invalid value: {labels}: `selector` does not match template `labels`"),
        );
    }
    if spec["replicas"].as_i64().is_some_and(|number| number < 0) {
        let problem = format!(
            "Invalid value: {}: must be greater than or equal to 0",
            spec["replicas"]
        );
        found.add("spec.replicas", problem);
    }
    pod(&spec["template"]["spec"], "spec.template.spec", found);
}

fn endpoint_slice(object: &Value, found: &mut Found) {
    if found.require(&object["addressType"], "addressType") {
        found.choice(&object["addressType"], "addressType", &["IPv4", "IPv6", "FQDN"]);
    }
    for (at, endpoint) in items(&object["endpoints"]).iter().enumerate() {
        found.require(&endpoint["addresses"], &format!("endpoints[{at}].addresses"));
    }
    for (at, port) in items(&object["ports"]).iter().enumerate() {
        found.port(&port["port"], &format!("ports[{at}].port"));
        found.choice(&port["protocol"], &format!("ports[{at}].protocol"), &PROTOCOLS);
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
