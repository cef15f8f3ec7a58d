use super::*;

/// Builds type information piece by piece; the first type added is type 1.
#[derive(Default)]
struct Builder {
    types: Vec<u32>,
    strings: Vec<u8>,
    count: u32,
}

impl Builder {
    fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let offset = self.strings.len() as u32;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        offset
    }

    fn add(&mut self, name: &str, kind: u32, info: u32, size_or_type: u32, data: &[u32]) -> u32 {
        let name = self.name(name);
        self.types
            .extend_from_slice(&[name, kind << 24 | info, size_or_type]);
        self.types.extend_from_slice(data);
        self.count += 1;
        self.count
    }

    fn int(&mut self, name: &str, bytes: u32) -> u32 {
        self.add(name, kind::INT, 0, bytes, &[8 * bytes])
    }

    /// A structure or union; members are (name, type, place as stored).
    fn members(
        &mut self,
        kind: u32,
        flag: bool,
        name: &str,
        size: u32,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let data: Vec<u32> = members
            .iter()
            .flat_map(|(name, id, place)| [self.name(name), *id, *place])
            .collect();
        self.add(
            name,
            kind,
            members.len() as u32 | u32::from(flag) << 31,
            size,
            &data,
        )
    }

    fn build(&self) -> Vec<u8> {
        let types = 4 * self.types.len() as u32;
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&0xEB9F_u16.to_ne_bytes());
        bytes.extend_from_slice(&[1, 0]);
        for word in [24, 0, types, types, self.strings.len() as u32] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        for word in &self.types {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(&self.strings);
        bytes
    }
}

/// A small kernel: a socket with everything that makes real ones awkward.
fn sample() -> Vec<u8> {
    let mut builder = Builder::default();
    let int = builder.int("int", 4);
    let short = builder.int("short", 2);
    let port = builder.add("__be16", kind::TYPEDEF, 0, short, &[]);
    let volatile_port = builder.add("", kind::VOLATILE, 0, port, &[]);
    let ports = builder.members(
        kind::STRUCT,
        false,
        "",
        4,
        &[("skc_dport", volatile_port, 0), ("skc_num", short, 16)],
    );
    let pair = builder.members(
        kind::UNION,
        false,
        "",
        4,
        &[("skc_portpair", int, 0), ("", ports, 0)],
    );
    let bit = builder.add("flag_bits", kind::INT, 0, 1, &[3 << 16 | 1]);
    let common = builder.members(
        kind::STRUCT,
        false,
        "sock_common",
        20,
        &[
            ("skc_hash", int, 0),
            ("", pair, 32),
            ("skc_reuse", bit, 64),
            ("skc_state", int, 96),
        ],
    );
    let common_name = builder.add("sock_common_t", kind::TYPEDEF, 0, common, &[]);
    let pointer = builder.add("", kind::PTR, 0, common, &[]);
    let row = builder.add("", kind::ARRAY, 0, 0, &[short, int, 3]);
    let grid = builder.add("", kind::ARRAY, 0, 0, &[row, int, 2]);
    builder.members(
        kind::STRUCT,
        true,
        "sock",
        48,
        &[
            ("lock", int, 0),
            ("__sk_common", common_name, 32),
            ("parent", pointer, 192),
            ("grid", grid, 256),
            ("no_check", int, 2 << 24 | 352),
        ],
    );
    builder.add("gone", kind::FWD, 0, 0, &[]);
    builder.add("mode", kind::ENUM, 1, 4, &[0, 7]);
    builder.add("wide", kind::ENUM64, 1, 8, &[0, 7, 0]);
    builder.add("real", kind::FLOAT, 0, 8, &[]);
    let tag = builder.add("user", kind::TYPE_TAG, 0, int, &[]);
    builder.add("", kind::RESTRICT, 0, tag, &[]);
    builder.add("", kind::CONST, 0, tag, &[]);
    let accept = builder.add("", kind::FUNC_PROTO, 2, pointer, &[0, pointer, 0, int]);
    builder.add("inet_csk_accept", kind::FUNC, 1, accept, &[]);
    let print = builder.add("", kind::FUNC_PROTO, 2, int, &[0, pointer, 0, 0]);
    builder.add("_printk", kind::FUNC, 1, print, &[]);
    let nothing = builder.add("", kind::FUNC_PROTO, 0, 0, &[]);
    builder.add("schedule", kind::FUNC, 1, nothing, &[]);
    let variable = builder.add("jiffies", kind::VAR, 0, int, &[1]);
    builder.add(".data", kind::DATASEC, 1, 4, &[variable, 0, 4]);
    builder.add("note", kind::DECL_TAG, 0, int, &[u32::MAX]);
    builder.add("sock", kind::TYPEDEF, 0, common, &[]);
    builder.build()
}

