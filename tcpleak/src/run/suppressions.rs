//! Leaks that are known and do not count: the file `.tcpleak.toml`.
//!
//! Pure but for [`Suppressions::load`].

use std::{
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Context as _;
use jiff::civil::Date;
use serde::{Deserialize, Deserializer, de::Error as _};
use toml::{Spanned, value::Datetime};
use wildmatch::WildMatch;

use crate::{
    report::{CodePath, Frame, Group, Report, Suppressed, UnusedSuppression},
    select::Network,
    title::base_name,
};

/// The file that is looked for in the working directory.
const FILE: &str = ".tcpleak.toml";
/// Most bytes of such a file.
const BYTES: u64 = 1 << 20;

/// What is known and does not count.
#[derive(Debug, Default)]
pub struct Suppressions {
    path: PathBuf,
    rules: Vec<Rule>,
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    suppress: Vec<Entry>,
}

/// One suppression as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    process: Option<Pattern>,
    frame: Option<Pattern>,
    remote: Option<Remote>,
    reason: Spanned<String>,
    expires: Option<Expiry>,
}

/// One suppression: all patterns that it has must fit.
#[derive(Debug)]
struct Rule {
    process: Option<Pattern>,
    frame: Option<Pattern>,
    remote: Option<Remote>,
    reason: String,
    line: u64,
    expires: Option<Date>,
}

impl Suppressions {
    /// Reads a file; without one `.tcpleak.toml` in the working directory, if there is one.
    ///
    /// # Errors
    ///
    /// Names the file, and the line where something is wrong.
    pub fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        let file = path.unwrap_or(Path::new(FILE));
        let opened = match File::open(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_none() => {
                return Ok(Self::default());
            }
            opened => opened,
        };
        let mut text = String::new();
        opened
            .and_then(|file| file.take(BYTES + 1).read_to_string(&mut text))
            .with_context(|| format!("{} cannot be read", file.display()))?;
        anyhow::ensure!(
            text.len() as u64 <= BYTES,
            "{} is larger than a file of suppressions may be (1 MiB)",
            file.display()
        );
        Self::parse(file, &text)
    }

    fn parse(path: &Path, text: &str) -> anyhow::Result<Self> {
        let document: Document = toml::from_str(text).map_err(|error| {
            anyhow::anyhow!("{}: {}", path.display(), error.to_string().trim_end())
        })?;
        let rules = document.suppress.into_iter();
        let rules: anyhow::Result<Vec<Rule>> =
            rules.map(|entry| Rule::of(path, text, entry)).collect();
        Ok(Self {
            path: path.into(),
            rules: rules?,
        })
    }

    /// The file that they come from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the leaks that do not count out of a report. Gives these, and the suppressions that were about
    /// none. The day on which a suppression expires is its last one.
    pub fn apply(
        &self,
        report: &mut Report,
        today: Date,
    ) -> (Vec<Suppressed>, Vec<UnusedSuppression>) {
        let is_over = |rule: &Rule| rule.expires.is_some_and(|expires| expires < today);
        let mut is_used = vec![false; self.rules.len()];
        let (mut suppressed, mut kept) = (Vec::new(), Vec::new());
        for group in report.groups.drain(..) {
            let fits = |rule: &Rule| !is_over(rule) && rule.fits(&group);
            let Some(number) = self.rules.iter().position(fits).filter(|_| group.leak) else {
                kept.push(group);
                continue;
            };
            is_used[number] = true;
            let rule = &self.rules[number];
            suppressed.push(Suppressed {
                reason: rule.reason.clone(),
                line: rule.line,
                group,
            });
        }
        report.groups = kept;
        let unused = self.rules.iter().zip(is_used).filter(|(_, used)| !used);
        let unused = unused.map(|(rule, _)| UnusedSuppression {
            reason: rule.reason.clone(),
            line: rule.line,
            expired: is_over(rule),
        });
        (suppressed, unused.collect())
    }
}

