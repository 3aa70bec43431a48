//! The target that `FUZZ_TARGET` names, under libFuzzer. See docs/fuzzing.md.
#![no_main]

use std::sync::OnceLock;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    static TARGET: OnceLock<&fuzz::Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names the target");
        fuzz::find(&name).expect("FUZZ_TARGET is one of the directories in fuzz/corpus")
    });
    (target.run)(input);
});
