//! Layouts that no installed compiler writes any more.

use super::*;

/// The table of Go 1.16 for one function: `main.leak` at 0x1000, of 32 bytes, in `/srv/leak.go`.
fn table_of_go_116() -> Vec<u8> {
    let mut bytes = vec![0xfa, 0xff, 0xff, 0xff, 0, 0, 1, 8];
    // Functions, files, then the places of names, units, files, values and functions.
    for word in [1_u64, 1, 64, 80, 96, 112, 128] {
        bytes.extend(word.to_le_bytes());
    }
    let put = |bytes: &mut Vec<u8>, at: usize, more: &[u8]| {
        bytes.resize(at, 0);
        bytes.extend(more);
    };
    put(&mut bytes, 64, b"\0main.leak\0");
    put(&mut bytes, 80, &0_u32.to_le_bytes());
    put(&mut bytes, 96, b"/srv/leak.go\0");
    // File 0 for 32 bytes; line 7 for 16 bytes, then line 9, then line 8.
    put(&mut bytes, 112, &[0, 2, 32, 0, 16, 16, 4, 8, 1, 8, 0]);
    put(&mut bytes, 128, &[]);
    for word in [0x1000_u64, 24, 0x1020] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(0x1000_u64.to_le_bytes());
    for field in [1_u32, 0, 0, 0, 1, 4, 0, 0, 0] {
        bytes.extend(field.to_le_bytes());
    }
    bytes
}

fn table(bytes: Vec<u8>) -> Option<LineTable> {
    Some(LineTable {
        header: Header::read(&bytes)?,
        bytes: bytes.into(),
        text: 0,
        function_data: None,
    })
}

#[test]
fn the_layout_of_go_116_is_read() {
    let table = table(table_of_go_116()).unwrap();
    for (address, line) in [
        (0x1000, 7),
        (0x100f, 7),
        (0x1010, 9),
        (0x1018, 8),
        (0x101f, 8),
    ] {
        let expected = Named {
            function: Some("main.leak".to_owned()),
            file: Some("/srv/leak.go".to_owned()),
            line: Some(line),
            inlined: false,
        };
        assert_eq!(table.frames(address), [expected], "{address:x}");
    }
    assert_eq!(table.frames(0xfff), []);
    assert_eq!(table.frames(0x1020), []);
}

#[test]
fn a_table_that_is_cut_short_is_none_or_tells_less() {
    let whole = table_of_go_116();
    for size in 0..whole.len() {
        let cut = table(whole[..size].to_vec());
        let frames = cut.map(|table| table.frames(0x1010)).unwrap_or_default();
        assert!(frames.len() <= 1);
    }
}

#[test]
fn a_packed_number_ends_within_five_bytes() {
    let read = |bytes: &[u8]| packed_number(&mut bytes.iter());
    assert_eq!(read(&[0x7f]), Some(127));
    assert_eq!(read(&[0x80, 1]), Some(128));
    assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Some(u32::MAX));
    assert_eq!(read(&[0x80; 6]), None);
    assert_eq!(read(&[0x80]), None);
    assert_eq!(read(&[]), None);
}

/// The table of Go 1.18 for one function with these flags: at 0x1000, of 32 bytes. Its frame has no size for
/// 4 bytes, then 80 bytes.
fn table_of_go_118(flags: u8) -> LineTable {
    let mut bytes = vec![0xf0, 0xff, 0xff, 0xff, 0, 0, 4, 8];
    // Functions, files, the address of the code, then the places of names, units, files, values and
    // functions.
    for word in [1_u64, 1, 0x1000, 72, 88, 96, 112, 128] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.resize(112, 0);
    bytes.extend([0, 2, 1, 160, 1, 7, 0]);
    bytes.resize(128, 0);
    for field in [0_u32, 12, 32] {
        bytes.extend(field.to_le_bytes());
    }
    for field in [0_u32, 1, 0, 0, 1, 0, 0, 0, 0] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend([0, flags, 0, 0]);
    LineTable {
        header: Header::read(&bytes).unwrap(),
        bytes: bytes.into(),
        text: 0x1000,
        function_data: None,
    }
}

#[test]
fn the_size_of_a_frame_is_told_for_each_address() {
    let table = table_of_go_118(0);
    for (address, bytes) in [(0x1000, 0), (0x1003, 0), (0x1004, 80), (0x101f, 80)] {
        assert_eq!(
            table.frame(address),
            Some(Frame::Bytes(bytes)),
            "{address:x}"
        );
    }
    assert_eq!(table.frame(0x1020), None);
}

#[test]
fn a_function_that_nothing_calls_is_outermost() {
    for flags in [OUTERMOST, OUTERMOST | CHANGES_STACK] {
        let frame = table_of_go_118(flags).frame(0x1004);
        assert_eq!(frame, Some(Frame::Outermost));
    }
}

#[test]
fn where_the_stack_is_changed_or_may_be_no_size_is_told() {
    assert_eq!(table_of_go_118(CHANGES_STACK).frame(0x1004), None);
    let old = table(table_of_go_116()).unwrap();
    assert_eq!(old.frame(0x1000), None, "1.16 has no flags");
}