impl Rule {
    fn of(path: &Path, text: &str, entry: Entry) -> anyhow::Result<Self> {
        let start = entry.reason.span().start;
        let line = 1 + text[..start].bytes().filter(|byte| *byte == b'\n').count() as u64;
        let at = || format!("{}:{line}", path.display());
        let reason = entry.reason.into_inner();
        anyhow::ensure!(!reason.trim().is_empty(), "{}: the reason is empty", at());
        let is_about_all =
            entry.process.is_none() && entry.frame.is_none() && entry.remote.is_none();
        anyhow::ensure!(
            !is_about_all,
            "{}: a suppression needs a process, a frame or a remote: without, it is about every leak",
            at()
        );
        Ok(Self {
            process: entry.process,
            frame: entry.frame,
            remote: entry.remote,
            reason,
            line,
            expires: entry.expires.map(|Expiry(date)| date),
        })
    }

    fn fits(&self, group: &Group) -> bool {
        let process = |pattern: &Pattern| {
            let exe = group.process.exe.as_deref();
            let names = [exe, exe.map(base_name), Some(&group.process.comm)];
            names.into_iter().flatten().any(|name| pattern.fits(name))
        };
        let frame = |pattern: &Pattern| {
            let texts = |frame: &Frame| {
                [&frame.function, &frame.file]
                    .into_iter()
                    .flatten()
                    .any(|text| pattern.fits(text))
            };
            frames(group).any(texts)
        };
        let remote = |remote: &Remote| {
            let mut ends = group.connections.iter().map(|one| one.remote.parse());
            ends.all(|end| end.is_ok_and(|end| remote.contains(end)))
        };
        self.process.as_ref().is_none_or(process)
            && self.frame.as_ref().is_none_or(frame)
            && self.remote.as_ref().is_none_or(remote)
    }
}

/// Every frame that is known of a group.
fn frames(group: &Group) -> impl Iterator<Item = &Frame> {
    let last = group.last_use.as_ref();
    let used = last.into_iter().flat_map(|last| [&last.read, &last.write]);
    let paths = [&group.origin].into_iter().chain(used).flatten();
    paths.flat_map(|path: &CodePath| {
        let asked = path.requested_by.as_deref().unwrap_or_default();
        path.frames.iter().chain(asked)
    })
}

/// A text in which `*` stands for any characters, and `?` for one.
#[derive(Debug)]
struct Pattern(WildMatch);

impl Pattern {
    fn fits(&self, text: &str) -> bool {
        self.0.matches(text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Err(D::Error::custom(
                "an empty pattern fits nothing; write \"*\" for anything",
            ));
        }
        Ok(Self(WildMatch::new(&text)))
    }
}

/// The last day of a suppression.
struct Expiry(Date);

impl<'de> Deserialize<'de> for Expiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Datetime::deserialize(deserializer)?;
        let date = written.to_string().parse().ok();
        date.filter(|_| written.time.is_none())
            .map(Self)
            .ok_or_else(|| D::Error::custom("write a day, without quotes: 2027-01-31"))
    }
}

/// Remote ends: a network or an address, and a port, or one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    network: Option<Network>,
    port: Option<u16>,
}

impl Remote {
    fn contains(&self, end: SocketAddr) -> bool {
        self.network
            .is_none_or(|network| network.contains(end.ip()))
            && self.port.is_none_or(|port| port == end.port())
    }
}

impl FromStr for Remote {
    type Err = String;

    /// `10.0.0.0/8:443`, `10.0.0.5`, `[fd00::/8]:443`, `fd00::/8`, `:443`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (network, port) = match (bracketed, text.rsplit_once(':')) {
            (Some((network, "")), _) => (network, None),
            (Some((network, rest)), _) => match rest.strip_prefix(':') {
                Some(port) => (network, Some(port)),
                None => return Err(format!("{rest:?} is not a colon and a port")),
            },
            // More than one colon: an address of IPv6.
            (None, Some((network, port))) if !network.contains(':') => (network, Some(port)),
            (None, _) => (text, None),
        };
        let port = port
            .map(|port| {
                port.parse()
                    .map_err(|_| format!("{port:?} is not a port: write 10.0.0.0/8:443"))
            })
            .transpose()?;
        let network = match network {
            "" if port.is_some() => None,
            network => Some(network.parse()?),
        };
        Ok(Self { network, port })
    }
}

impl<'de> Deserialize<'de> for Remote {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
