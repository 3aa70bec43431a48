//! A profile of the memory in use.

use crate::modules::{self, ModulesError};
use crate::pprof::{self, Content, Row};
use account::{Account, AccountError};
use std::io;
use std::sync::Mutex;
use std::time::SystemTime;

mod account;

/// Functions of the allocator and those that lead into it, as a regular expression: what is of interest is who calls
/// them.
const ALLOCATOR: &str = "_rjem_.*|.*__(rust|rg|rdl)_(alloc|realloc|alloc_zeroed)";

/// Why there is no profile of the heap.
#[derive(Debug, thiserror::Error)]
pub enum HeapProfileError {
    /// No samples are being taken.
    #[error("heap profiling is not active")]
    Inactive,
    /// One is written at a time.
    #[error("a profile of the heap is being written already")]
    Busy,
    /// The allocator refuses.
    #[error(transparent)]
    Allocator(#[from] sys::heap::HeapError),
    /// The allocator's account of its samples is not as expected.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// It is not known what is loaded where.
    #[error(transparent)]
    Modules(#[from] ModulesError),
    /// The result cannot be written.
    #[error("the profile cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// Who has allocated what is in use, by the samples since [`sys::heap::sample`] began, in pprof's form (`profile.proto`,
/// compressed by gzip): objects and bytes for each stack, estimated for all of them from those that were sampled. Blocks
/// while it is written; allocations go on meanwhile.
///
/// # Errors
/// [`HeapProfileError`]; one profile is written at a time.
pub fn heap() -> Result<Vec<u8>, HeapProfileError> {
    static ONE: Mutex<()> = Mutex::new(());
    let Ok(_one) = ONE.try_lock() else {
        return Err(HeapProfileError::Busy);
    };
    if !sys::heap::is_sampled()? {
        return Err(HeapProfileError::Inactive);
    }
    let account = Account::read(&sys::heap::account()?)?;
    let modules = modules::loaded()?;
    Ok(pprof::write(&content(&account), &modules)?)
}

fn content(account: &Account) -> Content<'_> {
    let mut remarks = Vec::new();
    if account.left_out > 0 {
        remarks.push(format!(
            "{} stacks left out because there were too many",
            account.left_out
        ));
    }
    let row = |(frames, used): (_, &account::Used)| {
        let (objects, bytes) = used.estimated(account.period);
        Row {
            frames,
            values: vec![objects, bytes],
            thread: None,
        }
    };
    Content {
        values: &[("inuse_objects", "count"), ("inuse_space", "bytes")],
        rows: account.stacks().map(row).collect(),
        began: Some(SystemTime::now()),
        period: i64::try_from(account.period).unwrap_or(i64::MAX),
        hidden: ALLOCATOR,
        remarks,
        ..Content::default()
    }
}
