//! What a container runs, and what its status says. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use objects::{Container, EnvSource, FieldRef, Object, Pod, Protocol};
use serde_json::{Value, json};

use super::runner::{Run, RunState};
use crate::app::DEFAULT_PORT;
use crate::plan;
use crate::status::ContainerView;
use crate::zone::DOMAIN;

/// Where programs are looked for, after the directory of ztctl itself.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// References like `$(NAME)` are expanded at most to this size.
const EXPANDED_MAX: usize = 1024 * 1024;

/// The program and its arguments: the container's own, or the test application, whatever the image.
pub(crate) fn command(container: &Container, ztctl: &Path) -> (String, Vec<String>) {
    match container.command.split_first() {
        Some((program, first)) => (
            program.clone(),
            first.iter().chain(&container.args).cloned().collect(),
        ),
        None => {
            let mut args = vec!["app".to_owned(), "serve".to_owned()];
            for port in ports_of_app(container) {
                args.push("--port".to_owned());
                args.push(port.to_string());
            }
            (ztctl.display().to_string(), args)
        }
    }
}

/// The ports that the test application listens on; none for a container that runs something else.
pub(crate) fn ports_of_app(container: &Container) -> Vec<u16> {
    if !container.command.is_empty() {
        return Vec::new();
    }
    let ports: Vec<u16> = container
        .ports
        .iter()
        .filter(|port| port.protocol == Protocol::Tcp)
        .map(|port| port.port)
        .collect();
    if ports.is_empty() {
        vec![DEFAULT_PORT]
    } else {
        ports
    }
}

/// The PATH of every pod: it finds ztctl.
pub(crate) fn search_path(ztctl: &Path) -> String {
    match ztctl.parent() {
        Some(directory) => format!("{}:{PATH}", directory.display()),
        None => PATH.to_owned(),
    }
}

/// The program that a container means by this word, if there is one: a path as it is, a name from the PATH.
pub(crate) fn find(program: &str, ztctl: &Path) -> Option<PathBuf> {
    let runnable =
        |path: &Path| nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok() && path.is_file();
    if program.contains('/') {
        let path = PathBuf::from(program);
        return runnable(&path).then_some(path);
    }
    search_path(ztctl)
        .split(':')
        .map(|directory| Path::new(directory).join(program))
        .find(|path| runnable(path))
}

/// The environment of a container: the lab's own names first, then the manifest's, where `$(NAME)` stands for a name
/// before it.
pub(crate) fn environment(
    object: &Object,
    pod: &Pod,
    container: &Container,
    addresses: &[IpAddr],
    ztctl: &Path,
) -> Vec<(String, String)> {
    let metadata = &object.metadata;
    let address = addresses.first().map(ToString::to_string).unwrap_or_default();
    let mut env = vec![
        ("PATH".to_owned(), search_path(ztctl)),
        ("HOME".to_owned(), "/root".to_owned()),
        ("HOSTNAME".to_owned(), hostname(object)),
        ("POD_NAME".to_owned(), metadata.name.clone()),
        ("POD_NAMESPACE".to_owned(), metadata.namespace.clone()),
        ("POD_IP".to_owned(), address.clone()),
        ("NODE_NAME".to_owned(), pod.spec.node_name.clone()),
        (
            "SERVICE_ACCOUNT".to_owned(),
            pod.spec.service_account_name.clone(),
        ),
    ];
    for variable in &container.env {
        let value = match &variable.source {
            EnvSource::Value(text) => expand(text, &env),
            EnvSource::Field(field) => match field {
                FieldRef::Name => metadata.name.clone(),
                FieldRef::Namespace => metadata.namespace.clone(),
                FieldRef::NodeName => pod.spec.node_name.clone(),
                FieldRef::PodIp => address.clone(),
                FieldRef::ServiceAccountName => pod.spec.service_account_name.clone(),
            },
            EnvSource::Other => continue,
        };
        env.retain(|(name, _)| *name != variable.name);
        env.push((variable.name.clone(), value));
    }
    env
}

/// Arguments with `$(NAME)` expanded.
pub(crate) fn expand_all(args: &[String], env: &[(String, String)]) -> Vec<String> {
    args.iter().map(|text| expand(text, env)).collect()
}

/// Kubernetes' rule: `$(NAME)` is the variable's value, `$$` is one `$`, and what names nothing stays as it is.
fn expand(text: &str, env: &[(String, String)]) -> String {
    let known: BTreeMap<&str, &str> = env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let reference = rest.strip_prefix("$(").and_then(|inner| inner.split_once(')'));
        match reference {
            Some((name, after)) if known.contains_key(name) && out.len() < EXPANDED_MAX => {
                out.push_str(known[name]);
                rest = after;
            }
            _ => {
                let doubled = rest.starts_with("$$");
                out.push('$');
                rest = &rest[if doubled { 2 } else { 1 }..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// A pod's host name.
pub(crate) fn hostname(object: &Object) -> String {
    let given = object.raw().pointer("/spec/hostname").and_then(Value::as_str);
    given.unwrap_or(&object.metadata.name).to_owned()
}

/// A pod's `/etc/resolv.conf`.
pub(crate) fn resolv_conf(namespace: &str) -> String {
    format!(
        "nameserver {}\nsearch {namespace}.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}\noptions ndots:5\n",
        plan::DNS_ADDRESS
    )
}

/// A pod's `/etc/hosts`.
pub(crate) fn hosts(hostname: &str, addresses: &[IpAddr]) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    for address in addresses {
        text.push_str(&format!("{address} {hostname}\n"));
    }
    text
}

/// A container's state in one word, as kubectl shows it.
pub(crate) fn state_word(run: &Run) -> String {
    match &run.state {
        RunState::Running { .. } => "Running".to_owned(),
        RunState::Waiting { last: None } => "ContainerCreating".to_owned(),
        RunState::Waiting { last: Some(ended) } if ended.code == 127 => "RunContainerError".to_owned(),
        RunState::Waiting { last: Some(_) } => "CrashLoopBackOff".to_owned(),
        RunState::Ended(ended) if ended.code == 0 => "Completed".to_owned(),
        RunState::Ended(_) => "Error".to_owned(),
    }
}

/// A pod's status, without addresses.
pub(crate) fn status(containers: &[ContainerView], runs: &[Run], phase: &str, ready: bool) -> Value {
    let statuses: Vec<Value> = containers
        .iter()
        .zip(runs)
        .map(|(container, run)| {
            let state = match &run.state {
                RunState::Running { .. } => json!({ "running": {} }),
                RunState::Waiting { last } => json!({ "waiting": {
                    "reason": container.state,
                    "message": last.as_ref().map_or("", |ended| ended.text.as_str()),
                } }),
                RunState::Ended(ended) => json!({ "terminated": {
                    "exitCode": ended.code,
                    "reason": container.state,
                    "message": ended.text,
                } }),
            };
            json!({
                "name": container.name,
                "ready": container.ready,
                "restartCount": container.restarts,
                "state": state,
            })
        })
        .collect();
    let word = |truth: bool| if truth { "True" } else { "False" };
    json!({
        "phase": phase,
        "containerStatuses": statuses,
        "conditions": [
            { "type": "PodScheduled", "status": "True" },
            { "type": "Initialized", "status": word(!runs.is_empty()) },
            { "type": "ContainersReady", "status": word(ready) },
            { "type": "Ready", "status": word(ready) },
        ],
    })
}

#[cfg(test)]
mod tests;
