//! What a node must have to be in the mesh, tried out in a network namespace of its own before anything is touched, so that
//! whoever runs it learns in one message what is missing and what to do.
//!
//! The node proxy's needs are among them: it runs on the same kernel, and finds out only once the first pod is there.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use sys::conntrack::Conntrack;
use sys::link::{self, LinkError};
use sys::socket::{self, ListenOptions};
use sys::{Namespace, NamespaceError};

use crate::firewall::{Firewall, FirewallError};

#[cfg(test)]
mod tests;

/// What the agent and the proxy of a node need.
#[derive(Debug)]
pub struct Preflight {
    /// How redirection rules are written, where that is possible.
    pub firewall: Option<Firewall>,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What, in a few words.
    pub what: &'static str,
    /// How it is.
    pub outcome: Outcome,
}

/// How one thing is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be; in which form.
    Good(String),
    /// The node can be in the mesh without it.
    Lesser(Lack),
    /// The node cannot be in the mesh without it.
    Missing(Lack),
}

/// What is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// What the system says.
    pub problem: String,
    /// What does not work without it, or works less well.
    pub effect: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// What to do where the network namespaces of processes cannot be looked at.
pub(crate) const PROCESSES_REMEDY: &str = "mount the node's /proc where --proc says, and give CAP_SYS_PTRACE; where AppArmor is on, without its default profile";

/// Something is missing without which no pod of this node can be enrolled.
#[derive(Clone, Debug, thiserror::Error)]
#[error("this node cannot be in the mesh: {0}")]
pub struct NotReady(String);

impl Preflight {
    /// Tries everything. `settings` is where settings below `/proc/sys/net` are written; `proc` the node's `/proc`, where
    /// pods are found by their processes. Leaves nothing behind. Takes up to a few seconds.
    pub async fn run(settings: &Path, proc: Option<PathBuf>) -> Preflight {
        let mut findings = vec![kernel()];
        if let Some(proc) = proc {
            findings.push(processes(&proc));
        }
        let scratch = match Namespace::create() {
            Ok(scratch) => scratch,
            Err(error) => {
                findings.push(no_namespace(&error));
                return Preflight {
                    firewall: None,
                    findings,
                };
            }
        };
        findings.push(Finding::good("network namespaces", ""));
        findings.push(transparent(&scratch));
        findings.push(queues(settings, &scratch));
        findings.push(tracking(&scratch));
        let (firewall, finding) = rules(Firewall::choose(settings).await);
        findings.push(finding);
        Preflight { firewall, findings }
    }

    /// The firewall, when nothing that must be there is missing.
    ///
    /// # Errors
    /// All that is missing at once, each with its remedy.
    pub fn ready(self) -> Result<Firewall, NotReady> {
        let missing: Vec<String> = self
            .findings
            .iter()
            .filter_map(|finding| match &finding.outcome {
                Outcome::Missing(lack) => Some(format!("{}: {lack}", finding.what)),
                _ => None,
            })
            .collect();
        match self.firewall {
            Some(firewall) if missing.is_empty() => Ok(firewall),
            _ => Err(NotReady(missing.join("; "))),
        }
    }
}

/// A line each.
impl fmt::Display for Preflight {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { what, outcome } in &self.findings {
            match outcome {
                Outcome::Good(form) if form.is_empty() => writeln!(out, "ok       {what}")?,
                Outcome::Good(form) => writeln!(out, "ok       {what} {form}")?,
                Outcome::Lesser(lack) => writeln!(out, "warning  {what}: {lack}")?,
                Outcome::Missing(lack) => writeln!(out, "MISSING  {what}: {lack}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lack {
            problem,
            effect,
            remedy,
        } = self;
        write!(out, "{problem}. {effect}: {remedy}")
    }
}

impl Finding {
    fn good(what: &'static str, form: impl Into<String>) -> Finding {
        let outcome = Outcome::Good(form.into());
        Finding { what, outcome }
    }

    fn lesser(what: &'static str, problem: String, effect: &'static str, remedy: &'static str) -> Finding {
        let outcome = Outcome::Lesser(Lack {
            problem,
            effect,
            remedy,
        });
        Finding { what, outcome }
    }

