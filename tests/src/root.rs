/// Whether the test may go on. Without root it says that it is skipped; where `REQUIRE_ROOT=1` it fails instead.
pub fn require_root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var("REQUIRE_ROOT").as_deref() != Ok("1"),
        "REQUIRE_ROOT=1, but this is not root"
    );
    println!("skipped: needs root");
    false
}
