//! The redirection rules of an enrolled pod, as text for `iptables-restore`, and what of them is there already.
//!
//! Every rule lives in a chain of our own, so that taking them out touches nothing else. Lines are written just as
//! `iptables-save` prints them, so that what is there can be compared with what should be.

use std::fmt::Write as _;

use sys::link::{Family, Rule};

/// Where captured connections of the pod's applications go.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where plaintext connections to the pod go.
pub const INBOUND_PORT: u16 = 15006;
/// Where tunnels end; they are for the node proxy already and not redirected.
pub const TUNNEL_PORT: u16 = 15008;
/// Where DNS queries go.
pub const DNS_PORT: u16 = 15053;

/// The mark on every packet of the node proxy: those are not captured again. Only the bits of the mask count.
const PROXY_MARK: &str = "0x539/0xfff";
/// The mark of connections on which the node proxy shows another's address: their answers are led back to it.
const RETURN_MARK: &str = "0x111/0xfff";

/// The routing rule for connections that return to the node proxy.
pub const RETURN_RULE: Rule = Rule {
    mark: 0x111,
    mask: 0xfff,
    priority: 32764,
    table: RETURN_TABLE,
};
/// The routing table that delivers everything locally.
pub const RETURN_TABLE: u32 = 100;

/// Our chains of each table, and the built-in chain that each is called from.
fn chains(table: &str) -> &'static [(&'static str, &'static str)] {
    match table {
        "filter" => &[("ISTIO_INPUT", "INPUT")],
        _ => &[("ISTIO_PRERT", "PREROUTING"), ("ISTIO_OUTPUT", "OUTPUT")],
    }
}

/// The rules of one table, in `iptables-save` form and in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRules {
    /// "mangle", "raw", "nat" or "filter".
    pub table: &'static str,
    /// The content of our chains.
    pub rules: Vec<String>,
}

/// The rules a pod is to have. `nat` comes after what leads answers back, so that nothing is redirected before they find
/// their way, and `filter` after `nat`, so that nothing is dropped that would be redirected a moment later.
pub fn wanted(family: Family) -> [TableRules; 4] {
    let loopback = match family {
        Family::V4 => "127.0.0.1/32",
        Family::V6 => "::1/128",
    };
    // A connection is redirected by its first packet or not at all. Without this, a connection that is older than the
    // rules would be redirected in the middle, since conntrack sees it for the first time then.
    let first = "--tcp-flags FIN,SYN,RST,ACK SYN";
    let not_proxy = format!("-m mark ! --mark {PROXY_MARK}");
    let mangle = vec![
        format!(
            "-A ISTIO_OUTPUT -m connmark --mark {RETURN_MARK} -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff"
        ),
        format!("-A ISTIO_PRERT -m mark --mark {PROXY_MARK} -j CONNMARK --set-xmark {RETURN_MARK}"),
    ];
    // The proxy's own queries and the applications' may look the same to conntrack: a zone of their own tells them apart.
    // So may a caller's plaintext connection and the one that the proxy makes to the application under the caller's
    // address, when the kernel happens to choose the caller's own port for it. Only what opens it is in another zone:
    // the application's answers look like the other connection's in no case.
    let raw = vec![
        format!("-A ISTIO_OUTPUT -o lo -p tcp -m mark --mark {PROXY_MARK} -j CT --zone-orig 1"),
        format!("-A ISTIO_OUTPUT -p udp -m mark --mark {PROXY_MARK} -m udp --dport 53 -j CT --zone 1"),
        format!("-A ISTIO_PRERT -p udp {not_proxy} -m udp --sport 53 -j CT --zone 1"),
    ];
    let nat = vec![
        format!(
            "-A ISTIO_OUTPUT ! -o lo -p udp {not_proxy} -m udp --dport 53 -j REDIRECT --to-ports {DNS_PORT}"
        ),
        format!(
            "-A ISTIO_OUTPUT ! -d {loopback} -p tcp -m tcp --dport 53 {first} {not_proxy} -j REDIRECT --to-ports {DNS_PORT}"
        ),
        format!("-A ISTIO_OUTPUT -p tcp -m mark --mark {RETURN_MARK} -j ACCEPT"),
        format!("-A ISTIO_OUTPUT ! -d {loopback} -o lo -j ACCEPT"),
        format!(
            "-A ISTIO_OUTPUT ! -d {loopback} -p tcp -m tcp {first} {not_proxy} -j REDIRECT --to-ports {OUTBOUND_PORT}"
        ),
        format!(
            "-A ISTIO_PRERT ! -d {loopback} -p tcp -m tcp ! --dport {TUNNEL_PORT} {first} {not_proxy} -j REDIRECT --to-ports {INBOUND_PORT}"
        ),
    ];
    // The kernel translates by what it knows of a connection, and it takes a lone ACK for one. A caller who sends such a
    // packet first, or opens a connection again that the kernel still remembers, would come past the redirection with
    // its SYN. No connection from outside is to begin anywhere but at the proxy.
    let filter = vec![
        format!("-A ISTIO_INPUT -p tcp -m tcp --dport {INBOUND_PORT} -j RETURN"),
        format!("-A ISTIO_INPUT -p tcp -m tcp --dport {TUNNEL_PORT} -j RETURN"),
        format!("-A ISTIO_INPUT ! -i lo -p tcp -m tcp {first} -j DROP"),
    ];
    [
        TableRules {
            table: "mangle",
            rules: mangle,
        },
        TableRules {
            table: "raw",
            rules: raw,
        },
        TableRules {
            table: "nat",
            rules: nat,
        },
        TableRules {
            table: "filter",
            rules: filter,
        },
    ]
}

