use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{Change, FaultRequest, LabError, LabOptions, Layout, Manifests, Programs};
use objects::{Kind, ObjectKey};

use crate::args::{Capture, Fault, LabCommand, Objects, Output, Up};
use crate::print;

use self::effects::Effects;

mod effects;
mod tables;

/// How often a followed log is looked at.
const FOLLOW: Duration = Duration::from_millis(100);

/// Runs one of the lab's commands; its exit code.
pub(crate) async fn run(command: LabCommand) -> u8 {
    match dispatch(command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ztctl lab: {error}");
            error.exit_code()
        }
    }
}

async fn dispatch(command: LabCommand) -> Result<u8, LabError> {
    match command {
        LabCommand::Up(up) => bring_up(up).await?,
        LabCommand::Apply { name, filename, wait } => {
            let layout = Layout::new(&name.name)?;
            let manifests = Manifests::read(&filename)?;
            warn(&manifests.warnings());
            let effects = Effects::before(&layout).await;
            lab::apply(&layout, &manifests, wait.timeout, show).await?;
            warn(
                &effects
                    .warnings(&layout, &manifests.keys().into_iter().collect())
                    .await,
            );
        }
        LabCommand::Delete {
            name,
            objects,
            filename,
            namespace,
            wait,
        } => {
            let layout = Layout::new(&name.name)?;
            let keys = if filename.is_empty() {
                objects
                    .iter()
                    .map(|text| key(text, &namespace))
                    .collect::<Result<Vec<_>, _>>()?
            } else {
                Manifests::read(&filename)?.keys()
            };
            let effects = Effects::before(&layout).await;
            lab::delete(&layout, &keys, wait.timeout, show).await?;
            warn(&effects.warnings(&layout, &BTreeSet::new()).await);
        }
        LabCommand::Label {
            name,
            object,
            labels,
            namespace,
            wait,
        } => {
            let layout = Layout::new(&name.name)?;
            let key = key(&object, &namespace)?;
            let labels: BTreeMap<_, _> = labels.into_iter().collect();
            let written = |changes: &[Change], warnings: Vec<String>| {
                warn(&warnings);
                show(changes);
            };
            let effects = Effects::before(&layout).await;
            lab::label(&layout, &key, &labels, wait.timeout, written).await?;
            warn(&effects.warnings(&layout, &BTreeSet::from([key])).await);
        }
        LabCommand::Get {
            name,
            kind,
            object,
            namespace,
            all_namespaces,
            output,
        } => {
            let layout = Layout::new(&name.name)?;
            let (kind, object) = match kind.split_once('/') {
                Some((kind, name)) => (kind.to_owned(), Some(name.to_owned())),
                None => (kind, object),
            };
            let kind: Kind = kind
                .parse()
                .map_err(|error| LabError::Usage(format!("{error}")))?;
            let namespace = (!all_namespaces).then_some(namespace.as_str());
            let found = lab::find(&layout, kind, namespace, object.as_deref()).await?;
            tables::objects(kind, &found, all_namespaces, object.is_some(), output);
        }
        LabCommand::Exec {
            name,
            namespace,
            pod,
            command,
        } => {
            return lab::exec(&Layout::new(&name.name)?, &namespace, &pod, &command).await;
        }
        LabCommand::Logs {
            name,
            what,
            namespace,
            follow,
        } => {
            let files = lab::log_files(&Layout::new(&name.name)?, &what, &namespace)?;
            logs(&files, follow).await?;
        }
        LabCommand::Status { name, output } => {
            let status = lab::status(&Layout::new(&name.name)?).await?;
            match output {
                Output::Table => tables::status(&status),
                Output::Json | Output::Yaml => print::pretty_json(&status),
            }
        }
        LabCommand::Restart {
            name,
            target,
            kill,
            surge,
        } => {
            let how = match (kill, surge) {
                (true, _) => lab::RestartHow::Kill,
                (false, true) => lab::RestartHow::Surge,
                (false, false) => lab::RestartHow::Stop,
            };
            lab::restart(&Layout::new(&name.name)?, &target, how).await?;
            eprintln!("{target} is back");
        }
        LabCommand::Kubeconfig { name } => {
            let path = lab::kubeconfig(&Layout::new(&name.name)?).await?;
            print::bytes(format!("{}\n", path.display()).as_bytes());
        }
        LabCommand::Fault(fault) => break_link(fault).await?,
        LabCommand::Down { name } => match lab::down(&Layout::new(&name.name)?).await? {
            lab::Ended::Down => eprintln!("the lab `{}` is down", name.name),
            lab::Ended::Unknown => {
                let up = Layout::names();
                let others = if up.is_empty() {
                    String::new()
                } else {
                    format!(" (there is: {})", up.join(", "))
                };
                eprintln!("there is no lab `{}`{others}; nothing to do", name.name);
            }
        },
        LabCommand::Supervise { name: _ } => lab::supervise().await?,
    }
    Ok(0)
}

