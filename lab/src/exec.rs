use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use crate::control;
use crate::error::LabError;
use crate::layout::Layout;
use crate::status::LabStatus;

/// Runs a program in a pod's namespaces, with its environment, and our input and output. Gives its exit code, or 128
/// and the number of the signal that ended it.
///
/// `nsenter` (util-linux, part of every Debian) does the entering: it joins network and mount namespace of the pod's
/// first running process.
pub async fn exec(layout: &Layout, namespace: &str, pod: &str, command: &[String]) -> Result<u8, LabError> {
    let Some((program, args)) = command.split_first() else {
        return Err(LabError::Usage("name a command after `--`".to_owned()));
    };
    let status = control::status(layout).await?;
    let pid = process_of(&status, namespace, pod)?;
    let environ = std::fs::read(format!("/proc/{pid}/environ")).map_err(LabError::system(format!(
        "reading the environment of the pod {namespace}/{pod}"
    )))?;
    let environment = environ.split(|byte| *byte == 0).filter_map(|entry| {
        let text = std::str::from_utf8(entry).ok()?;
        text.split_once('=')
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    });
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/proc/{pid}/ns/net"))
        .arg(format!("--mount=/proc/{pid}/ns/mnt"))
        .arg("--")
        .arg(program)
        .args(args)
        .env_clear()
        .envs(environment)
        .stdin(Stdio::inherit())
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit());
    if let Ok(term) = std::env::var("TERM") {
        command.env("TERM", term);
    }
    let ended = tokio::task::spawn_blocking(move || command.status()).await;
    let ended = ended.map_err(crate::error::other("waiting for the command"))?;
    let ended = ended.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            LabError::Usage("the program `nsenter` is missing: install the package `util-linux`".to_owned())
        }
        _ => LabError::system("starting nsenter")(error),
    })?;
    let code = ended.code().unwrap_or_else(|| 128 + ended.signal().unwrap_or(0));
    Ok(u8::try_from(code).unwrap_or(255))
}

fn process_of(status: &LabStatus, namespace: &str, name: &str) -> Result<u32, LabError> {
    let named = name.strip_prefix("pod/").unwrap_or(name);
    let pod = status
        .pods
        .iter()
        .find(|pod| pod.namespace == namespace && pod.name == named)
        .ok_or_else(|| {
            let there: Vec<&str> = status
                .pods
                .iter()
                .filter(|pod| pod.namespace == namespace)
                .map(|pod| pod.name.as_str())
                .collect();
            let there = if there.is_empty() {
                "none".to_owned()
            } else {
                there.join(", ")
            };
            LabError::Usage(format!(
                "there is no pod {namespace}/{named}; the pods of {namespace} are: {there}"
            ))
        })?;
    pod.containers
        .iter()
        .find_map(|container| container.pid)
        .ok_or_else(|| {
            LabError::Failed(format!(
                "no process of the pod {namespace}/{named} runs at present ({})",
                pod.phase
            ))
        })
}
