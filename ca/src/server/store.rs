//! Where an authority is kept.

use std::time::{Duration, SystemTime};

use tls::BoxFuture;

use super::authority::AuthorityError;
use super::material::Material;
use super::stored::StoredAuthority;

/// How often a store that does not tell of changes is read again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Keeps one [`StoredAuthority`], so that several replicas, and a process and its successor, share it.
///
/// A write names the version that it is based on, so that of two writers at once one loses and nothing of the other
/// is overwritten; there is never a moment at which half of a write can be read.
pub trait AuthorityStore: Send + Sync + 'static {
    /// What is kept, with its version; nothing when nothing is.
    fn load(&self) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>>;

    /// Replaces what is kept in version `expected` (`None`: there is nothing yet), and tells the new version.
    fn save<'a>(
        &'a self,
        stored: &'a StoredAuthority,
        expected: Option<&'a str>,
    ) -> BoxFuture<'a, Result<String, StoreError>>;

    /// Waits until what is kept may be another than at the last [`AuthorityStore::load`]; may wake up for nothing.
    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(LOOK_AGAIN))
    }

    /// Where it is, for people.
    fn place(&self) -> String;
}

/// What is kept, in one version. It has no `Debug`.
#[derive(Clone)]
pub struct Versioned {
    /// What is kept.
    pub stored: StoredAuthority,
    /// Its version; says nothing but whether two are the same.
    pub version: String,
}

/// The store could not do what it was asked for. No text in here repeats a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else wrote meanwhile; read again.
    #[error("{place} was changed meanwhile")]
    Conflict {
        /// Where.
        place: String,
    },
    /// What is kept cannot be used; somebody has to mend it.
    #[error("{place} cannot be used: {reason}")]
    Unusable {
        /// Where.
        place: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The store cannot be reached now.
    #[error("{place} cannot be reached now: {reason}")]
    Unavailable {
        /// Where.
        place: String,
        /// The words of whoever failed.
        reason: String,
    },
}

/// Reads what is kept and makes it ready to sign.
///
/// # Errors
/// As [`AuthorityStore::load`], and when what is kept cannot sign at `now`, or does not say what is revoked.
pub async fn load_material(
    store: &dyn AuthorityStore,
    now: SystemTime,
) -> Result<Option<(Versioned, Material)>, StoreError> {
    let Some(versioned) = store.load().await? else {
        return Ok(None);
    };
    let unusable = |reason: String| StoreError::Unusable {
        place: store.place(),
        reason,
    };
    let material = Material::of_stored(&versioned.stored, now);
    let material = material.map_err(|error| unusable(error.to_string()))?;
    // Without it what is revoked would be accepted again.
    let revocations = versioned.stored.sound_revocations();
    revocations.map_err(|error| unusable(error.to_string()))?;
    Ok(Some((versioned, material)))
}

/// Reads what is kept; makes a new root where nothing is. Of several that do so at once, one root remains.
///
/// # Errors
/// As [`load_material`], and when no root can be made.
pub async fn load_or_create(
    store: &dyn AuthorityStore,
    now: SystemTime,
) -> Result<(Versioned, Material), AuthorityError> {
    // Whoever loses the race reads what the winner wrote; a second conflict would need a deletion in between.
    for _ in 0..3 {
        if let Some(found) = load_material(store, now).await? {
            return Ok(found);
        }
        let fresh = StoredAuthority::generate(now)?;
        match store.save(&fresh, None).await {
            Ok(_) => tracing::info!(place = store.place(), "a new root was made"),
            Err(StoreError::Conflict { .. }) => {
                tracing::info!(place = store.place(), "another made the root first")
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(AuthorityError::Store(StoreError::Conflict {
        place: store.place(),
    }))
}

#[cfg(test)]
mod tests;
