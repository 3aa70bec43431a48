//! The columns of `kubectl get`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One column of a table.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// `string`, `integer`, `date`.
    pub(crate) form: String,
    /// 0 for what is always shown, more for `-o wide`.
    pub(crate) priority: u64,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// The simple form of a JSON path: `.spec.mtls.mode`, with `.conditions[?(@.type=="X")].status`.
    Path(String),
    /// Something reckoned.
    Cell(fn(&Value) -> Value),
}

impl Column {
    pub(crate) fn definition(&self) -> Value {
        let form = if self.form == "date" {
            "string"
        } else {
            self.form.as_str()
        };
        json!({
            "name": self.name,
            "type": form,
            "format": if self.name == "Name" { "name" } else { "" },
            "description": "",
            "priority": self.priority,
        })
    }

    pub(crate) fn cell(&self, object: &Value, now: OffsetDateTime) -> Value {
        let found = match &self.source {
            Source::Path(path) => at(object, path).cloned().unwrap_or(Value::Null),
            Source::Cell(cell) => cell(object),
        };
        match found {
            Value::String(text) if self.form == "date" => json!(age(&text, now)),
            Value::Array(_) | Value::Object(_) => json!(found.to_string()),
            other => other,
        }
    }
}

/// The columns of a built-in resource.
pub(crate) fn of_built_in(plural: &str) -> Vec<Column> {
    let mut columns = vec![path("Name", ".metadata.name", 0)];
    match plural {
        "pods" => columns.extend([
            cell("Ready", pod_ready, 0),
            cell("Status", pod_status, 0),
            cell("Restarts", pod_restarts, 0),
            created(),
            path("IP", ".status.podIP", 1),
            path("Node", ".spec.nodeName", 1),
        ]),
        "services" => columns.extend([
            path("Type", ".spec.type", 0),
            cell("Cluster-IP", |object| or_none(&object["spec"]["clusterIP"]), 0),
            cell("External-IP", |_| json!("<none>"), 0),
            cell("Port(s)", service_ports, 0),
            created(),
            cell("Selector", |object| pairs(&object["spec"]["selector"]), 1),
        ]),
        "namespaces" => columns.extend([path("Status", ".status.phase", 0), created()]),
        "nodes" => columns.extend([cell("Status", node_status, 0), created()]),
        "configmaps" => columns.extend([cell("Data", count_data, 0), created()]),
        "secrets" => columns.extend([path("Type", ".type", 0), cell("Data", count_data, 0), created()]),
        "deployments" => columns.extend([
            cell("Ready", deployment_ready, 0),
            cell(
                "Up-to-date",
                |object| number(&object["status"]["updatedReplicas"]),
                0,
            ),
            cell(
                "Available",
                |object| number(&object["status"]["availableReplicas"]),
                0,
            ),
            created(),
        ]),
        "endpointslices" => columns.extend([
            path("AddressType", ".addressType", 0),
            cell("Ports", slice_ports, 0),
            cell("Endpoints", slice_endpoints, 0),
            created(),
        ]),
        "leases" => columns.extend([path("Holder", ".spec.holderIdentity", 0), created()]),
        "networkpolicies" => columns.extend([
            cell(
                "Pod-Selector",
                |object| pairs(&object["spec"]["podSelector"]["matchLabels"]),
                0,
            ),
            created(),
        ]),
        "events" => {
            columns = vec![
                cell("Last Seen", event_last, 0).dated(),
                path("Type", ".type", 0),
                path("Reason", ".reason", 0),
                cell("Object", event_object, 0),
                path("Subobject", ".involvedObject.fieldPath", 1),
                cell("Source", event_source, 1),
                path("Message", ".message", 0),
                cell("First Seen", event_first, 1).dated(),
                cell("Count", event_count, 1),
                path("Name", ".metadata.name", 1),
            ]
        }
        "customresourcedefinitions" => columns.push(path("Created At", ".metadata.creationTimestamp", 0)),
        _ => columns.push(created()),
    }
    columns
}

/// The columns that a definition gives in `additionalPrinterColumns`.
pub(crate) fn of_definition(given: Option<&Value>) -> Vec<Column> {
    let mut columns = vec![path("Name", ".metadata.name", 0)];
    match given.and_then(Value::as_array) {
        Some(given) => columns.extend(given.iter().filter_map(|column| {
            Some(Column {
                name: column["name"].as_str()?.to_owned(),
                form: column["type"].as_str().unwrap_or("string").to_owned(),
                priority: column["priority"].as_u64().unwrap_or(0),
                source: Source::Path(column["jsonPath"].as_str()?.to_owned()),
            })
        })),
        None => columns.push(created()),
    }
    columns
}

impl Column {
    fn dated(mut self) -> Column {
        self.form = "date".to_owned();
        self
    }
}

fn path(name: &str, path: &str, priority: u64) -> Column {
    Column {
        name: name.to_owned(),
        form: "string".to_owned(),
        priority,
        source: Source::Path(path.to_owned()),
    }
}

fn cell(name: &str, cell: fn(&Value) -> Value, priority: u64) -> Column {
    Column {
        source: Source::Cell(cell),
        ..path(name, "", priority)
    }
}

fn created() -> Column {
    path("Age", ".metadata.creationTimestamp", 0).dated()
}

