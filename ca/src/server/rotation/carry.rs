//! Steps of a rotation, done to what an authority keeps.

use std::time::{Duration, SystemTime};

use super::state::{MAX_RETIRED, Phase, RotationState};
use super::{RootLife, Step};
use crate::server::authority::AuthorityError;
use crate::server::stored::{KeyAndCertificate, ROOT_LIFE, StoredAuthority};

/// What is to be kept after `step`, done at `now`, together with the `state` that it leads to. Nothing changes yet.
///
/// # Errors
/// When no new root can be made, or the step does not fit what is kept.
pub fn carry_out(
    step: Step,
    kept: &StoredAuthority,
    state: &RotationState,
    now: SystemTime,
) -> Result<StoredAuthority, AuthorityError> {
    let mut next = kept.clone();
    let mut state = state.clone();
    match step {
        Step::Introduce => next.next = Some(KeyAndCertificate::generate_root(now, ROOT_LIFE)?),
        Step::Switch => {
            let signer = next
                .next
                .take()
                .ok_or_else(|| AuthorityError::Create("the root that is to sign next is gone".to_owned()))?;
            let before = std::mem::replace(&mut next.current, signer);
            next.previous = Some(before.certificate);
            next.previous_key = Some(before.key);
        }
        Step::Drop => {
            state.retired.splice(0..0, next.previous.take());
            state.retired.truncate(MAX_RETIRED);
            next.previous_key = None;
        }
        Step::Abort => next.next = None,
    }
    next.rotation = Some(state.to_text());
    next.renew_lists(now)?;
    Ok(next)
}

/// The phase that fits the roots that are kept.
pub fn phase_of(kept: &StoredAuthority) -> Phase {
    match (&kept.next, &kept.previous) {
        (Some(_), _) => Phase::Introduced,
        (None, Some(_)) => Phase::Switched,
        (None, None) => Phase::Steady,
    }
}

/// The life of a certificate in PEM; `None` for what is none.
pub fn root_life(certificate: &str) -> Option<RootLife> {
    let block = pem::parse(certificate).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(block.contents()).ok()?;
    let at = |time: x509_parser::time::ASN1Time| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
    };
    Some(RootLife {
        not_before: at(parsed.validity().not_before),
        not_after: at(parsed.validity().not_after),
    })
}
