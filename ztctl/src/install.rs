//! `ztctl install` and `uninstall`: the user's own `helm`, with the chart that is embedded here.

mod command;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::process::Command;

use command::CommandLine;

/// Exit codes: 0 good, 1 the answer is no, 3 could not find out.
const GOOD: u8 = 0;
const NO: u8 = 1;
const UNKNOWN: u8 = 3;

/// Who is in the mesh by label; as long as somebody is, the mesh must not go.
const MEMBERS: &str = "istio.io/dataplane-mode=ambient";
/// Which pods are captured, as kubectl's -o: node agents write the annotation, and take it away before they let go of a pod.
const CAPTURED: &str = r#"go-template={{range .items}}{{$pod := .metadata}}{{with .metadata.annotations}}{{if index . "ambient.istio.io/redirection"}}{{$pod.namespace}}/{{$pod.name}} {{end}}{{end}}{{end}}"#;
/// How long node agents have for that.
const LONGEST_DEPARTURE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(500);

/// What install and uninstall have in common.
#[derive(Args)]
pub(crate) struct Release {
    /// The namespace that the mesh is installed in
    #[arg(short, long, default_value = "istio-system")]
    namespace: String,
    /// The name of Helm's release
    #[arg(long, default_value = charts::NAME)]
    release: String,
    /// The kubeconfig file, as Helm and kubectl take it
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context in it
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Only print what would be run
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub(crate) struct Install {
    #[command(flatten)]
    release: Release,
    /// A file of values; may be given several times, later ones win
    #[arg(short = 'f', long, value_name = "FILE")]
    values: Vec<PathBuf>,
    /// A value, such as mesh.trustDomain=example.org; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Return when every pod of the mesh is ready
    #[arg(long)]
    wait: bool,
    /// Where to keep the chart, in place of a temporary directory
    #[arg(long, value_name = "DIR")]
    chart_directory: Option<PathBuf>,
    /// Further arguments for `helm upgrade --install`, after --
    #[arg(last = true)]
    helm: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Uninstall {
    #[command(flatten)]
    release: Release,
    /// Also while namespaces or pods are in the mesh, or when that cannot be found out. Their traffic then stays
    /// redirected to a proxy that is gone, until the pods are started anew
    #[arg(long)]
    force: bool,
}

/// Installs the chart or brings a release up to date.
pub(crate) async fn install(arguments: Install) -> u8 {
    let helm = find("helm");
    // Somebody has to be able to run the printed command later.
    let keep = arguments.release.dry_run || helm.is_none();
    let chart = match Chart::write(arguments.chart_directory.as_deref(), keep) {
        Ok(chart) => chart,
        Err(error) => {
            eprintln!(
                "ztctl: the chart cannot be written: {error}; name another place with --chart-directory"
            );
            return UNKNOWN;
        }
    };
    let command = arguments.command(&chart.path);
    if arguments.release.dry_run {
        println!("{command}");
        return GOOD;
    }
    let Some(helm) = helm else {
        return no_helm(&command, Some(&chart.path));
    };
    run(&helm, &command).await
}

/// Removes a release.
pub(crate) async fn uninstall(arguments: Uninstall) -> u8 {
    let release = &arguments.release;
    let command =
        release
            .helm(["uninstall"])
            .arg(&release.release)
            .args(["--namespace", &release.namespace, "--wait"]);
    if release.dry_run {
        println!("{command}");
        return GOOD;
    }
    let Some(helm) = find("helm") else {
        let code = no_helm(&command, None);
        if !arguments.force {
            eprintln!(
                "Before that, take out of the mesh what is in it: traffic would stay redirected to a proxy that is gone:"
            );
            advise();
        }
        return code;
    };
    if !arguments.force {
        match release.emptied().await {
            Ok(()) => {}
            Err(Remaining::Members(members)) => {
                eprintln!(
                    "ztctl: still in the mesh, so their traffic would be redirected to a proxy that is gone: {}",
                    members.join(", ")
                );
                eprintln!("Take them out first:");
                advise();
                return NO;
            }
            Err(Remaining::Leaving(pods)) => {
                eprintln!(
                    "ztctl: no label keeps these pods in the mesh, but after {} s their node agents have not let go of them: {}. \
                     See the logs of the node agents of their nodes (kubectl logs -n {} -l app.kubernetes.io/name=ztunnel-node-agent); \
                     with --force their traffic may stay redirected to a proxy that is gone",
                    LONGEST_DEPARTURE.as_secs(),
                    pods.join(", "),
                    release.namespace
                );
                return NO;
            }
            Err(Remaining::Unknown(problem)) => {
                eprintln!(
                    "ztctl: cannot find out whether anything is still in the mesh: {problem}. Take namespaces and pods out \
                     of it (kubectl label namespaces -l {MEMBERS} istio.io/dataplane-mode-), then use --force"
                );
                return UNKNOWN;
            }
        }
    }
    run(&helm, &command).await
}

impl Install {
    fn command(&self, chart: &Path) -> CommandLine {
        let release = &self.release;
        let mut command = release
            .helm(["upgrade", "--install"])
            .arg(&release.release)
            .arg(chart)
            .args(["--namespace", &release.namespace, "--create-namespace"]);
        for file in &self.values {
            command = command.arg("--values").arg(file);
        }
        for value in &self.set {
            command = command.arg("--set").arg(value);
        }
        if self.wait {
            command = command.arg("--wait");
        }
        command.args(&self.helm)
    }
}

impl Release {
    fn helm<const N: usize>(&self, verb: [&str; N]) -> CommandLine {
        let mut command = CommandLine::new("helm").args(verb);
        if let Some(file) = &self.kubeconfig {
            command = command.arg("--kubeconfig").arg(file);
        }
        if let Some(context) = &self.context {
            command = command.arg("--kube-context").arg(context);
        }
        command
    }

    /// Waits for pods that are on their way out; whatever else is in the mesh is an error.
    async fn emptied(&self) -> Result<(), Remaining> {
        let members = self.members().await?;
        if !members.is_empty() {
            return Err(Remaining::Members(members));
        }
        let deadline = Instant::now() + LONGEST_DEPARTURE;
        let mut told = false;
        loop {
            let leaving = self
                .kubectl(&["pods", "--all-namespaces", "-o", CAPTURED])
                .await?;
            if leaving.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Remaining::Leaving(leaving));
            }
            if !told {
                eprintln!(
                    "waiting for the node agents to take out of the mesh: {}",
                    leaving.join(", ")
                );
                told = true;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The namespaces and pods that are in the mesh by label.
    async fn members(&self) -> Result<Vec<String>, Remaining> {
        let mut found = self.kubectl(&["namespaces", "-l", MEMBERS, "-o", "name"]).await?;
        let pods = ["pods", "--all-namespaces", "-l", MEMBERS, "-o", "name"];
        found.extend(self.kubectl(&pods).await?);
        Ok(found)
    }

    /// The words that `kubectl get` answers.
    async fn kubectl(&self, what: &[&str]) -> Result<Vec<String>, Remaining> {
        let kubectl = find("kubectl")
            .ok_or_else(|| Remaining::Unknown("there is no kubectl on the PATH".to_owned()))?;
        let mut command = Command::new(&kubectl);
        command.arg("get").args(what);
        if let Some(file) = &self.kubeconfig {
            command.arg("--kubeconfig").arg(file);
        }
        if let Some(context) = &self.context {
            command.arg("--context").arg(context);
        }
        let output = command.stdin(Stdio::null()).output().await;
        let output = output.map_err(|error| Remaining::Unknown(format!("kubectl cannot be run: {error}")))?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(Remaining::Unknown(format!(
                "kubectl get {} failed: {}",
                what[0],
                complaint.trim()
            )));
        }
        let names = String::from_utf8_lossy(&output.stdout);
        Ok(names.split_whitespace().map(str::to_owned).collect())
    }
}

/// Why a mesh cannot go yet.
enum Remaining {
    /// These are in it by label.
    Members(Vec<String>),
    /// These pods have no label and are captured all the same.
    Leaving(Vec<String>),
    /// It cannot be found out.
    Unknown(String),
}

/// The chart on disk.
struct Chart {
    path: PathBuf,
    /// Removed when this goes.
    _temporary: Option<tempfile::TempDir>,
}

impl Chart {
    fn write(directory: Option<&Path>, keep: bool) -> std::io::Result<Chart> {
        if let Some(directory) = directory {
            charts::write_to(directory)?;
            let path = directory.join(charts::NAME);
            return Ok(Chart {
                path,
                _temporary: None,
            });
        }
        let mut temporary = tempfile::Builder::new().prefix("ztctl-chart-").tempdir()?;
        charts::write_to(temporary.path())?;
        temporary.disable_cleanup(keep);
        Ok(Chart {
            path: temporary.path().join(charts::NAME),
            _temporary: Some(temporary),
        })
    }
}

async fn run(helm: &Path, command: &CommandLine) -> u8 {
    eprintln!("{command}");
    let status = Command::new(helm).args(command.arguments()).status().await;
    match status {
        Ok(status) if status.success() => GOOD,
        // What is wrong, Helm has said.
        Ok(_) => NO,
        Err(error) => {
            eprintln!("ztctl: {} cannot be run: {error}", helm.display());
            UNKNOWN
        }
    }
}

fn no_helm(command: &CommandLine, chart: Option<&Path>) -> u8 {
    eprintln!("ztctl: there is no helm on the PATH, so nothing was done; where there is one, run this:");
    if let Some(chart) = chart {
        eprintln!("(the chart is in {})", chart.display());
    }
    println!("{command}");
    UNKNOWN
}

/// How everything is taken out of the mesh.
fn advise() {
    eprintln!("  kubectl label namespaces -l {MEMBERS} istio.io/dataplane-mode-");
    eprintln!("  kubectl label pods -A -l {MEMBERS} istio.io/dataplane-mode-");
}

/// A program in PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
