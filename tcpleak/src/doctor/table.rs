//! The hooks as a table: what does each job, what that may miss, and why it is not a better one.

use std::fmt::Write as _;

use super::{WIDTH, wrap};
use crate::{
    plain::plain,
    probe::{Hook, Refusal},
};

/// Columns of the three cells of a row, with two of space before each.
const CELLS: [usize; 3] = [21, 26, 27];

/// Most characters that are quoted of a reason.
const REASON: usize = 240;

/// The table, and the reasons below it.
pub fn page(hooks: &[Hook]) -> String {
    let mut hooks: Vec<&Hook> = hooks.iter().collect();
    hooks.sort_by_key(|hook| hook.job);
    let mut page = String::from("\nhooks\n");
    row(&mut page, ["job", "done by", "what may be missed"]);
    for hook in &hooks {
        let missed = match hook.backend {
            Some(_) => hook.caveat().unwrap_or_else(|| "nothing".to_owned()),
            None => hook.job.lost().to_owned(),
        };
        let backend = hook.backend.unwrap_or("none");
        row(&mut page, [hook.job.describe(), backend, &missed]);
    }
    if hooks.iter().any(|hook| !hook.refusals.is_empty()) {
        page.push_str("\nrefused, best first\n");
    }
    for hook in hooks {
        reasons(&mut page, hook);
    }
    page
}

fn row(page: &mut String, cells: [&str; 3]) {
    let columns = [0, 1, 2].map(|column| wrap(cells[column], CELLS[column]));
    let lines = columns.iter().map(Vec::len).max().unwrap_or_default();
    for number in 0..lines {
        let mut line = String::new();
        for (parts, width) in columns.iter().zip(CELLS) {
            let part = parts.get(number).map_or("", String::as_str);
            // Writing to a string cannot fail.
            let _ = write!(line, "  {part:<width$}");
        }
        page.push_str(line.trim_end());
        page.push('\n');
    }
}

fn reasons(page: &mut String, hook: &Hook) {
    if hook.refusals.is_empty() {
        return;
    }
    let _ = writeln!(page, "  {}", hook.job.describe());
    for Refusal { backend, reason } in &hook.refusals {
        let (first, rest) = ("    ", "      ");
        let text = format!("{backend}: {}", shortened(&plain(reason)));
        for (number, part) in wrap(&text, WIDTH - rest.len()).iter().enumerate() {
            let indent = if number == 0 { first } else { rest };
            let _ = writeln!(page, "{indent}{part}");
        }
    }
}

fn shortened(reason: &str) -> String {
    match reason.char_indices().nth(REASON) {
        Some((end, _)) => format!("{}…", reason.get(..end).unwrap_or_default()),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Job;

    fn hook(job: Job, backend: Option<&'static str>, refusals: &[(&'static str, &str)]) -> Hook {
        let refusal = |(backend, reason): &(&'static str, &str)| Refusal {
            backend,
            reason: (*reason).to_owned(),
        };
        Hook {
            job,
            backend,
            refusals: refusals.iter().map(refusal).collect(),
            interrupted: false,
        }
    }

    fn hardened_kernel() -> Vec<Hook> {
        vec![
            hook(Job::SurveyHolders, Some("iter/task_file"), &[]),
            hook(Job::SurveySockets, Some("iter/tcp"), &[]),
            hook(Job::Destroy, Some("BTF tracepoint tcp_destroy_sock"), &[]),
            hook(
                Job::Lifecycle,
                Some("tracepoint sock:inet_sock_set_state"),
                &[(
                    "BTF tracepoint inet_sock_set_state",
                    "Permission denied: R1 invalid mem access 'scalar'",
                )],
            ),
            hook(
                Job::Accept,
                Some("first read or write"),
                &[
                    ("fexit inet_csk_accept", "Operation not permitted"),
                    (
                        "kprobe security_sock_graft",
                        "`/sys/bus/event_source/devices/kprobe/type`: No such file or directory",
                    ),
                ],
            ),
            hook(
                Job::Use,
                None,
                &[("fexit tcp_recvmsg, tcp_sendmsg", "\x1b[2J it says")],
            ),
            hook(
                Job::Registers,
                Some("frame pointers"),
                &[(
                    "copy of the stack, registers by bpf_task_pt_regs",
                    "this kernel has no such helper (5.15 and later do)",
                )],
            ),
        ]
    }

    #[test]
    fn the_table_says_what_each_hook_may_miss_and_why_it_is_no_better_one() {
        insta::assert_snapshot!(page(&hardened_kernel()));
    }

    #[test]
    fn no_line_is_longer_than_the_page_and_none_moves_the_cursor() {
        let mut hooks = hardened_kernel();
        hooks.push(hook(
            Job::Use,
            None,
            &[("fexit", &"many words of a verifier ".repeat(100))],
        ));
        let text = page(&hooks);
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
        assert!(!text.contains('\x1b'), "{text}");
        assert!(text.contains('…'), "{text}");
    }

    #[test]
    fn where_the_best_hooks_are_taken_nothing_is_refused() {
        let text = page(&[hook(Job::SurveySockets, Some("iter/tcp"), &[])]);
        assert!(!text.contains("refused"), "{text}");
    }
}
