//! Perf maps: what a just-in-time compiler says about the code that it wrote.
//!
//! Each line has the start and size of a function, in hexadecimal digits, and its name. Compilers
//! use the same memory again, so that a later line takes the place of what lies under it.

use std::collections::BTreeMap;

use crate::code_path::name::clip;

/// Most bytes that are read.
const BYTES: usize = 64 << 20;
/// Most lines that are read.
const LINES: usize = 2_000_000;

/// The functions of a perf map.
#[derive(Debug, Default)]
pub struct PerfMap {
    /// The names, one behind the other.
    names: String,
    /// By start address. They do not overlap.
    functions: BTreeMap<u64, Function>,
}

#[derive(Clone, Copy, Debug)]
struct Function {
    /// The first address behind it.
    end: u64,
    /// Where its name is.
    name: (u32, u16),
}

impl PerfMap {
    /// Reads a perf map, as far as it makes sense. A line without an end is still being written.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut map = Self::default();
        let bytes = bytes.get(..BYTES).unwrap_or(bytes);
        for line in bytes.split_inclusive(|byte| *byte == b'\n').take(LINES) {
            let Some(line) = line.strip_suffix(b"\n") else {
                break;
            };
            if let Some((start, end, name)) = entry(line) {
                map.insert(start, end, &name);
            }
        }
        map
    }

    /// The function at an address.
    pub fn name(&self, address: u64) -> Option<&str> {
        let (_, function) = self.functions.range(..=address).next_back()?;
        let start = function.name.0 as usize;
        let end = start + usize::from(function.name.1);
        (address < function.end).then(|| self.names.get(start..end))?
    }

    fn insert(&mut self, start: u64, end: u64, name: &str) {
        let (Ok(at), Ok(length)) = (u32::try_from(self.names.len()), u16::try_from(name.len()))
        else {
            return;
        };
        self.make_room(start, end);
        self.names.push_str(name);
        let name = (at, length);
        self.functions.insert(start, Function { end, name });
    }

    /// Takes away what lies in a range, and cuts off what reaches into it.
    fn make_room(&mut self, start: u64, end: u64) {
        while let Some((&from, &old)) = self.functions.range(..end).next_back() {
            if old.end <= start {
                break;
            }
            self.functions.remove(&from);
            if end < old.end {
                self.functions.insert(end, old);
            }
            if from < start {
                self.functions.insert(from, Function { end: start, ..old });
            }
        }
    }
}

/// Start, end and name of one line.
fn entry(line: &[u8]) -> Option<(u64, u64, String)> {
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let start = hexadecimal(fields.next()?)?;
    let size = hexadecimal(fields.next()?)?;
    let name = String::from_utf8_lossy(fields.next()?);
    let end = start.checked_add(size).filter(|end| *end > start)?;
    let name = clip(name.trim());
    (!name.is_empty()).then_some((start, end, name))
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    let plain = digits.strip_prefix("0x").or(digits.strip_prefix("0X"));
    let plain = plain.unwrap_or(digits);
    // The parser would accept a sign.
    let all_digits = plain.bytes().all(|digit| digit.is_ascii_hexdigit());
    u64::from_str_radix(plain, 16).ok().filter(|_| all_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_have_a_prefix() {
        let map = PerfMap::parse(b"7f00 10 plain\n0x8000 0x20 with prefix\n0X9000 1 one\n");
        assert_eq!(map.name(0x7f00), Some("plain"));
        assert_eq!(map.name(0x7f0f), Some("plain"));
        assert_eq!(map.name(0x7f10), None, "the end lies behind the function");
        assert_eq!(map.name(0x7eff), None);
        assert_eq!(map.name(0x801f), Some("with prefix"));
        assert_eq!(map.name(0x9000), Some("one"));
    }

    #[test]
    fn a_later_line_takes_the_place_of_what_lies_under_it() {
        let map = PerfMap::parse(b"100 100 old\n140 40 new\n");
        assert_eq!(map.name(0x13f), Some("old"));
        assert_eq!(map.name(0x140), Some("new"));
        assert_eq!(map.name(0x17f), Some("new"));
        assert_eq!(map.name(0x180), Some("old"), "what is behind it stays");

        let map = PerfMap::parse(b"100 10 a\n110 10 b\n120 10 c\n108 20 over\n");
        let names = [0x107, 0x108, 0x110, 0x127, 0x128].map(|address| map.name(address));
        let expected = ["a", "over", "over", "over", "c"].map(Some);
        assert_eq!(names, expected);

        let map = PerfMap::parse(b"100 10 first\n100 10 second\n");
        assert_eq!(map.name(0x100), Some("second"));
    }

    #[test]
    fn lines_that_make_no_sense_are_skipped() {
        let map = PerfMap::parse(
            b"\nhello\nzz 10 bad start\n100 -1 sign\n+100 10 sign\n100 0 no size\n100 10\n100 10 \n\
              ffffffffffffffff 10 past the end\n11112222333344445 1 too many digits\n\
              0x 10 no digits\n200 10 \xff bytes\r\n300 10 unfinis",
        );
        assert_eq!(map.functions.len(), 1, "{map:?}");
        assert_eq!(map.name(0x200), Some("\u{fffd} bytes"));
        assert_eq!(map.name(0x300), None, "a cut name would be a wrong one");
        assert!(PerfMap::parse(b"").functions.is_empty());
    }

    #[test]
    fn long_names_are_cut_and_lines_are_counted() {
        let long = format!("100 10 {}\n", "n".repeat(5000));
        assert_eq!(
            PerfMap::parse(long.as_bytes()).name(0x100).unwrap().len(),
            1024
        );

        let mut many = b"100 10 first\n".repeat(LINES);
        many.extend(b"900 10 one too many\n");
        let map = PerfMap::parse(&many);
        assert_eq!(map.name(0x100), Some("first"));
        assert_eq!(map.name(0x900), None);
    }
}
