//! What peers are held against.

use super::error::{ConfigError, invalid};
use super::variables::Variables;
use std::path::PathBuf;
use tls::{CompliancePolicy, Trust, Versions};

/// What peers are held against, besides the roots that come with certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustSettings {
    /// Trust domains whose peers are accepted besides the own (`ZTUNNEL_TRUST_DOMAIN_ALIASES`).
    pub aliases: Vec<String>,
    /// Which algorithms of TLS are spoken (`COMPLIANCE_POLICY`).
    pub compliance: CompliancePolicy,
    /// Which versions of TLS are spoken in tunnels (`TLS12_ENABLED`).
    pub versions: Versions,
    /// File or directory of revocation lists (`CRL_PATH`).
    pub revocation_lists: Option<PathBuf>,
    /// Whether peers are refused that no current revocation list covers (`ZTUNNEL_CRL_REQUIRED`).
    pub revocation_required: bool,
    /// Directory in which certificates are kept with their keys (`ZTUNNEL_PERSIST_KEYS`). None: in memory only.
    pub keys: Option<PathBuf>,
}

impl TrustSettings {
    pub(super) fn read(variables: &Variables) -> Result<Self, ConfigError> {
        let settings = Self {
            aliases: aliases(variables)?,
            compliance: variables
                .optional_parsed("COMPLIANCE_POLICY", "`pqc`, `fips`, or nothing")?
                .unwrap_or_default(),
            versions: if variables.switch(TLS12, false)? {
                Versions::AlsoTls12
            } else {
                Versions::Tls13
            },
            revocation_lists: variables.optional("CRL_PATH").map(PathBuf::from),
            revocation_required: variables.switch(REQUIRED, false)?,
            keys: variables.optional("ZTUNNEL_PERSIST_KEYS").map(PathBuf::from),
        };
        if settings.revocation_required && settings.revocation_lists.is_none() {
            return Err(invalid(REQUIRED, "true", "`false`, or CRL_PATH naming the lists"));
        }
        if settings.versions == Versions::AlsoTls12 && settings.compliance == CompliancePolicy::PostQuantum {
            return Err(invalid(
                TLS12,
                "true",
                "`false` beside COMPLIANCE_POLICY=pqc: TLS 1.2 has no post-quantum key exchange",
            ));
        }
        Ok(settings)
    }
}

const TLS12: &str = "TLS12_ENABLED";
const REQUIRED: &str = "ZTUNNEL_CRL_REQUIRED";

fn aliases(variables: &Variables) -> Result<Vec<String>, ConfigError> {
    const NAME: &str = "ZTUNNEL_TRUST_DOMAIN_ALIASES";
    let text = variables.text(NAME, "");
    let aliases: Vec<String> = text
        .split(',')
        .map(|alias| alias.trim().to_owned())
        .filter(|alias| !alias.is_empty())
        .collect();
    let good = |alias: &String| mesh::Identity::try_new(alias, "a", "a").is_ok();
    if aliases.len() > Trust::MAX_ALIASES || !aliases.iter().all(good) {
        let accepted = format!(
            "trust domains separated by commas, at most {}",
            Trust::MAX_ALIASES
        );
        return Err(invalid(NAME, &text, &accepted));
    }
    Ok(aliases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn read(set: &[(&str, &str)]) -> Result<TrustSettings, ConfigError> {
        let set = set
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        TrustSettings::read(&Variables::new(set.collect(), BTreeMap::new()))
    }

    #[test]
    fn trust_is_read_and_what_cannot_be_used_is_named() {
        assert_eq!(read(&[]), Ok(TrustSettings::default()));
        let settings = read(&[
            ("ZTUNNEL_TRUST_DOMAIN_ALIASES", "old.domain, older.domain"),
            ("COMPLIANCE_POLICY", "fips"),
            ("CRL_PATH", "/etc/crl"),
            ("ZTUNNEL_CRL_REQUIRED", "true"),
            ("ZTUNNEL_PERSIST_KEYS", "/var/lib/ztunnel"),
            ("TLS12_ENABLED", "true"),
        ])
        .unwrap();
        assert_eq!(settings.aliases, ["old.domain", "older.domain"]);
        assert_eq!(settings.compliance, CompliancePolicy::Fips);
        assert_eq!(settings.versions, Versions::AlsoTls12);
        assert_eq!(settings.revocation_lists, Some("/etc/crl".into()));
        assert!(settings.revocation_required);
        assert_eq!(settings.keys, Some("/var/lib/ztunnel".into()));
        for set in [
            ("COMPLIANCE_POLICY", "fips140"),
            ("ZTUNNEL_CRL_REQUIRED", "true"),
            ("ZTUNNEL_TRUST_DOMAIN_ALIASES", "good,not a domain"),
        ] {
            let error = read(&[set]).unwrap_err().to_string();
            assert!(error.contains(set.0), "{error}");
        }
        let both = read(&[("TLS12_ENABLED", "true"), ("COMPLIANCE_POLICY", "pqc")]);
        let error = both.unwrap_err().to_string();
        assert!(
            error.contains("TLS12_ENABLED") && error.contains("pqc"),
            "{error}"
        );
    }
}
