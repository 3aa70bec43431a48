use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tests::run;

use crate::daemon::Daemon;
use crate::keys::Keys;
use crate::stand_ins;

/// The reader's programs.
#[derive(Clone, Debug)]
pub struct Programs {
    api_server: PathBuf,
    etcd: PathBuf,
    /// Keeps namespaces, accounts and workloads, where it is named.
    controller_manager: Option<PathBuf>,
    version: (u32, u32),
}

impl Programs {
    /// Those that `KUBE_APISERVER`, `ETCD` and `KUBE_CONTROLLER_MANAGER` name. None, said on standard output, where the
    /// first two do not.
    #[track_caller]
    pub fn named() -> Option<Programs> {
        let named = |name: &str| {
            std::env::var_os(name)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        };
        let (Some(api_server), Some(etcd)) = (named("KUBE_APISERVER"), named("ETCD")) else {
            println!("skipped: KUBE_APISERVER and ETCD name no programs (scripts/kubernetes)");
            return None;
        };
        let mut command = Command::new(&api_server);
        command.arg("--version");
        let said = run(command, None, Duration::from_secs(30)).expect_code(0).stdout;
        let version = version(&said).unwrap_or_else(|| panic!("no version in {said:?}"));
        Some(Programs {
            api_server,
            etcd,
            controller_manager: named("KUBE_CONTROLLER_MANAGER"),
            version,
        })
    }

    /// Major and minor version of the API server.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// Whether controllers are there.
    pub fn has_controllers(&self) -> bool {
        self.controller_manager.is_some()
    }
}

/// Of `Kubernetes v1.20.2`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut parts = said.trim().split_once('v')?.1.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The programs as they are run: where they listen, and what they are told.
pub(crate) struct Server {
    programs: Programs,
    folder: PathBuf,
    keys: Keys,
    etcd_ports: (u16, u16),
    port: u16,
}

impl Server {
    pub(crate) fn prepare(programs: Programs, folder: &Path) -> Server {
        let keys = Keys::make(folder);
        // Who asked for what, and what they were answered; the rest is not ours.
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "rules": [
                { "level": "Metadata", "userGroups": ["system:serviceaccounts:istio-system"] },
                { "level": "None" },
            ],
        });
        keys.write("audit-policy.json", &policy.to_string());
        Server {
            programs,
            folder: folder.to_owned(),
            keys,
            etcd_ports: (free_port(), free_port()),
            port: free_port(),
        }
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn version(&self) -> (u32, u32) {
        self.programs.version
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_ports.0)
    }

    /// etcd, with what it held before.
    pub(crate) fn start_etcd(&self) -> Daemon {
        let (clients, peers) = (self.etcd_url(), format!("http://127.0.0.1:{}", self.etcd_ports.1));
        let arguments = [
            "--name=test".to_owned(),
            format!("--data-dir={}", self.folder.join("etcd").display()),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=test={peers}"),
        ];
        Daemon::start(&self.programs.etcd, arguments, &[], &self.folder.join("etcd.log"))
    }

    pub(crate) fn start_api_server(&self) -> Daemon {
        let path = |name: &str| self.keys.path(name).display().to_string();
        let mut arguments = vec![
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            // It would write its own address, which must be none of loopback.
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--secure-port={}", self.port),
            format!("--etcd-servers={}", self.etcd_url()),
            format!("--cert-dir={}", self.folder.join("certificates").display()),
            format!("--tls-cert-file={}", path("server.pem")),
            format!("--tls-private-key-file={}", path("server-key.pem")),
            format!("--token-auth-file={}", path("administrators.csv")),
            format!("--service-account-key-file={}", path("tokens.pem")),
            format!("--service-account-signing-key-file={}", path("tokens-key.pem")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--allow-privileged=true".to_owned(),
            format!("--audit-policy-file={}", path("audit-policy.json")),
            format!("--audit-log-path={}", path("audit.log")),
            // As balancers of API servers want it: now and then a client is told to come anew.
            "--goaway-chance=0.01".to_owned(),
        ];
        arguments.extend(stand_ins::flags(self.programs.version));
        Daemon::start(
            &self.programs.api_server,
            arguments,
            &[],
            &self.folder.join("kube-apiserver.log"),
        )
    }

    /// Controllers, where their program is named.
    pub(crate) fn start_controllers(&self, kubeconfig: &Path) -> Option<Daemon> {
        let program = self.programs.controller_manager.as_ref()?;
        let arguments = [
            format!("--kubeconfig={}", kubeconfig.display()),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", free_port()),
            format!("--cert-dir={}", self.folder.join("certificates").display()),
            "--leader-elect=false".to_owned(),
            "--controllers=namespace,serviceaccount,deployment,replicaset,daemonset,garbagecollector,disruption"
                .to_owned(),
        ];
        let log = self.folder.join("kube-controller-manager.log");
        Some(Daemon::start(program, arguments, &[], &log))
    }
}

/// A port that nobody has now.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
    listener.local_addr().expect("its address").port()
}
