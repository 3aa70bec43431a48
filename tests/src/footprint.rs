use std::fs;
use std::path::Path;

use serde_json::Value;
use sys::process::{is_alive, start_time};

use crate::lab::{Lab, ROOT};

/// What a running lab has on the machine, to see later whether all of it is gone.
pub struct Footprint {
    lab: String,
    /// Its processes by id and start time, with their command lines.
    processes: Vec<(u32, u64, String)>,
}

impl Footprint {
    /// Of a lab that is up: the supervisor and whoever lives in one of its namespaces.
    pub fn of(lab: &Lab) -> Footprint {
        let status = lab.status();
        let mut namespaces = Vec::new();
        collect_namespaces(&status, &mut namespaces);
        let inodes: Vec<_> = namespaces.iter().filter_map(|path| inode(path)).collect();
        assert_eq!(
            inodes.len(),
            namespaces.len(),
            "namespaces that cannot be looked at: {namespaces:?}"
        );
        let supervisor = status["supervisor_pid"].as_u64();
        let of_lab = |pid: u32| {
            supervisor == Some(u64::from(pid))
                || inode(&format!("/proc/{pid}/ns/net")).is_some_and(|own| inodes.contains(&own))
        };
        let processes = processes().filter(|pid| of_lab(*pid));
        let known = processes
            .filter_map(|pid| Some((pid, start_time(pid).ok()?, command_line(pid))))
            .collect();
        Footprint {
            lab: lab.name().to_owned(),
            processes: known,
        }
    }

    /// What is left of it.
    pub fn remains(&self) -> Vec<String> {
        let alive = self
            .processes
            .iter()
            .filter(|(pid, begun, _)| is_alive(*pid, *begun));
        let mut found: Vec<String> = alive
            .map(|(pid, _, line)| format!("process {pid}: {line}"))
            .collect();
        found.extend(leftovers(&self.lab));
        found
    }
}

/// What can be seen to belong to a lab of this name, up or not: its directory and what lies beside it, mounts below it,
/// processes that name it in their arguments.
pub fn leftovers(lab: &str) -> Vec<String> {
    let directory = format!("{ROOT}/{lab}");
    let mut found = Vec::new();
    for entry in fs::read_dir(ROOT).into_iter().flatten().flatten() {
        let path = entry.path();
        if path == Path::new(&directory) || path.file_stem().is_some_and(|stem| stem == lab) {
            found.push(path.display().to_string());
        }
    }
    let below = format!("{directory}/");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&below))
            .map(|line| format!("mount {line}")),
    );
    found.extend(processes_naming(&below));
    found
}

/// Processes with this text in their arguments.
pub fn processes_naming(text: &str) -> Vec<String> {
    let lines = processes()
        .map(|pid| (pid, command_line(pid)))
        .filter(|(_, line)| line.contains(text));
    lines
        .map(|(pid, line)| format!("process {pid}: {line}"))
        .collect()
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn inode(path: &str) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path)
        .ok()
        .map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Every field that names a namespace.
fn collect_namespaces(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_str() {
                    Some(path) if name.ends_with("network_namespace") || name == "fabric_namespace" => {
                        into.push(path.to_owned());
                    }
                    _ => collect_namespaces(field, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_namespaces(item, into)),
        _ => {}
    }
}
