//! Tables that lead from an instruction to its line.

/// The line of an instruction that begins so many bytes into its code. `minor` is the version of
/// CPython, whose tables have changed over time. None when the table does not say.
pub fn line(minor: u8, table: &[u8], first_line: i64, offset: u64) -> Option<u32> {
    let line = match minor {
        ..=9 => by_pairs(table, first_line, offset),
        10 => by_ranges(table, first_line, offset),
        _ => by_entries(table, first_line, offset),
    };
    u32::try_from(line?).ok().filter(|line| *line > 0)
}

/// Until 3.9: pairs of how many bytes and how many lines further the next line begins.
fn by_pairs(table: &[u8], first_line: i64, offset: u64) -> Option<i64> {
    let mut line = first_line;
    let mut start = 0_u64;
    for [bytes, lines] in table.as_chunks().0 {
        start += u64::from(*bytes);
        if start > offset {
            break;
        }
        line += i64::from(*lines as i8);
    }
    Some(line)
}

/// 3.10: pairs of how many bytes a range has, and how many lines it lies behind the range before.
fn by_ranges(table: &[u8], first_line: i64, offset: u64) -> Option<i64> {
    const NO_LINE: i8 = -128;
    let mut line = first_line;
    let mut end = 0_u64;
    for [bytes, lines] in table.as_chunks().0 {
        let lines = *lines as i8;
        if lines != NO_LINE {
            line += i64::from(lines);
        }
        end += u64::from(*bytes);
        if end > offset {
            return (lines != NO_LINE).then_some(line);
        }
    }
    None
}

/// From 3.11 on: entries of different length, each about one to eight code units of two bytes.
fn by_entries(table: &[u8], first_line: i64, offset: u64) -> Option<i64> {
    const UNIT: u64 = 2;
    let mut line = first_line;
    let mut end = 0_u64;
    let mut rest = table.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let code = first >> 3 & 0xf;
        end += (u64::from(first & 7) + 1) * UNIT;
        let mut has_line = true;
        match code {
            // The columns alone.
            0..=9 => {}
            10..=12 => line += i64::from(code) - 10,
            13 | 14 => line = line.checked_add(signed(&mut rest)?)?,
            _ => has_line = false,
        }
        if end > offset {
            return has_line.then_some(line);
        }
        // The first byte of an entry has the highest bit set, no other has.
        while rest.next_if(|byte| byte & 0x80 == 0).is_some() {}
    }
    None
}

/// A number in groups of six bits, the lowest first, of which the lowest bit is the sign.
fn signed(bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..60).step_by(6) {
        let byte = bytes.next()?;
        value |= u64::from(byte & 0x3f) << shift;
        if byte & 0x40 == 0 {
            let magnitude = i64::try_from(value >> 1).ok()?;
            return Some(if value & 1 == 0 {
                magnitude
            } else {
                -magnitude
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_lead_to_lines_until_3_9() {
        // Line 10 from the start, line 11 from byte 6 on, line 9 from byte 50 on.
        let table = [6, 1, 44, 0xfe];
        let line = |offset| line(9, &table, 10, offset);
        assert_eq!(
            [0, 5, 6, 49, 50, 5000].map(line),
            [10, 10, 11, 11, 9, 9].map(Some)
        );
    }

    #[test]
    fn ranges_lead_to_lines_in_3_10() {
        let table = [4, 0, 6, 2, 2, 0x80, 4, 0xff];
        let line = |offset| line(10, &table, 10, offset);
        assert_eq!(
            [0, 4, 9, 10, 12, 16].map(line),
            [Some(10), Some(12), Some(12), None, Some(11), None]
        );
    }

    #[test]
    fn entries_lead_to_lines_from_3_11_on() {
        // One unit without a line, two units on the first one, then short ones, a long one back.
        let table = [
            0xf8, 0xd9, 5, 3, 0x80, 0x11, 0xe8, 0x43, 1, 0xf0, 0x07, 2, 3, 4,
        ];
        let line = |offset| line(12, &table, 100, offset);
        assert_eq!(line(0), None);
        assert_eq!([2, 4].map(line), [Some(101); 2]);
        assert_eq!(line(6), Some(101));
        assert_eq!(line(8), Some(101 - 33));
        assert_eq!([10, 12].map(line), [Some(101 - 33 - 3), None]);
    }
}
