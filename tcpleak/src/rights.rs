//! What tcpleak gives up once its programs are attached, and what it keeps.
//!
//! Rights belong to threads: only what is made afterwards is without them.

use std::{fs::File, io::Read as _, str::FromStr};

use anyhow::{Context as _, bail};
use rustix::{
    process::{Gid, Uid},
    thread::{CapabilitySet, capabilities, set_keep_capabilities, set_no_new_privs},
};

use crate::confine::{self, NOBODY};

/// The capabilities that are kept, by their names, and what each is for.
pub const KEPT: [(CapabilitySet, &str, &str); 6] = [
    (CapabilitySet::BPF, "CAP_BPF", "run surveys"),
    (
        CapabilitySet::PERFMON,
        "CAP_PERFMON",
        "attach what only suspects need",
    ),
    (
        CapabilitySet::SYS_PTRACE,
        "CAP_SYS_PTRACE",
        "read the stacks and runtimes of other processes",
    ),
    (
        CapabilitySet::DAC_READ_SEARCH,
        "CAP_DAC_READ_SEARCH",
        "read the programs and symbols of other users",
    ),
    (
        CapabilitySet::CHECKPOINT_RESTORE,
        "CAP_CHECKPOINT_RESTORE",
        "read programs whose file is gone or in another mount namespace",
    ),
    (
        CapabilitySet::SYS_ADMIN,
        "CAP_SYS_ADMIN",
        "enter network namespaces",
    ),
];

/// Most bytes that are read of the list of users.
const PASSWD_BYTES: u64 = 1 << 20;

/// A user to become, by name or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User(String);

impl Default for User {
    /// The user that owns nothing.
    fn default() -> Self {
        Self("nobody".into())
    }
}

impl FromStr for User {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

/// Becomes this user, and gives up every right that is not [`KEPT`]. Who may not change users stays who it is.
///
/// # Errors
///
/// When there is no such user, or a right that it has cannot be given up.
pub fn give_up(user: &User) -> anyhow::Result<()> {
    let (uid, gid) = user.ids()?;
    let before = capabilities(None).context("capabilities")?;
    set_no_new_privs(true).context("no_new_privs")?;
    if !uid.is_root() && before.effective.contains(CapabilitySet::SETUID) {
        let changed = set_keep_capabilities(true).and_then(|()| confine::become_user(uid, gid));
        changed.with_context(|| format!("cannot become user {}", user.0))?;
    }
    let kept = KEPT.iter().map(|(capability, ..)| *capability);
    let kept = before.permitted & kept.collect::<CapabilitySet>();
    confine::keep_capabilities(kept).context("capabilities cannot be given up")
}

impl User {
    fn ids(&self) -> anyhow::Result<(Uid, Gid)> {
        let user = &self.0;
        if user == "nobody" {
            return Ok((Uid::from_raw(NOBODY), Gid::from_raw(NOBODY)));
        }
        let mut users = String::new();
        File::open("/etc/passwd")
            .and_then(|file| file.take(PASSWD_BYTES).read_to_string(&mut users))
            .context("cannot read /etc/passwd")?;
        match (ids(user, &users), user.parse()) {
            (Some(ids), _) => Ok(ids),
            (None, Ok(number)) if number != u32::MAX => {
                Ok((Uid::from_raw(number), Gid::from_raw(NOBODY)))
            }
            _ => bail!("there is no user {user} in /etc/passwd"),
        }
    }
}

/// The user with this name or number in the lines of `/etc/passwd`.
fn ids(user: &str, users: &str) -> Option<(Uid, Gid)> {
    users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, ..] = fields[..] else {
            return None;
        };
        (name == user || uid == user).then_some(())?;
        Some((
            Uid::from_raw(uid.parse().ok()?),
            Gid::from_raw(gid.parse().ok()?),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str =
        "root:x:0:0:root:/root:/bin/bash\nbroken\nwww-data:x:33:34:x:/:/bin/false\n";

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let expected = Some((Uid::from_raw(33), Gid::from_raw(34)));
        assert_eq!(ids("www-data", USERS), expected);
        assert_eq!(ids("33", USERS), expected);
        assert_eq!(ids("broken", USERS), None);
        assert_eq!(ids("x", USERS), None);
    }

    #[test]
    fn a_user_that_does_not_exist_is_named() {
        let user: User = "no-such-user".parse().unwrap();
        let error = user.ids().unwrap_err().to_string();
        assert!(error.contains("no-such-user"), "{error}");
    }
}
