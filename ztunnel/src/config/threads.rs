//! How many threads move connections.

use super::error::{ConfigError, invalid};
use super::variables::Variables;

/// More threads than this help nobody and cost memory each.
const MAX_WORKER_THREADS: usize = 1024;

/// A number, a share of what may be used, or 0 for all of it. Unset: what `concurrency` in the mesh configuration
/// says, else the CPU limit, at least the CPU request; without a limit a quarter of the cores, at least the request
/// and two.
pub(super) fn worker_threads(
    variables: &Variables,
    concurrency: Option<usize>,
    cores: usize,
) -> Result<usize, ConfigError> {
    const NAME: &str = "ZTUNNEL_WORKER_THREADS";
    let limit = match cpus(variables, "ZTUNNEL_RESOURCE_CPU_LIMIT")? {
        Some(limit) => Some(limit),
        None => cpus(variables, "ZTUNNEL_CPU_LIMIT")?,
    };
    let request = cpus(variables, "ZTUNNEL_RESOURCE_CPU_REQUEST")?.unwrap_or(0);
    // A limit above what the machine has limits nothing.
    let usable = limit.map_or(cores, |limit| limit.min(cores)).max(1);
    let Some(value) = variables.optional(NAME) else {
        let threads = match (concurrency, limit) {
            (Some(0), _) => usable,
            (Some(threads), _) => threads,
            (None, Some(_)) => usable.max(request),
            (None, None) => cores.div_ceil(4).max(request).max(2),
        };
        return Ok(threads.min(MAX_WORKER_THREADS));
    };
    let threads = match value.strip_suffix('%') {
        Some(share) => share
            .parse::<usize>()
            .ok()
            .filter(|share| (1..=100).contains(share))
            .map(|share| (usable * share).div_ceil(100)),
        None => value
            .parse()
            .ok()
            .filter(|threads| *threads <= MAX_WORKER_THREADS),
    };
    match threads {
        Some(0) => Ok(usable),
        Some(threads) => Ok(threads),
        None => Err(invalid(
            NAME,
            &value,
            "a number of threads up to 1024, a share such as `50%`, or 0 for all cores",
        )),
    }
}

/// A Kubernetes quantity of CPU, in whole cores, rounded up.
fn cpus(variables: &Variables, name: &str) -> Result<Option<usize>, ConfigError> {
    let Some(value) = variables.optional(name) else {
        return Ok(None);
    };
    let thousandths = match value.strip_suffix('m') {
        Some(thousandths) => thousandths.parse::<f64>().ok(),
        None => value.parse::<f64>().ok().map(|cores| cores * 1000.0),
    };
    match thousandths {
        // Any real machine is within this; so the conversion below is exact.
        Some(thousandths) if (0.0..=1e9).contains(&thousandths) => {
            Ok(Some((thousandths / 1000.0).ceil() as usize).filter(|cores| *cores > 0))
        }
        _ => Err(invalid(
            name,
            &value,
            "an amount of CPU such as `2`, `0.5` or `500m`",
        )),
    }
}
