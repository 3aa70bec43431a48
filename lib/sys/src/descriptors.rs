//! How many files and sockets this process may have open (RLIMIT_NOFILE, getrlimit(2)).

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The limit in force.
pub fn limit() -> io::Result<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(soft)
}

/// Sets the limit in force, at most to the one the system allows.
pub fn set_limit(limit: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard)?;
    Ok(())
}

/// Raises the limit in force to what the system allows, which is returned. The difference is there for programs that
/// use `select(2)` and would break; a program that does not should call this first.
pub fn raise_limit() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        let allowed = raise_limit().unwrap();
        assert_eq!(limit().unwrap(), allowed);
        // Other tests of this process need their descriptors: only down to what is still plenty.
        set_limit(allowed.min(1024)).unwrap();
        assert_eq!(limit().unwrap(), allowed.min(1024));
        assert_eq!(raise_limit().unwrap(), allowed);
    }
}
