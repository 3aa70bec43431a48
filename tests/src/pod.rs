use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sys::Namespace;

use crate::http::{Response, http_get};
use crate::place::Place;
use crate::program::{Output, ztctl};

/// A pod of a lab, as it was when it was asked for: one that is replaced is another pod.
#[derive(Clone)]
pub struct Pod {
    /// The lab it belongs to.
    pub lab: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its primary address.
    pub ip: IpAddr,
    /// The node it runs on.
    pub node: String,
    /// Its network namespace.
    pub network: Namespace,
}

impl Pod {
    /// Runs a command in it (`ztctl lab exec`).
    pub fn run(&self, args: &[&str]) -> Output {
        self.run_within(args, Duration::from_secs(60))
    }

    /// As [`Pod::run`], with another limit.
    pub fn run_within(&self, args: &[&str], limit: Duration) -> Output {
        let mut all = vec![
            "lab",
            "exec",
            "--name",
            &self.lab,
            "-n",
            &self.namespace,
            &self.name,
            "--",
        ];
        all.extend(args);
        ztctl(&all, limit)
    }

    /// Its address with this port.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }

    /// Asks over HTTP from inside it.
    pub fn http_get(&self, address: impl Into<SocketAddr>, path: &str) -> std::io::Result<Response> {
        http_get(self, address.into(), path)
    }

    /// The addresses of a name, as an ordinary program in the pod finds them; `None` where it finds none.
    pub fn resolve(&self, name: &str) -> Option<Vec<IpAddr>> {
        let output = self.run(&["getent", "ahostsv4", name]);
        let mut addresses: Vec<IpAddr> = output
            .stdout
            .lines()
            .filter_map(|line| line.split_whitespace().next()?.parse().ok())
            .collect();
        addresses.sort();
        addresses.dedup();
        (output.code == 0 && !addresses.is_empty()).then_some(addresses)
    }
}

impl Place for Pod {
    fn network(&self) -> &Namespace {
        &self.network
    }
}
