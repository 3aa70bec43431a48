//! What reads bytes of others in this crate and is not public, as functions of bytes for the fuzz targets. Each returns
//! whether the bytes were accepted, and panics where something does not hold that must.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use xds_client::ResourceUpdate;

use crate::disk::{Scope, entries, file};
use crate::http::admin::logging::Change;
use crate::{local_file, trust_bundle};

/// The roots that a control plane says count.
pub fn trust_bundle(input: &[u8]) -> bool {
    let resource = ResourceUpdate {
        name: "cluster.local".to_owned(),
        aliases: Vec::new(),
        version: String::new(),
        payload: input.to_vec().into(),
    };
    let Ok(bundle) = trust_bundle::read(&resource, "cluster.local") else {
        return false;
    };
    assert!(
        !bundle.roots.is_empty(),
        "without a root nobody could be believed"
    );
    true
}

/// The state on disk: the digest in it is mended, since no search would find it.
pub fn state_file(input: &[u8]) -> bool {
    let scope = Scope {
        trust_domain: "cluster.local".into(),
        cluster: "Kubernetes".into(),
        network: String::new(),
        node: "node-a".into(),
    };
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let limit = Duration::from_secs(86_400);
    let (mut bytes, rest) = (input.to_vec(), file::content_at());
    if input.len() >= rest {
        let digest = file::digest_of(&input[rest..]);
        bytes[rest - digest.len()..rest].copy_from_slice(&digest);
    }
    let Ok(loaded) = file::decode(&bytes, &scope, now, limit) else {
        return false;
    };
    assert!(loaded.written <= now + Duration::from_secs(1));
    assert!(now.duration_since(loaded.written).unwrap_or_default() <= limit);
    // Written again, it is read the same.
    let (addresses, policies) = (entries(&loaded.addresses), entries(&loaded.policies));
    let written: SystemTime = loaded.written;
    let Ok(again) = file::encode(&scope, written, &addresses, &policies) else {
        panic!("what was read can be written");
    };
    let again = file::decode(&again, &scope, now, limit);
    let again = again.unwrap_or_else(|error| panic!("what was written cannot be read: {error}"));
    assert_eq!(entries(&again.addresses), addresses);
    assert_eq!(entries(&again.policies), policies);
    true
}

/// Local state in YAML.
pub fn local_state(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    local_file::check("state", text).is_ok()
}

/// The query of the admin page that changes the log: the filter that comes of it.
pub fn log_filter(input: &[u8]) -> Option<String> {
    let query = std::str::from_utf8(input).ok()?;
    let change = Change::from_query(query).ok()?;
    let filter = change.applied_to("info,access=off");
    assert!(filter.len() <= query.len() + 32);
    // Said twice it is the same as once.
    assert_eq!(change.applied_to(&filter), filter);
    Some(filter)
}
