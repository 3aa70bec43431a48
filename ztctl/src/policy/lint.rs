//! `ztctl policy lint`.

use std::path::PathBuf;

use clap::Args;
use lab::Layout;
use lint::{Finding, Input, Settings, Severity};
use serde_json::json;

use super::cluster::Cluster;
use super::mesh::Reading;
use super::{Failure, NO, Output, manifests};
use crate::args::Name;
use crate::print;

#[derive(Args)]
pub(crate) struct Lint {
    /// A manifest, a directory of manifests, or - for standard input; may be given several times. Without it what is
    /// applied in the lab is judged
    #[arg(short, long = "filename")]
    filename: Vec<PathBuf>,
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    cluster: Cluster,
    /// The trust domain of every identity, and then aliases beside those of the ConfigMap istio. Without it the trust
    /// domain of the ConfigMap, else cluster.local
    #[arg(long)]
    trust_domain: Vec<String>,
    #[command(flatten)]
    reading: Reading,
    /// A network plugin enforces NetworkPolicy in the cluster that is meant; nothing does in a lab
    #[arg(long)]
    network_policy_enforced: bool,
    /// The node agent lets the kubelet's probes pass by the proxy, as that of Istio does
    #[arg(long)]
    probes_exempt: bool,
    /// Warnings count as errors
    #[arg(long)]
    strict: bool,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Lint {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let is_lab = self.filename.is_empty() && !self.cluster.kubernetes;
        if self.network_policy_enforced && is_lab {
            return Err(Failure::Usage(
                "nothing enforces NetworkPolicy in a lab: use --network-policy-enforced with -f or --kubernetes".to_owned(),
            ));
        }
        let mut input: Input = if self.cluster.kubernetes {
            let objects = self.cluster.objects(&self.reading.home()).await?;
            objects.iter().map(|object| object.as_ref().clone()).collect()
        } else if is_lab {
            let objects = lab::objects(&Layout::new(&self.name.name)?).await?;
            objects.iter().map(|object| object.as_ref().clone()).collect()
        } else {
            let mut input = Input::default();
            for (file, text) in manifests::texts(&self.filename)? {
                input.add(objects::parse_leniently(&file, &text));
            }
            input
        };
        let config = self
            .reading
            .config(input.objects.iter().map(|read| &read.object))?;
        let mesh = self.reading.settings(&config, self.trust_domain.first());
        input.objects.retain(|read| self.reading.is_read(&read.object));
        let aliases = self
            .trust_domain
            .into_iter()
            .skip(1)
            .chain(mesh.trust_domain_aliases);
        let trust_domains = std::iter::once(mesh.trust_domain).chain(aliases).collect();
        let settings = Settings {
            trust_domains,
            root_namespace: mesh.root_namespace,
            network_policy_enforced: self.network_policy_enforced,
            probes_exempt: self.probes_exempt,
            // A lab has none.
            waypoints_run: !is_lab,
        };
        let found = lint::lint(&input, &settings);
        match self.output {
            Output::Table => print::bytes(for_people(&found).as_bytes()),
            Output::Json => print::pretty_json(&json!({
                "errors": count(&found, Severity::Error),
                "warnings": count(&found, Severity::Warning),
                "infos": count(&found, Severity::Info),
                "findings": found,
            })),
        }
        let worst = if self.strict {
            Severity::Warning
        } else {
            Severity::Error
        };
        Ok(if found.iter().any(|finding| finding.severity <= worst) {
            NO
        } else {
            0
        })
    }
}

fn count(found: &[Finding], severity: Severity) -> usize {
    found
        .iter()
        .filter(|finding| finding.severity == severity)
        .count()
}

/// Each finding in a few lines, and how many there are of each kind.
fn for_people(found: &[Finding]) -> String {
    let mut text = String::new();
    for finding in found {
        let place = match (&finding.file, finding.line) {
            (Some(file), Some(line)) => format!(" ({file}:{line})"),
            (Some(file), None) => format!(" ({file})"),
            _ => String::new(),
        };
        let field = if finding.field.is_empty() {
            String::new()
        } else {
            format!(" {}", finding.field)
        };
        text += &format!(
            "{} {}: {}{field}{place}\n  {}.\n  Fix: {}.\n",
            finding.severity.as_str(),
            finding.code.as_str(),
            finding.object,
            finding.why,
            finding.fix
        );
    }
    let part = |severity: Severity, word: &str| {
        let count = count(found, severity);
        format!("{count} {word}{}", if count == 1 { "" } else { "s" })
    };
    text + &format!(
        "{}, {}, {}\n",
        part(Severity::Error, "error"),
        part(Severity::Warning, "warning"),
        part(Severity::Info, "hint")
    )
}