/// What `iptables-save` says of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedTable {
    name: String,
    chains: Vec<(String, String)>,
    rules: Vec<String>,
}

/// Reads the output of `iptables-save`.
pub fn parse_saved(text: &str) -> Vec<SavedTable> {
    let mut tables: Vec<SavedTable> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('*') {
            tables.push(SavedTable {
                name: name.to_owned(),
                ..SavedTable::default()
            });
        } else if let Some(table) = tables.last_mut() {
            if let Some(chain) = line.strip_prefix(':') {
                let mut words = chain.split_ascii_whitespace();
                let name = words.next().unwrap_or_default().to_owned();
                table
                    .chains
                    .push((name, words.next().unwrap_or_default().to_owned()));
            } else if line.starts_with("-A ") {
                table.rules.push(line.to_owned());
            }
        }
    }
    tables
}

impl SavedTable {
    /// The table's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether one of our chains is in it, or a call of one.
    pub fn has_ours(&self) -> bool {
        chains(&self.name).iter().any(|(chain, _)| self.has_chain(chain))
    }

    /// Whether nothing is in it but built-in chains that accept everything.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.chains.iter().all(|(_, policy)| policy == "ACCEPT")
    }

    fn has_chain(&self, name: &str) -> bool {
        self.chains.iter().any(|(chain, _)| chain == name)
    }

    fn calls(&self, chain: &str, from: &str) -> usize {
        let call = call(chain, from);
        self.rules.iter().filter(|rule| **rule == call).count()
    }

    fn is_as(&self, wanted: &TableRules) -> bool {
        let ours = |chain: &str| {
            let prefix = format!("-A {chain} ");
            let found = self.rules.iter().filter(|rule| rule.starts_with(&prefix));
            let wanted = wanted.rules.iter().filter(|rule| rule.starts_with(&prefix));
            found.eq(wanted)
        };
        chains(wanted.table)
            .iter()
            .all(|(chain, from)| ours(chain) && self.calls(chain, from) == 1)
    }
}

/// Input for `iptables-restore --noflush` that makes the tables as wanted, each in one transaction; none when they are
/// already. Leftovers and changes in our own chains are replaced in the same transaction, everything else is left
/// alone.
pub fn install_script(wanted: &[TableRules], saved: &[SavedTable]) -> Option<String> {
    let nothing = SavedTable::default();
    let mut script = String::new();
    for table in wanted {
        let found = saved
            .iter()
            .find(|saved| saved.name == table.table)
            .unwrap_or(&nothing);
        if found.is_as(table) {
            continue;
        }
        let _ = writeln!(script, "*{}", table.table);
        for (chain, from) in chains(table.table) {
            // Makes the chain, or empties it.
            let _ = writeln!(script, ":{chain} - [0:0]");
            for _ in 0..found.calls(chain, from) {
                let _ = writeln!(script, "-D {from} -j {chain}");
            }
        }
        for (chain, from) in chains(table.table) {
            let _ = writeln!(script, "{}", call(chain, from));
        }
        for rule in &table.rules {
            let _ = writeln!(script, "{rule}");
        }
        script.push_str("COMMIT\n");
    }
    (!script.is_empty()).then_some(script)
}

/// Input for `iptables-restore --noflush` that takes our chains out of the tables whose names pass; none when they
/// have none.
pub fn removal_script(saved: &[SavedTable], from_table: impl Fn(&str) -> bool) -> Option<String> {
    let mut script = String::new();
    for table in saved
        .iter()
        .filter(|table| from_table(&table.name) && table.has_ours())
    {
        let _ = writeln!(script, "*{}", table.name);
        let present = || {
            chains(&table.name)
                .iter()
                .filter(|(chain, _)| table.has_chain(chain))
        };
        for (chain, from) in present() {
            for _ in 0..table.calls(chain, from) {
                let _ = writeln!(script, "-D {from} -j {chain}");
            }
        }
        for (chain, _) in present() {
            let _ = writeln!(script, "-F {chain}\n-X {chain}");
        }
        script.push_str("COMMIT\n");
    }
    (!script.is_empty()).then_some(script)
}

fn call(chain: &str, from: &str) -> String {
    format!("-A {from} -j {chain}")
}

#[cfg(test)]
mod tests;
