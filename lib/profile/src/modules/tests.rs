use super::*;

#[test]
fn executable_mappings_of_files_are_found() {
    let line = "55d0c0a00000-55d0c0b00000 r-xp 00001000 fd:01 1234                       /usr/bin/a program";
    let found = mapping(line).unwrap();
    assert_eq!(found.path, "/usr/bin/a program");
    assert_eq!(
        (found.range, found.offset),
        (0x55d0_c0a0_0000..0x55d0_c0b0_0000, 0x1000)
    );
    assert!(mapping("7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                  [vdso]").is_some());
    for other in [
        "55d0c0a00000-55d0c0b00000 r--p 00001000 fd:01 1234      /usr/bin/program",
        "7f0000000000-7f0000001000 r-xp 00000000 00:00 0 ",
        "7ffd00000000-7ffd00002000 rwxp 00000000 00:00 0                  [stack]",
        "nonsense",
        "",
    ] {
        assert!(mapping(other).is_none(), "{other}");
    }
}

#[test]
fn the_program_itself_is_loaded_where_its_functions_are() {
    let here = executable_mappings_of_files_are_found as *const () as u64;
    let modules = loaded().unwrap();
    let own = modules
        .iter()
        .find(|module| module.range.contains(&here))
        .unwrap();
    let text = own.text.clone().unwrap();
    assert!(
        text.contains(&here.wrapping_sub(own.bias)),
        "{here:x} is in .text"
    );
    assert!(own.eh_frame.is_some() && own.eh_frame_hdr.is_some());
    assert!(
        modules
            .iter()
            .any(|module| module.path == VDSO && module.eh_frame.is_some())
    );
}
