//! What a record says of a leak.

use std::time::SystemTime;

use opentelemetry::logs::{AnyValue, LogRecord, Severity};

use crate::{
    output::text::Text,
    plain::plain_within,
    report::{CodePath, Frame, Group, Report},
    title,
};

/// Most frames of a code path; how many more there are is said.
const FRAMES: usize = 100;
/// Most bytes of a text.
const TEXT_BYTES: usize = 300;

/// Fills a record, with the number of leaks that were left out before it.
pub fn fill(record: &mut impl LogRecord, report: &Report, group: &Group, left_out: usize) {
    record.set_event_name("tcpleak.leak");
    record.set_timestamp(SystemTime::from(report.taken_at));
    record.set_observed_timestamp(SystemTime::from(report.taken_at));
    record.set_severity_number(Severity::Warn);
    record.set_severity_text("WARN");
    record.set_body(text(&Text::sentence(group)));
    record.add_attributes(who(group));
    record.add_attributes(what(group));
    record.add_attributes(code(group));
    if left_out > 0 {
        record.add_attribute("tcpleak.left_out", number(left_out as u64));
    }
}

/// Whose leak it is, by the names that OpenTelemetry has for these things.
fn who(group: &Group) -> impl Iterator<Item = (&'static str, AnyValue)> {
    let process = &group.process;
    let container = process.container.clone().unwrap_or_default();
    let texts = [
        ("process.executable.name", Some(process.comm.clone())),
        ("process.executable.path", process.exe.clone()),
        ("tcpleak.cgroup", process.cgroup.clone()),
        ("tcpleak.unit", process.unit.clone()),
        ("container.id", Some(container.id)),
        ("container.name", container.name),
        ("container.image.name", container.image),
        ("k8s.pod.name", container.pod),
        ("k8s.pod.uid", container.pod_uid),
        ("k8s.namespace.name", container.namespace),
    ];
    let pid = process.pid.map(|pid| ("process.pid", number(pid.into())));
    let command = process.cmdline.as_ref().map(|words| {
        let words = words.iter().take(FRAMES).map(|word| text(word));
        ("process.command_args", list(words))
    });
    let texts = texts.into_iter().filter_map(|(name, value)| {
        let value = value.filter(|value| !value.is_empty())?;
        Some((name, text(&value)))
    });
    texts.chain(pid).chain(command)
}

/// What is leaked.
fn what(group: &Group) -> impl Iterator<Item = (&'static str, AnyValue)> {
    let qualifiers = group.qualifiers.iter();
    let qualifiers = qualifiers.map(|qualifier| AnyValue::from(qualifier.word()));
    let always = [
        ("tcpleak.group", text(&group.id)),
        ("tcpleak.verdict", AnyValue::from(group.verdict.word())),
        ("tcpleak.qualifiers", list(qualifiers)),
        ("tcpleak.connections", number(group.count)),
        ("tcpleak.oldest_age_seconds", AnyValue::from(group.oldest_s)),
        ("tcpleak.endpoint", text(&group.endpoint)),
    ];
    let growth = group.growth_per_min;
    let growth = growth.map(|growth| ("tcpleak.growth_per_minute", AnyValue::from(growth)));
    always.into_iter().chain(growth)
}

/// The function to look at first, and the code paths.
fn code(group: &Group) -> impl Iterator<Item = (&'static str, AnyValue)> {
    let title = group.title.as_ref();
    let last_use = group.last_use.as_ref();
    let origin = group.origin.as_ref();
    let asked = origin.and_then(|path| path.requested_by.as_deref());
    let path = |path: Option<&CodePath>| path.and_then(|path| frames(&path.frames));
    [
        (
            "code.function.name",
            title.map(|title| text(&title.function)),
        ),
        (
            "code.file.path",
            title.and_then(|title| title.file.as_deref().map(text)),
        ),
        (
            "code.line.number",
            title.and_then(|title| Some(number(title.line?.into()))),
        ),
        ("tcpleak.path.origin", path(origin)),
        ("tcpleak.path.requested_by", asked.and_then(frames)),
        (
            "tcpleak.path.last_read",
            path(last_use.and_then(|last| last.read.as_ref())),
        ),
        (
            "tcpleak.path.last_write",
            path(last_use.and_then(|last| last.write.as_ref())),
        ),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}

/// A code path, innermost frame first; none when no frame is known.
fn frames(frames: &[Frame]) -> Option<AnyValue> {
    let more = frames.len().saturating_sub(FRAMES);
    let more = (more > 0).then(|| AnyValue::from(format!("and {more} more")));
    let shown = frames.iter().take(FRAMES).map(|frame| text(&shown(frame)));
    (!frames.is_empty()).then(|| list(shown.chain(more)))
}

/// `fetch_page (/srv/crawl.py:42)`
fn shown(frame: &Frame) -> String {
    let name = title::name(frame).unwrap_or("?".into());
    match (&frame.file, frame.line, &frame.module) {
        (Some(file), Some(line), _) => format!("{name} ({file}:{line})"),
        (Some(place), None, _) | (None, _, Some(place)) => format!("{name} ({place})"),
        (None, _, None) => name.into_owned(),
    }
}

/// A text that can be shown, and is not too long.
fn text(text: &str) -> AnyValue {
    AnyValue::from(plain_within(text, TEXT_BYTES).into_owned())
}

fn list(values: impl Iterator<Item = AnyValue>) -> AnyValue {
    AnyValue::ListAny(Box::new(values.collect()))
}

fn number(number: u64) -> AnyValue {
    AnyValue::from(i64::try_from(number).unwrap_or(i64::MAX))
}
