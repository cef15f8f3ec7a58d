//! Making text from strangers printable.
//!
//! Names of processes, paths, symbols and command lines are chosen by the programs under
//! observation. An escape sequence in one of them could recolour, retitle or rewrite the terminal
//! of whoever reads the report, and an invisible character could make one name look like another.

use std::{borrow::Cow, fmt::Write as _};

/// The text with every [`is_hostile`] character written out: `\x1b` for ASCII, `\u{202e}` beyond.
///
/// Backslashes stay as they are: the result is meant to be read, not to be decoded.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut printable = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if !is_hostile(character) {
            printable.push(character);
        } else if character.is_ascii() {
            let _ = write!(printable, "\\x{:02x}", u32::from(character));
        } else {
            let _ = write!(printable, "\\u{{{:x}}}", u32::from(character));
        }
    }
    Cow::Owned(printable)
}

/// What stands for the rest of a text that is too long.
const CUT: char = '…';

/// A text that is [`plain`], and cut where it is longer than so many bytes, of which there must be more than
/// a few.
pub fn plain_within(text: &str, bytes: usize) -> Cow<'_, str> {
    let text = plain(text);
    if text.len() <= bytes {
        return text;
    }
    let room = bytes.saturating_sub(CUT.len_utf8());
    Cow::Owned(format!("{}{CUT}", head(&text, room)))
}

/// The beginning of a text: as many whole characters as so many bytes have room for.
pub fn head(text: &str, bytes: usize) -> &str {
    let ends = (0..=bytes.min(text.len())).rev();
    let end = ends.into_iter().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// Whether a terminal would obey the character, or not show it where it stands: control characters
/// (C0, DEL, C1), line separators, bidirectional controls, and other characters without a shape.
pub fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_not_touched() {
        for name in [
            "python3",
            "Web Content",
            "App\\Http\\Kernel::handle",
            "köln",
            "数据库",
        ] {
            assert!(matches!(plain(name), Cow::Borrowed(same) if same == name));
        }
    }

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(plain("\x1b[2Jsh"), "\\x1b[2Jsh");
        assert_eq!(plain("a\nb\r\tc\0"), "a\\x0ab\\x0d\\x09c\\x00");
        assert_eq!(plain("\x7f"), "\\x7f");
    }

    #[test]
    fn one_character_control_sequences_are_written_out() {
        assert_eq!(plain("\u{9b}31mred"), "\\u{9b}31mred");
    }

    #[test]
    fn text_cannot_be_turned_around_or_hidden() {
        assert_eq!(plain("gpj.\u{202e}exe"), "gpj.\\u{202e}exe");
        assert_eq!(plain("ssh\u{200b}d"), "ssh\\u{200b}d");
        assert_eq!(plain("\u{2066}x\u{2069}"), "\\u{2066}x\\u{2069}");
        assert_eq!(plain("two\u{2028}lines"), "two\\u{2028}lines");
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_two_characters() {
        let long = plain_within(&"ü".repeat(100), 20).into_owned();
        assert_eq!(long, format!("{}…", "ü".repeat(8)));
        assert_eq!(plain_within("a\nb", 6), "a\\x0ab");
        assert_eq!(plain_within("a\nb", 5), "a\\…");
        assert_eq!(
            (head("für", 2), head("für", 3), head("für", 9)),
            ("f", "fü", "für")
        );
    }
}