fn parsed() -> Btf {
    Btf::parse(sample()).unwrap()
}

fn owned(structure: &str, member: &str) -> (String, String) {
    (structure.to_owned(), member.to_owned())
}

#[test]
fn members_are_found_inside_anonymous_structures_and_behind_typedefs() {
    let btf = parsed();
    assert_eq!(btf.offset_of("sock_common", "skc_num"), Ok(6));
    assert_eq!(btf.offset_of("sock", "__sk_common"), Ok(4));
    assert_eq!(btf.offset_of("sock", "__sk_common.skc_dport"), Ok(8));
    assert_eq!(btf.offset_of("sock", "__sk_common.skc_num"), Ok(10));
    assert_eq!(btf.offset_of("sock_common_t", "skc_state"), Ok(12));
}

#[test]
fn sizes_are_those_of_the_type_behind_the_name() {
    let btf = parsed();
    assert_eq!(btf.member_size("sock", "__sk_common.skc_dport"), Ok(2));
    assert_eq!(btf.member_size("sock", "parent"), Ok(8));
    assert_eq!(btf.member_size("sock", "grid"), Ok(12));
    assert_eq!(btf.member_size("sock", "__sk_common"), Ok(20));
}

#[test]
fn bit_fields_of_both_encodings_are_refused_by_name() {
    let btf = parsed();
    let (structure, member) = owned("sock", "no_check");
    assert_eq!(
        btf.offset_of("sock", "no_check"),
        Err(BtfError::BitField { structure, member })
    );
    let (structure, member) = owned("sock_common", "skc_reuse");
    let refused = btf.offset_of("sock_common", "skc_reuse");
    assert_eq!(refused, Err(BtfError::BitField { structure, member }));
}

#[test]
fn what_is_missing_is_named() {
    let btf = parsed();
    assert_eq!(
        btf.offset_of("socket", "sk"),
        Err(BtfError::NoStructure("socket".into()))
    );
    assert_eq!(
        btf.offset_of("gone", "sk"),
        Err(BtfError::NoStructure("gone".into()))
    );
    let (structure, member) = owned("sock", "skc_rare");
    let missing = btf.offset_of("sock", "__sk_common.skc_rare").unwrap_err();
    assert_eq!(missing, BtfError::NoMember { structure, member });
    assert!(
        missing
            .to_string()
            .contains("`sock` has no member `skc_rare`"),
        "{missing}"
    );
    assert!(btf.offset_of("sock", "").is_err());
    assert!(btf.offset_of("sock", "__sk_common.").is_err());
}

#[test]
fn pointers_are_not_followed() {
    let (structure, member) = owned("sock", "parent");
    let refused = parsed().offset_of("sock", "parent.skc_state");
    assert_eq!(refused, Err(BtfError::NotAStructure { structure, member }));
}

#[test]
fn an_unknown_kind_is_named_with_its_number() {
    let mut builder = Builder::default();
    builder.int("int", 4);
    builder.add("later", 23, 0, 0, &[]);
    let error = Btf::parse(builder.build()).unwrap_err();
    assert_eq!(error, BtfError::UnknownKind { kind: 23, id: 2 });
}

#[test]
fn bytes_of_another_format_or_byte_order_are_refused() {
    assert_eq!(Btf::parse(Vec::new()).unwrap_err(), BtfError::NotBtf);
    assert_eq!(
        Btf::parse(b"\x7fELF and so on".to_vec()).unwrap_err(),
        BtfError::NotBtf
    );
    let mut foreign = sample();
    foreign.swap(0, 1);
    assert_eq!(Btf::parse(foreign).unwrap_err(), BtfError::NotBtf);
}

