//! Puts the rules of [`crate::rules`] into a pod's network namespace, and takes them out.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sys::{
    Namespace, NamespaceError,
    link::{self, Family, LinkError, Netlink},
    nftables::{self, TableFamily},
    process::{Command, SpawnError},
};
use tokio::sync::Semaphore;

use crate::rules::{self, RETURN_RULE, RETURN_TABLE, SavedTable};

/// Commands that run at a time, over all pods.
pub const MAX_CONCURRENT_COMMANDS: usize = 4;

/// How long one command may take; it waits for the lock of the legacy backend for part of it.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(15);
const LOCK_WAIT: &str = "--wait=5";

/// The one backend that this agent uses for all pods.
#[derive(Clone, Debug)]
pub struct Firewall {
    backend: Backend,
    commands: Arc<Semaphore>,
    /// Where settings below `/proc/sys/net` are written.
    settings: Arc<Path>,
}

/// What of ours is in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// The rules that redirect.
    Redirection,
    /// Something, but nothing that redirects.
    Rest,
}

/// Why rules could not be read or written. The system is to blame, or its setup.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// No iptables on this machine.
    #[error(
        "iptables is not installed on this node: install the package \"iptables\" (Debian, Ubuntu: apt-get install iptables)"
    )]
    NotInstalled,
    /// There is one, but no variant of it works here.
    #[error("no variant of iptables can write the redirection rules on this kernel: {0}")]
    Unusable(String),
    /// A command failed.
    #[error("{command} failed: {complaint}")]
    Failed {
        /// Program and first argument.
        command: String,
        /// What it wrote to standard error.
        complaint: String,
    },
    /// A command could not be run.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// Policy routing could not be changed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// Empty tables could not be removed.
    #[error("cannot remove nftables tables: {0}")]
    Tables(std::io::Error),
}

/// One variant of iptables.
#[derive(Clone, Debug)]
struct Backend {
    /// "iptables", "iptables-nft" or "iptables-legacy".
    name: &'static str,
    v4: Programs,
    v6: Option<Programs>,
    /// Whether its rules are nftables rules.
    nftables: bool,
}

#[derive(Clone, Debug)]
struct Programs {
    restore: PathBuf,
    save: PathBuf,
}

/// In the order of preference: what the system has chosen, then the modern one.
const VARIANTS: [(&str, &str); 3] = [
    ("iptables", "ip6tables"),
    ("iptables-nft", "ip6tables-nft"),
    ("iptables-legacy", "ip6tables-legacy"),
];

impl Firewall {
    /// Chooses the variant of iptables, by writing the very rules into a scratch namespace. Settings below `/proc/sys/net`
    /// are written in `settings`, which is that directory or another mount of it.
    pub async fn choose(settings: &Path) -> Result<Self, FirewallError> {
        let settings: Arc<Path> = settings.into();
        let commands = Arc::new(Semaphore::new(MAX_CONCURRENT_COMMANDS));
        let mut refusals = Vec::new();
        for (name, name6) in VARIANTS {
            let Some(v4) = Programs::find(name) else { continue };
            let nftables = is_nftables(&v4).await;
            let backend = Backend {
                name,
                v4,
                v6: Programs::find(name6),
                nftables,
            };
            let candidate = Self {
                backend,
                commands: commands.clone(),
                settings: settings.clone(),
            };
            let scratch = Namespace::create()?;
            match candidate.install(&scratch).await {
                Ok(_) => return Ok(candidate),
                Err(error) => refusals.push(format!("{name}: {error}")),
            }
        }
        Err(if refusals.is_empty() {
            FirewallError::NotInstalled
        } else {
            FirewallError::Unusable(refusals.join("; "))
        })
    }

