//! Where in the code: what opened the connections of a group, and what used them last.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use super::{
    amount::{duration, things},
    code_path::{self, Shown},
    explanation,
    page::{NORMAL, Page, Span},
};
use crate::{
    report::{CodePath, Direction, Group, LastUse, PathKind, TitlePath, Verdict},
    title::own_functions_of,
};

/// Most lines of the path that opened the connections, and of one that used them last.
const ORIGIN_ROWS: usize = 16;
const LAST_USE_ROWS: usize = 8;

/// Writes the code paths of a group; the one that the title is from comes first.
pub(super) fn write(
    group: &Group,
    full_stacks: bool,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let titled_by_use = group
        .title
        .as_ref()
        .is_some_and(|title| title.path != TitlePath::Origin);
    let last_use = group.last_use.as_ref();
    if titled_by_use {
        write_last_use(last_use, group, full_stacks, page)?;
        write_origin(group, full_stacks, page)
    } else {
        write_origin(group, full_stacks, page)?;
        write_last_use(last_use, group, full_stacks, page)
    }
}

fn write_origin(
    group: &Group,
    full_stacks: bool,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let Some(path) = &group.origin else {
        // Nobody has touched them yet: there is no code to name.
        if group.verdict == Verdict::NotAccepted {
            return Ok(());
        }
        let reason = explanation::no_code_path(group);
        return page.labelled("Code", &[Span::new(NORMAL, reason)]);
    };
    let how = match path.kind {
        PathKind::Connect => "opened by connect(), called from (innermost first)",
        PathKind::Accept => "opened by accept(), called from (innermost first)",
        PathKind::FirstUse => "first used (accept() was not seen) by (innermost first)",
        PathKind::Read => "first read by (innermost first)",
        PathKind::Write => "first written by (innermost first)",
        PathKind::Close => "closed by (innermost first)",
    };
    let shown = |rows| match full_stacks {
        true => Shown::Whole,
        false => Shown::Folded(rows),
    };
    let (label, rows) = match &path.requested_by {
        Some(asked) => {
            let who = "requested by (innermost first)";
            page.labelled("Code", &[Span::new(NORMAL, who)])?;
            code_path::write_frames(asked, shown(ORIGIN_ROWS), page)?;
            ("", LAST_USE_ROWS)
        }
        None => ("Code", ORIGIN_ROWS),
    };
    page.labelled(label, &[Span::new(NORMAL, how)])?;
    code_path::write(path, shown(rows), page)
}

fn write_last_use(
    last_use: Option<&LastUse>,
    group: &Group,
    full_stacks: bool,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let Some(last_use) = last_use else {
        return Ok(());
    };
    let (latest, other) = Way::both(last_use);
    let together = !full_stacks && latest.has_own() && latest.own() == other.own();
    let and = match together {
        true => format!(", and {} before that", other.done),
        false => String::new(),
    };
    let order = match (latest.path, latest.since) {
        (Some(_), 0) => " (innermost first)",
        _ => "",
    };
    let how = format!(
        "{} {} ago{and}{}{order}",
        latest.done,
        duration(last_use.ago_s),
        latest.captured(group)
    );
    page.labelled("Last use", &[Span::new(NORMAL, &how)])?;
    if let Some(path) = latest.path {
        code_path::write(path, latest.shown(group, full_stacks), page)?;
    }
    let Some(path) = other.path.filter(|_| !together) else {
        return Ok(());
    };
    // What says nothing of the program is left out, unless there is nothing else.
    let shown = match (full_stacks, other.has_own()) {
        (true, _) => Shown::Whole,
        (false, true) => Shown::Own,
        (false, false) if latest.path.is_none() => Shown::Folded(LAST_USE_ROWS),
        (false, false) => return Ok(()),
    };
    let how = format!("{} before that{}", other.done, other.captured(group));
    page.labelled("", &[Span::new(NORMAL, &how)])?;
    code_path::write(path, shown, page)
}

/// The last use in one direction.
struct Way<'a> {
    done: &'static str,
    singular: &'static str,
    path: Option<&'a CodePath>,
    since: u64,
}

impl<'a> Way<'a> {
    /// The later one first.
    fn both(last_use: &'a LastUse) -> (Self, Self) {
        let read = Self {
            done: "read",
            singular: "read",
            path: last_use.read.as_ref(),
            since: last_use.reads_since,
        };
        let write = Self {
            done: "written",
            singular: "write",
            path: last_use.write.as_ref(),
            since: last_use.writes_since,
        };
        match last_use.direction {
            Direction::Read => (read, write),
            Direction::Write => (write, read),
        }
    }

    fn own(&self) -> Vec<Cow<'_, str>> {
        self.path.map(own).unwrap_or_default()
    }

    fn has_own(&self) -> bool {
        !self.own().is_empty()
    }

    /// What follows `read 12 s ago`: whether it was that very read whose code is shown.
    fn captured(&self, group: &Group) -> String {
        let at_most = if group.count > 1 { "up to " } else { "" };
        match (self.path, self.since) {
            (None, _) => "; the code was not captured.".into(),
            (Some(_), 0) => ", by".into(),
            (Some(_), since) => {
                let uses = things(since, self.singular, &format!("{}s", self.singular));
                format!("; last captured {at_most}{uses} earlier, by")
            }
        }
    }

    /// A path that shows no other function of the program than the one that opened the connections is
    /// cut to these.
    fn shown(&self, group: &Group, full_stacks: bool) -> Shown {
        let opened_by = group.origin.as_ref().map(own).unwrap_or_default();
        match full_stacks {
            true => Shown::Whole,
            false if self.has_own() && self.own() == opened_by => Shown::Own,
            false => Shown::Folded(LAST_USE_ROWS),
        }
    }
}

fn own(path: &CodePath) -> Vec<Cow<'_, str>> {
    own_functions_of(path)
}

#[cfg(test)]
mod tests;