    fn missing(what: &'static str, problem: String, effect: &'static str, remedy: &'static str) -> Finding {
        let outcome = Outcome::Missing(Lack {
            problem,
            effect,
            remedy,
        });
        Finding { what, outcome }
    }
}

/// Its release, for whoever reads the rest. What counts is what works, since distributions carry features back.
fn kernel() -> Finding {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    Finding::good(
        "kernel",
        release.map_or_else(|_| "unknown".to_owned(), |release| release.trim().to_owned()),
    )
}

fn processes(proc: &Path) -> Finding {
    const WHAT: &str = "processes of the node";
    let path = proc.join("1/ns/net");
    match Namespace::open(&path) {
        Ok(_) => Finding::good(WHAT, format!("in {}", proc.display())),
        Err(error) => Finding::missing(
            WHAT,
            error.to_string(),
            "The network namespaces of pods are found by their processes",
            PROCESSES_REMEDY,
        ),
    }
}

fn no_namespace(error: &NamespaceError) -> Finding {
    let errno = match error {
        NamespaceError::Create(source) => source.raw_os_error(),
        _ => None,
    };
    let remedy = match errno {
        _ if matches!(error, NamespaceError::Loopback(_)) => "run as root with CAP_NET_ADMIN",
        Some(nix::libc::ENOSPC) => "raise user.max_net_namespaces (sysctl)",
        Some(nix::libc::EINVAL | nix::libc::ENOSYS) => "use a kernel with network namespaces (CONFIG_NET_NS)",
        _ => "run as root with CAP_SYS_ADMIN, and a seccomp profile that allows unshare and setns",
    };
    Finding::missing(
        "network namespaces",
        error.to_string(),
        "Pods are enrolled from within theirs",
        remedy,
    )
}

/// The proxy takes connections for addresses of others, and marks its own.
fn transparent(scratch: &Namespace) -> Finding {
    const WHAT: &str = "transparent sockets with marks";
    let options = ListenOptions {
        mark: Some(1),
        transparent: true,
        reuse_port: true,
        ..ListenOptions::default()
    };
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    match socket::listen(scratch, any, &options) {
        Ok(_) => Finding::good(WHAT, ""),
        Err(error) => Finding::missing(
            WHAT,
            error.to_string(),
            "Connections of pods cannot be taken (IP_TRANSPARENT, SO_MARK, SO_REUSEPORT)",
            "give CAP_NET_ADMIN to agent and proxy, and use a kernel with CONFIG_NETFILTER_XT_TARGET_MARK and IP_TRANSPARENT",
        ),
    }
}

/// Whether an upgrade of the proxy can hand over what waits.
fn queues(settings: &Path, scratch: &Namespace) -> Finding {
    const WHAT: &str = "handing over of waiting connections";
    const EFFECT: &str = "Connections that wait while the node proxy is replaced may be reset";
    match link::sysctl_in(settings, scratch, "ipv4.tcp_migrate_req", "1") {
        Ok(()) => Finding::good(WHAT, "(net.ipv4.tcp_migrate_req)"),
        Err(error) => Finding::lesser(
            WHAT,
            error.to_string(),
            EFFECT,
            remedy_of_setting(settings, &error),
        ),
    }
}

fn remedy_of_setting(settings: &Path, error: &LinkError) -> &'static str {
    if error.is_missing() && settings.join("ipv4").is_dir() {
        "use Linux 5.14 or newer"
    } else {
        "mount the node's /proc/sys/net writably where --network-settings says, and give CAP_NET_ADMIN"
    }
}

/// The proxy asks the kernel which server a DNS query was for.
fn tracking(scratch: &Namespace) -> Finding {
    const WHAT: &str = "connection tracking that can be asked";
    let asked = Conntrack::in_namespace(scratch).and_then(|tracking| {
        let [client, local] = [53, 15053].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        tracking.original_destination(client, local)
    });
    match asked {
        Ok(_) => Finding::good(WHAT, ""),
        Err(error) => Finding::lesser(
            WHAT,
            said(&error),
            "DNS queries of pods go to the servers of the proxy's own resolv.conf, not to those that the pods asked",
            "load the kernel module nf_conntrack_netlink (modprobe)",
        ),
    }
}

fn said(error: &io::Error) -> String {
    format!("the kernel does not answer: {error}")
}

fn rules(chosen: Result<Firewall, FirewallError>) -> (Option<Firewall>, Finding) {
    const WHAT: &str = "redirection rules";
    const EFFECT: &str = "Connections of pods cannot be redirected";
    let error = match chosen {
        Ok(firewall) => {
            let finding = Finding::good(WHAT, format!("with {}", firewall.name()));
            return (Some(firewall), finding);
        }
        Err(error) => error,
    };
    let remedy = match &error {
        FirewallError::NotInstalled => "install it where the agent runs; the agent's image has it",
        FirewallError::Unusable(_) => {
            "load the modules that the messages name (nf_tables with nft_compat, or ip_tables and iptable_nat, \
             iptable_mangle, iptable_filter, and those of ip6tables where IPv6 is on; xt_mark, xt_connmark, xt_conntrack, \
             xt_REDIRECT), or use a kernel that has them; and give CAP_NET_ADMIN and CAP_NET_RAW"
        }
        _ => "run as root with CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW",
    };
    (None, Finding::missing(WHAT, error.to_string(), EFFECT, remedy))
}
