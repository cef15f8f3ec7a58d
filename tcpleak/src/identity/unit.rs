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
    // Escapes stay: systemctl takes the name as it is here.
    (!stem.is_empty()).then(|| name.to_owned())
}
