//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::ca::CaCommand;
use crate::install::{Install, Uninstall};
use crate::policy::PolicyCommand;
use crate::values::{assignment, bytes, duration, label, percent, rate};

/// Look at, explain and try out the mesh.
#[derive(Parser)]
#[command(name = "ztctl", version, max_term_width = 100)]
pub(crate) struct Ztctl {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// A whole mesh on this machine: nodes and pods as network namespaces, plain Kubernetes YAML as input
    #[command(subcommand)]
    Lab(LabCommand),
    /// Questions about policy: who may talk to whom, and why
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// The roots of the CA: status and rotation
    #[command(subcommand)]
    Ca(CaCommand),
    /// The lab's test application and its clients
    #[command(subcommand)]
    App(AppCommand),
    /// Install the mesh into a cluster, or bring it up to date, with your helm and the chart that is in this program
    Install(Install),
    /// Remove the mesh from a cluster; the kinds of policies, and the policies, stay
    Uninstall(Uninstall),
}

#[derive(Args)]
pub(crate) struct Name {
    /// The lab's name; several labs may be up at once
    #[arg(long, default_value = "lab")]
    pub(crate) name: String,
}

#[derive(Args)]
pub(crate) struct Wait {
    /// How long it may take until the change is in force everywhere; exit code 3 and who is late after that
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Subcommand)]
pub(crate) enum LabCommand {
    /// Bring a lab up; returns when every pod and proxy is ready
    Up(Up),
    /// Create or update objects; returns when that is in force everywhere
    Apply {
        #[command(flatten)]
        name: Name,
        /// A manifest, a directory of manifests, or - for standard input
        #[arg(short, long = "filename", required = true)]
        filename: Vec<PathBuf>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Delete objects; returns when they are gone
    Delete {
        #[command(flatten)]
        name: Name,
        /// KIND/NAME, such as pod/client
        #[arg(required_unless_present = "filename")]
        objects: Vec<String>,
        /// Delete what these manifests define
        #[arg(short, long = "filename", conflicts_with = "objects")]
        filename: Vec<PathBuf>,
        #[arg(short, long, default_value = "default")]
        namespace: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Set or remove labels; returns when that is in force, enrolments included
    Label {
        #[command(flatten)]
        name: Name,
        /// KIND/NAME, such as namespace/hello
        object: String,
        /// KEY=VALUE sets, KEY- removes
        #[arg(required = true, value_parser = label)]
        labels: Vec<(String, Option<String>)>,
        #[arg(short, long, default_value = "default")]
        namespace: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Show objects
    Get {
        #[command(flatten)]
        name: Name,
        /// A kind, as kubectl knows it (pods, po, svc, ap, ...), or KIND/NAME
        kind: String,
        /// One object
        object: Option<String>,
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// Of all namespaces
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Run a command in a pod's namespaces; its exit code is ours
    Exec {
        #[command(flatten)]
        name: Name,
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// The pod
        pod: String,
        /// The command, after --
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Show logs
    Logs {
        #[command(flatten)]
        name: Name,
        /// POD, ztunnel/NODE, node-agent/NODE, control-plane or supervisor
        what: String,
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// Go on showing what comes, until Ctrl-C
        #[arg(short, long)]
        follow: bool,
    },
    /// Show nodes, pods, their namespaces (for nsenter --net), addresses, process ids and readiness
    Status {
        #[command(flatten)]
        name: Name,
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// End a process of the mesh; returns when it is back and ready
    Restart {
        #[command(flatten)]
        name: Name,
        /// ztunnel/NODE, node-agent/NODE, control-plane or kube-api
        target: String,
        /// With SIGKILL in place of SIGTERM
        #[arg(long)]
        kill: bool,
        /// For a node proxy: start the new one first, and stop the old one when it is ready, as in an upgrade
        #[arg(long, conflicts_with = "kill")]
        surge: bool,
    },
    /// Print the path of the kubeconfig of a lab with a Kubernetes API: KUBECONFIG=$(ztctl lab kubeconfig)
    Kubeconfig {
        #[command(flatten)]
        name: Name,
    },
    /// Break the wire of a node, of the control plane or of the Kubernetes API
    Fault(Fault),
    /// Take a lab down; also one whose supervisor was killed
    Down {
        #[command(flatten)]
        name: Name,
    },
    /// The process that keeps a lab
    #[command(hide = true)]
    Supervise {
        #[command(flatten)]
        name: Name,
    },
}

#[derive(Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) name: Name,
    /// How many nodes: node-a, node-b, ... up to node-z
    #[arg(long, default_value_t = 2)]
    pub(crate) nodes: usize,
    /// How pods' connections are captured
    #[arg(long, value_enum, default_value_t = Capture::Iptables)]
    pub(crate) capture: Capture,
    /// Where the mesh's programs find the objects: in the lab's files, or in a Kubernetes API on this machine, for
    /// kubectl too
    #[arg(long, value_enum, default_value_t = Objects::Files)]
    pub(crate) control_plane: Objects,
    /// IPv6 beside IPv4
    #[arg(long)]
    pub(crate) ipv6: bool,
    /// Another ztunnel binary for a node, such as node-b=/usr/local/bin/ztunnel
    #[arg(long, value_name = "NODE=PATH", value_parser = assignment)]
    pub(crate) node_proxy: Vec<(String, String)>,
    /// An environment variable of a node's proxy, such as node-a=RUST_LOG=debug
    #[arg(long, value_name = "NODE=K=V", value_parser = assignment)]
    pub(crate) node_proxy_env: Vec<(String, String)>,
    /// Stay, and take the lab down at the end (Ctrl-C)
    #[arg(long)]
    pub(crate) foreground: bool,
    /// How long everything may take to be ready
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Only nodes, pods, Services and DNS: no control plane, agents or proxies
    #[arg(long, hide = true)]
    pub(crate) without_mesh: bool,
    /// Manifests, or directories of manifests
    pub(crate) manifests: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Fault {
    #[command(flatten)]
    pub(crate) name: Name,
    /// A node, control-plane or kube-api
    pub(crate) link: String,
    /// Lose this part of the packets in each direction, such as 5%
    #[arg(long, value_parser = percent)]
    pub(crate) loss: Option<f64>,
    /// Delay packets in each direction, such as by 20ms; 0ms for no delay
    #[arg(long, value_parser = duration)]
    pub(crate) delay: Option<Duration>,
    /// Bound the rate in each direction, in bits per second, such as 100mbit
    #[arg(long, value_parser = rate)]
    pub(crate) rate: Option<u64>,
    /// Cut the wire
    #[arg(long)]
    pub(crate) partition: bool,
    /// First undo all faults of this link
    #[arg(long)]
    pub(crate) clear: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Capture {
    Iptables,
    Ebpf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Objects {
    Files,
    Kubernetes,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
    Yaml,
}

#[derive(Subcommand)]
pub(crate) enum AppCommand {
    /// Answer HTTP with who was asked by whom, and echo everything else
    Serve {
        /// A port to listen on
        #[arg(long, default_values_t = [lab::app::DEFAULT_PORT])]
        port: Vec<u16>,
        /// Reset (RST) an echo connection once so many bytes were echoed
        #[arg(long, value_parser = bytes)]
        reset_after: Option<u64>,
    },
    /// Ask for an http:// URL and print the body; exit code 1 without an answer or with an error status
    Get {
        url: String,
        #[arg(long, default_value = "5s", value_parser = duration)]
        timeout: Duration,
    },
    /// Send pseudo-random bytes to an echo server and compare what comes back, bit by bit
    Stream {
        /// HOST:PORT
        address: String,
        /// Bytes in total, such as 1GiB, shared out over the connections
        #[arg(long, value_parser = bytes)]
        bytes: u64,
        #[arg(long, default_value_t = 1)]
        connections: u32,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value = "120s", value_parser = duration)]
        timeout: Duration,
    },
    /// Hold a connection, send a line every now and then, and tell when and how it ends
    Hold {
        /// HOST:PORT
        address: String,
        #[arg(long, default_value = "100ms", value_parser = duration)]
        interval: Duration,
        /// Give up and say that it is still open
        #[arg(long = "for", default_value = "60s", value_parser = duration)]
        at_most: Duration,
        /// End it ourselves after so many lines
        #[arg(long)]
        lines: Option<u64>,
        /// End it with a reset in place of a close
        #[arg(long, requires = "lines")]
        reset: bool,
    },
    /// Open connection after connection and count what becomes of them
    Flood {
        /// HOST:PORT
        address: String,
        #[arg(long = "for", default_value = "3s", value_parser = duration)]
        duration: Duration,
        #[arg(long, default_value_t = 4)]
        concurrency: u32,
        /// How long one connection may take
        #[arg(long, default_value = "2s", value_parser = duration)]
        timeout: Duration,
    },
}