#[test]
fn types_that_contain_themselves_are_an_error_not_a_hang() {
    let mut builder = Builder::default();
    builder.add("circle", kind::TYPEDEF, 0, 1, &[]);
    // Each holds itself sixteen times: the walk would double with every level.
    let members = [("", 2, 0); 16];
    builder.members(kind::STRUCT, false, "nest", 4, &members);
    builder.add("", kind::ARRAY, 0, 0, &[3, 3, 1]);
    builder.members(kind::STRUCT, false, "holder", 4, &[("endless", 3, 0)]);
    let btf = Btf::parse(builder.build()).unwrap();
    assert!(matches!(
        btf.offset_of("circle", "member"),
        Err(BtfError::Damaged(_))
    ));
    assert!(matches!(
        btf.offset_of("nest", "member"),
        Err(BtfError::Damaged(_))
    ));
    assert!(matches!(
        btf.member_size("holder", "endless"),
        Err(BtfError::Damaged(_))
    ));
}

/// Asks for everything; the answers do not matter, only that there are answers.
fn exercise(bytes: Vec<u8>) {
    if let Ok(btf) = Btf::parse(bytes) {
        for structure in ["sock", "sock_common", "sock_common_t", "gone"] {
            for path in [
                "__sk_common.skc_num",
                "grid",
                "no_check",
                "parent",
                "skc_state",
                "lock.x",
            ] {
                let _ = btf.offset_of(structure, path);
                let _ = btf.member_size(structure, path);
            }
        }
    }
}

#[test]
fn cut_off_bytes_are_an_error() {
    let whole = sample();
    for length in 0..whole.len() {
        assert!(
            Btf::parse(whole[..length].to_vec()).is_err(),
            "cut to {length} bytes"
        );
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let whole = sample();
    for position in 0..whole.len() {
        for value in [
            0x00,
            0x01,
            0x7F,
            0x80,
            0xFF,
            whole[position] ^ 0x04,
            whole[position] ^ 0x10,
        ] {
            let mut damaged = whole.clone();
            damaged[position] = value;
            exercise(damaged);
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..2_000 {
        // A sound header, so that the types are read at all.
        let mut bytes = sample();
        let start = 24 + random() as usize % (bytes.len() - 24);
        let end = start + random() as usize % (bytes.len() - start);
        bytes[start..end].fill_with(|| random() as u8);
        exercise(bytes);
    }
}

/// These are not figures of one kernel but relations that hold on every one.
#[test]
fn the_running_kernel_is_understood() {
    let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("this kernel offers its BTF");
    let btf = Btf::parse(bytes).unwrap();
    let port = btf.offset_of("sock_common", "skc_dport").unwrap();
    assert_eq!(btf.offset_of("sock_common", "skc_num"), Ok(port + 2));
    assert_eq!(btf.member_size("sock_common", "skc_dport"), Ok(2));
    let remote = btf.offset_of("sock_common", "skc_daddr").unwrap();
    assert_eq!(
        btf.offset_of("sock_common", "skc_rcv_saddr"),
        Ok(remote + 4)
    );
    assert_eq!(
        btf.offset_of("sock_common", "skc_v6_daddr.in6_u")
            .map(|at| at % 8),
        Ok(0)
    );
    assert_eq!(btf.member_size("sock_common", "skc_v6_daddr"), Ok(16));
    assert_eq!(btf.offset_of("sock", "__sk_common"), Ok(0));
    assert_eq!(btf.offset_of("tcp_sock", "inet_conn"), Ok(0));
    assert_eq!(
        btf.offset_of("tcp_sock", "inet_conn.icsk_inet.sk.__sk_common.skc_dport"),
        Ok(port)
    );
    assert_eq!(btf.member_size("task_struct", "comm"), Ok(16));
    assert_eq!(btf.member_size("tcp_sock", "copied_seq"), Ok(4));
    assert!(matches!(
        btf.offset_of("tcp_sock", "nonagle"),
        Err(BtfError::BitField { .. })
    ));
}

#[test]
fn functions_tell_how_many_parameters_they_have() {
    let types = parsed();
    assert_eq!(types.parameters("inet_csk_accept"), Some(2));
    assert_eq!(types.parameters("schedule"), Some(0));
    assert_eq!(
        types.parameters("jiffies"),
        None,
        "a variable is no function"
    );
    assert_eq!(types.parameters("no_such_function"), None);
}