    /// The variant that was chosen.
    pub fn name(&self) -> &'static str {
        self.backend.name
    }

    /// Puts the rules in, or sets right what differs. Says whether anything had to be changed.
    pub async fn install(&self, pod: &Namespace) -> Result<bool, FirewallError> {
        hand_queues_over(&self.settings, pod);
        let mut changed = false;
        for family in families(pod)? {
            changed |= self.install_routing(pod, family).await?;
            let saved = self.saved(pod, family).await?;
            if let Some(script) = rules::install_script(&rules::wanted(family), &saved) {
                self.restore(pod, family, &script).await?;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// Takes out what redirects new connections. Those that are redirected already keep working: the kernel knows
    /// their translation until the rest is removed.
    pub async fn stop_redirecting(&self, pod: &Namespace) -> Result<(), FirewallError> {
        // First what drops connections that are not redirected: soon none is.
        self.take_out(pod, |table| table == "filter").await?;
        self.take_out(pod, |table| table == "nat").await
    }

    /// Takes out all that is ours, down to tables which only we have used.
    pub async fn remove(&self, pod: &Namespace) -> Result<(), FirewallError> {
        self.take_out(pod, |_| true).await?;
        // The node proxy's, for connections that its kernel could not end.
        nftables::forget_dropped(pod).map_err(FirewallError::Tables)?;
        for family in families(pod)? {
            self.remove_routing(pod, family).await?;
            if self.backend.nftables {
                self.remove_empty_tables(pod, family).await?;
            }
        }
        Ok(())
    }

    /// What of ours is in the namespace.
    pub async fn inspect(&self, pod: &Namespace) -> Result<Found, FirewallError> {
        let mut found = Found::Nothing;
        for family in families(pod)? {
            for table in self.saved(pod, family).await? {
                if table.has_ours() && table.name() == "nat" {
                    return Ok(Found::Redirection);
                } else if table.has_ours() {
                    found = Found::Rest;
                }
            }
            if Netlink::in_namespace(pod)?.has_rule(family, RETURN_RULE).await? {
                found = Found::Rest;
            }
        }
        Ok(found)
    }

    async fn take_out(&self, pod: &Namespace, from: impl Fn(&str) -> bool) -> Result<(), FirewallError> {
        for family in families(pod)? {
            let saved = self.saved(pod, family).await?;
            if let Some(script) = rules::removal_script(&saved, &from) {
                self.restore(pod, family, &script).await?;
            }
        }
        Ok(())
    }

    async fn install_routing(&self, pod: &Namespace, family: Family) -> Result<bool, FirewallError> {
        let link = Netlink::in_namespace(pod)?;
        let mut changed = false;
        if !link.has_local_route(family, RETURN_TABLE).await? {
            ignoring(link.local_route(family, RETURN_TABLE).await, LinkError::is_exists)?;
            changed = true;
        }
        if !link.has_rule(family, RETURN_RULE).await? {
            ignoring(link.rule(family, RETURN_RULE).await, LinkError::is_exists)?;
            changed = true;
        }
        Ok(changed)
    }

    async fn remove_routing(&self, pod: &Namespace, family: Family) -> Result<(), FirewallError> {
        let link = Netlink::in_namespace(pod)?;
        if link.has_rule(family, RETURN_RULE).await? {
            ignoring(link.delete_rule(family, RETURN_RULE).await, LinkError::is_missing)?;
        }
        if link.has_local_route(family, RETURN_TABLE).await? {
            ignoring(
                link.delete_local_route(family, RETURN_TABLE).await,
                LinkError::is_missing,
            )?;
        }
        Ok(())
    }

    /// `iptables-restore` makes tables and built-in chains as it needs them and leaves them behind.
    async fn remove_empty_tables(&self, pod: &Namespace, family: Family) -> Result<(), FirewallError> {
        let saved = self.saved(pod, family).await?;
        let ours = rules::wanted(family).map(|wanted| wanted.table);
        let empty = |table: &&SavedTable| ours.contains(&table.name()) && table.is_empty();
        let family = match family {
            Family::V4 => TableFamily::V4,
            Family::V6 => TableFamily::V6,
        };
        for table in saved.iter().filter(empty) {
            nftables::remove_if_empty(pod, family, table.name()).map_err(FirewallError::Tables)?;
        }
        Ok(())
    }

    async fn saved(&self, pod: &Namespace, family: Family) -> Result<Vec<SavedTable>, FirewallError> {
        let save = self.backend.programs(family)?.save.clone();
        let text = self
            .run(pod, Command::new(&save), save.display().to_string(), "")
            .await?;
        Ok(rules::parse_saved(&text))
    }

    async fn restore(&self, pod: &Namespace, family: Family, script: &str) -> Result<(), FirewallError> {
        let restore = self.backend.programs(family)?.restore.clone();
        let command = Command::new(&restore).args(["--noflush", LOCK_WAIT]);
        self.run(pod, command, restore.display().to_string(), script)
            .await
            .map(|_| ())
    }

    async fn run(
        &self,
        pod: &Namespace,
        command: Command,
        name: String,
        input: &str,
    ) -> Result<String, FirewallError> {
        // The semaphore is never closed; and if it were, running without it is better than not at all.
        let _turn = self.commands.acquire().await.ok();
        let output = command.network(pod).run(input, COMMAND_TIMEOUT).await?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let complaint = output.stderr.trim().replace('\n', "; ");
        Err(FirewallError::Failed {
            command: name,
            complaint,
        })
    }
}

impl Backend {
    fn programs(&self, family: Family) -> Result<&Programs, FirewallError> {
        match family {
            Family::V4 => Ok(&self.v4),
            Family::V6 => self.v6.as_ref().ok_or(FirewallError::NotInstalled),
        }
    }
}

impl Programs {
    fn find(name: &str) -> Option<Self> {
        Some(Self {
            restore: find_program(&format!("{name}-restore"))?,
            save: find_program(&format!("{name}-save"))?,
        })
    }
}

/// Lets the kernel move what waits for a listener that closes to another one on the same port: an upgrade of the node
/// proxy then resets nothing (Linux 5.14, `net.ipv4.tcp_migrate_req`).
fn hand_queues_over(settings: &Path, pod: &Namespace) {
    if let Err(error) = link::sysctl_in(settings, pod, "ipv4.tcp_migrate_req", "1") {
        tracing::debug!(%error, "connections that wait while the node proxy is replaced may be reset");
    }
}

/// The families whose rules a pod needs: IPv6 where it has any.
fn families(pod: &Namespace) -> Result<Vec<Family>, FirewallError> {
    let mut families = vec![Family::V4];
    match link::read_sysctl(pod, "ipv6/conf/lo/disable_ipv6") {
        Ok(disabled) if disabled == "0" => families.push(Family::V6),
        Ok(_) => {}
        Err(error) if error.is_missing() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(families)
}

/// In PATH, and where Debian has it even if PATH is an ordinary user's.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

async fn is_nftables(programs: &Programs) -> bool {
    let asked = Command::new(&programs.restore)
        .arg("--version")
        .run("", COMMAND_TIMEOUT)
        .await;
    asked.is_ok_and(|output| output.stdout.contains("nf_tables"))
}

fn ignoring(result: Result<(), LinkError>, harmless: impl Fn(&LinkError) -> bool) -> Result<(), LinkError> {
    match result {
        Err(error) if harmless(&error) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