/// Follows a simple JSON path.
fn at<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    let mut value = object;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[?(@.") {
            let (test, after) = after.split_once(")]")?;
            let (field, wanted) = test.split_once("==")?;
            let wanted = wanted.trim().trim_matches(['"', '\'']);
            value = value
                .as_array()?
                .iter()
                .find(|item| item[field.trim()] == wanted)?;
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix('[') {
            let (index, after): (&str, &str) = after.split_once(']')?;
            // Of several, the first.
            let index = if index == "*" { 0 } else { index.parse().ok()? };
            value = value.get(index)?;
            rest = after;
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        value = value.get(&rest[..end])?;
        rest = &rest[end..];
    }
    Some(value)
}

/// How long ago, as kubectl writes it.
fn age(text: &str, now: OffsetDateTime) -> String {
    let Ok(then) = OffsetDateTime::parse(text, &Rfc3339) else {
        return "<invalid>".to_owned();
    };
    let seconds = (now - then).whole_seconds().max(0);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn or_none(value: &Value) -> Value {
    match value {
        Value::Null => json!("<none>"),
        other => other.clone(),
    }
}

fn number(value: &Value) -> Value {
    json!(value.as_i64().unwrap_or(0))
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn joined(parts: Vec<String>) -> Value {
    if parts.is_empty() {
        json!("<none>")
    } else {
        json!(parts.join(","))
    }
}

fn pairs(labels: &Value) -> Value {
    let pairs = labels.as_object().into_iter().flatten();
    joined(
        pairs
            .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
            .collect(),
    )
}

fn pod_ready(object: &Value) -> Value {
    let statuses = items(&object["status"]["containerStatuses"]);
    let ready = statuses.iter().filter(|status| status["ready"] == true).count();
    json!(format!("{ready}/{}", items(&object["spec"]["containers"]).len()))
}

fn pod_status(object: &Value) -> Value {
    if object["metadata"].get("deletionTimestamp").is_some() {
        return json!("Terminating");
    }
    match object["status"]["reason"].as_str() {
        Some(reason) => json!(reason),
        None => object["status"]["phase"].clone(),
    }
}

fn pod_restarts(object: &Value) -> Value {
    let statuses = items(&object["status"]["containerStatuses"]);
    json!(
        statuses
            .iter()
            .filter_map(|status| status["restartCount"].as_u64())
            .sum::<u64>()
            .to_string()
    )
}

fn service_ports(object: &Value) -> Value {
    let ports = items(&object["spec"]["ports"]).iter();
    joined(
        ports
            .map(|port| format!("{}/{}", port["port"], port["protocol"].as_str().unwrap_or("TCP")))
            .collect(),
    )
}

fn node_status(object: &Value) -> Value {
    let conditions = items(&object["status"]["conditions"]);
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    let word = match ready.map(|condition| &condition["status"]) {
        Some(status) if status == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = object["spec"]["unschedulable"] == true;
    json!(if cordoned {
        format!("{word},SchedulingDisabled")
    } else {
        word.to_owned()
    })
}

fn count_data(object: &Value) -> Value {
    let count = |field: &str| object[field].as_object().map_or(0, serde_json::Map::len);
    json!((count("data") + count("binaryData")).to_string())
}

fn deployment_ready(object: &Value) -> Value {
    let ready = object["status"]["readyReplicas"].as_u64().unwrap_or(0);
    json!(format!(
        "{ready}/{}",
        object["spec"]["replicas"].as_u64().unwrap_or(1)
    ))
}

fn slice_ports(object: &Value) -> Value {
    joined(
        items(&object["ports"])
            .iter()
            .map(|port| port["port"].to_string())
            .collect(),
    )
}

fn slice_endpoints(object: &Value) -> Value {
    let endpoints = items(&object["endpoints"]).iter();
    let addresses = endpoints.flat_map(|endpoint| items(&endpoint["addresses"]));
    joined(addresses.filter_map(Value::as_str).map(str::to_owned).collect())
}

/// The times of an Event, as clients of either group write them.
fn event_first(object: &Value) -> Value {
    first_text(&[&object["firstTimestamp"], &object["eventTime"]])
}

fn event_last(object: &Value) -> Value {
    let series = &object["series"]["lastObservedTime"];
    first_text(&[series, &object["lastTimestamp"], &event_first(object)])
}

fn event_count(object: &Value) -> Value {
    let counts = [&object["series"]["count"], &object["count"]];
    let count = counts.into_iter().find_map(Value::as_i64);
    json!(count.filter(|count| *count > 0).unwrap_or(1))
}

fn event_source(object: &Value) -> Value {
    let component = first_text(&[&object["source"]["component"], &object["reportingComponent"]]);
    let host = first_text(&[&object["source"]["host"], &object["reportingInstance"]]);
    let parts = [component, host];
    let parts = parts.iter().filter_map(Value::as_str);
    json!(parts.collect::<Vec<_>>().join(", "))
}

fn first_text(values: &[&Value]) -> Value {
    let found = values.iter().find(|value| value.is_string());
    found.map_or(Value::Null, |value| (*value).clone())
}

fn event_object(object: &Value) -> Value {
    let about = &object["involvedObject"];
    let text = |field: &str| about[field].as_str().unwrap_or_default();
    json!(format!("{}/{}", text("kind").to_ascii_lowercase(), text("name")))
}
