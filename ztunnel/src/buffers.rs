//! How many bytes the peers of all tunnels together may hold of this process's memory.

use std::fs;

/// Where nothing says how much memory there is: half of this many bytes.
const MEMORY: usize = 2 << 30;

/// At least this much, so that a single connection is not hindered: bytes.
const LEAST: usize = 16 << 20;

/// Where the kernel says how much memory this container may use, cgroup v2 and v1.
const LIMITS: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// As `setting` says, else half of the memory that this container may use.
pub(crate) fn limit(setting: Option<usize>) -> usize {
    setting.unwrap_or_else(|| {
        let known = LIMITS
            .iter()
            .find_map(|path| parse(&fs::read_to_string(path).ok()?));
        (known.unwrap_or(MEMORY) / 2).max(LEAST)
    })
}

/// None: no limit is set. An unlimited v1 group says so by a number larger than any memory.
fn parse(text: &str) -> Option<usize> {
    const NO_LIMIT: usize = 1 << 50;
    text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_the_container_may_use_unless_the_setting_says_otherwise() {
        assert_eq!(limit(Some(7)), 7);
        assert!(limit(None) >= LEAST);
        assert_eq!(parse("536870912\n"), Some(512 << 20));
        assert_eq!(parse("max\n"), None);
        assert_eq!(parse("9223372036854771712\n"), None);
        assert_eq!(parse(""), None);
    }
}