async fn bring_up(up: Up) -> Result<(), LabError> {
    if up.capture == Capture::Ebpf {
        return Err(LabError::Usage(
            "--capture ebpf comes later; iptables is what works today".to_owned(),
        ));
    }
    let ztctl = std::env::current_exe()
        .map_err(|error| LabError::Failed(format!("cannot find this program's own path: {error}")))?;
    let manifests = Manifests::read(&up.manifests)?;
    warn(&manifests.warnings());
    let mut node_proxy_env: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (node, variable) in up.node_proxy_env {
        let pair = crate::values::assignment(&variable)
            .map_err(|error| LabError::Usage(format!("--node-proxy-env {node}={variable}: {error}")))?;
        node_proxy_env.entry(node).or_default().push(pair);
    }
    let mut node_proxies = BTreeMap::new();
    for (node, path) in up.node_proxy {
        // The proxy is started from another directory.
        let path = std::path::absolute(&path)
            .map_err(|error| LabError::Usage(format!("--node-proxy {node}={path}: {error}")))?;
        node_proxies.insert(node, path);
    }
    let name = up.name.name.clone();
    let options = LabOptions {
        name: up.name.name,
        nodes: up.nodes,
        ipv6: up.ipv6,
        mesh: !up.without_mesh,
        kubernetes: up.control_plane == Objects::Kubernetes,
        node_proxies,
        node_proxy_env,
        timeout: up.timeout,
        programs: Programs::find(&ztctl, !up.without_mesh)?,
        objects: Vec::new(),
    };
    let step = |text: &str| eprintln!("{text}");
    lab::up(options, &manifests, up.foreground, &step).await?;
    if !up.foreground {
        let name = if name == "lab" {
            String::new()
        } else {
            format!(" --name {name}")
        };
        eprintln!("the lab is up: see `ztctl lab status{name}`, end it with `ztctl lab down{name}`");
    }
    Ok(())
}

async fn break_link(fault: Fault) -> Result<(), LabError> {
    let Fault {
        loss, delay, rate, ..
    } = fault;
    let any = loss.is_some() || delay.is_some() || rate.is_some() || fault.partition;
    if !fault.clear && !any {
        return Err(LabError::Usage(
            "say which fault: --loss 5%, --delay 20ms, --rate 100mbit, --partition, or --clear".to_owned(),
        ));
    }
    let request = FaultRequest {
        link: fault.link.clone(),
        loss,
        delay,
        rate,
        partition: fault.partition,
        clear: fault.clear,
    };
    lab::fault(&Layout::new(&fault.name.name)?, request).await
}

/// `KIND/NAME`.
fn key(text: &str, namespace: &str) -> Result<ObjectKey, LabError> {
    let wrong = || {
        LabError::Usage(format!(
            "`{text}` is not of the form KIND/NAME, such as pod/client"
        ))
    };
    let (kind, name) = text.split_once('/').ok_or_else(wrong)?;
    let kind: Kind = kind
        .parse()
        .map_err(|error| LabError::Usage(format!("{error}")))?;
    if name.is_empty() {
        return Err(wrong());
    }
    Ok(ObjectKey::new(
        kind,
        if kind.is_namespaced() { namespace } else { "" },
        name,
    ))
}

fn show(changes: &[Change]) {
    for change in changes {
        eprintln!("{} {}", change.object, change.what);
    }
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}

/// Prints logs, and with `follow` what is added to them, until Ctrl-C.
async fn logs(files: &[PathBuf], follow: bool) -> Result<(), LabError> {
    let mut positions = vec![0; files.len()];
    loop {
        for (file, position) in files.iter().zip(&mut positions) {
            *position = print_from(file, *position)?;
        }
        if !follow {
            return Ok(());
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = tokio::time::sleep(FOLLOW) => {}
        }
    }
}

/// Prints a file from a position on; the position of its end.
fn print_from(path: &Path, position: u64) -> Result<u64, LabError> {
    let failed = |error: std::io::Error| LabError::Failed(format!("{}: {error}", path.display()));
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    // It was emptied since.
    let begin = if length < position { 0 } else { position };
    file.seek(SeekFrom::Start(begin)).map_err(failed)?;
    let mut chunk = [0; 64 * 1024];
    let mut end = begin;
    loop {
        let count = file.read(&mut chunk).map_err(failed)?;
        if count == 0 {
            return Ok(end);
        }
        print::bytes(&chunk[..count]);
        end += count as u64;
    }
}
