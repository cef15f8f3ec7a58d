//! Systemd units in the path of a control group.

/// Most bytes of the name of a unit; systemd allows no more.
const NAME_BYTES: usize = 255;

/// The unit of the innermost part that is one. Slices hold units and are none themselves.
pub fn innermost(parts: &[&str]) -> Option<String> {
    parts.iter().rev().find_map(|part| unit(part))
}

fn unit(part: &str) -> Option<String> {
    if part.len() > NAME_BYTES {
        return None;
    }
    // Systemd puts it before names that the kernel could take for files of its own.
    let name = part.strip_prefix('_').unwrap_or(part);
    let stem = name
        .strip_suffix(".service")
        .or_else(|| name.strip_suffix(".scope"))?;
    (!stem.is_empty()).then(|| unescape(name))
}

/// Puts characters in the place of systemd's escapes, such as `\x2d`, but for those that are not
/// printable.
fn unescape(name: &str) -> String {
    let mut parts = name.split(r"\x");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let character = part
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .map(char::from)
            .filter(|character| *character == ' ' || character.is_ascii_graphic());
        match character {
            Some(character) => {
                text.push(character);
                text.push_str(&part[2..]);
            }
            None => {
                text.push_str(r"\x");
                text.push_str(part);
            }
        }
    }
    text
}
