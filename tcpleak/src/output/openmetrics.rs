//! Metrics in the text format of OpenMetrics 1.0, for a scrape by Prometheus and its like.

use std::{fmt, io};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    metrics::MetricType,
    registry::{Registry, Unit as NamedUnit},
};

use crate::metrics::{Kind, Metric, Unit};

/// What an answer of this format is declared as.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes the metrics. One without rows is left out.
///
/// # Errors
///
/// What writing to `out` returns.
pub fn render(metrics: Vec<Metric>, out: &mut impl io::Write) -> io::Result<()> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Measured(metrics)));
    let mut text = String::new();
    text::encode(&mut text, &registry).map_err(io::Error::other)?;
    out.write_all(text.as_bytes())
}

#[derive(Debug)]
struct Measured(Vec<Metric>);

impl Collector for Measured {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for metric in self.0.iter().filter(|metric| !metric.rows.is_empty()) {
            encode(metric, &mut encoder)?;
        }
        Ok(())
    }
}

fn encode(metric: &Metric, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
    let unit = match metric.unit {
        Unit::Number => None,
        Unit::Seconds => Some(NamedUnit::Seconds),
        Unit::Bytes => Some(NamedUnit::Bytes),
        Unit::Ratio => Some(NamedUnit::Other("ratio".into())),
    };
    // The library adds the word of the unit.
    let suffix = metric.unit.word().map(|word| format!("_{word}"));
    let name = suffix.and_then(|suffix| metric.name.strip_suffix(&suffix));
    let name = name.unwrap_or(metric.name);
    let kind = match metric.kind {
        Kind::Gauge => MetricType::Gauge,
        Kind::Counter => MetricType::Counter,
    };
    let mut encoder = encoder.encode_descriptor(name, metric.help, unit.as_ref(), kind)?;
    for row in &metric.rows {
        let labels: Vec<(&str, &str)> = row
            .labels
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let mut encoder = encoder.encode_family(&labels)?;
        match metric.kind {
            Kind::Gauge => encoder.encode_gauge(&row.value)?,
            Kind::Counter => {
                encoder.encode_counter::<[(&str, &str); 0], _, f64>(&row.value, None)?
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{health::Health, metrics::measure, output::samples};

    fn text(groups: Vec<crate::report::Group>) -> String {
        let mut out = Vec::new();
        let metrics = measure(&samples::report(groups), &Health::default());
        render(metrics, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_leak_is_a_line_with_labels() {
        let text = text(vec![samples::eof_unread()]);
        let line = text
            .lines()
            .find(|line| line.starts_with("tcpleak_leaked_connections{"))
            .unwrap();
        assert!(line.contains(r#"process="python3""#), "{line}");
        assert!(line.contains(r#"verdict="eof-unread""#), "{line}");
        assert!(
            text.contains("# TYPE tcpleak_leaked_connections gauge\n"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn counters_end_with_total_and_units_are_named_once() {
        let text = text(Vec::new());
        assert!(text.contains("\ntcpleak_surveys_total 0"), "{text}");
        assert!(
            text.contains("# UNIT tcpleak_user_cpu_seconds seconds\n"),
            "{text}"
        );
        assert!(
            text.contains("\ntcpleak_user_cpu_seconds_total 0"),
            "{text}"
        );
        assert!(!text.contains("seconds_seconds"), "{text}");
        assert!(!text.contains("ratios"), "{text}");
    }

    #[test]
    fn names_cannot_break_out_of_their_quotes() {
        let mut group = samples::eof_unread();
        group.process.comm = "a\"} 1\n# EOF\\".into();
        let text = text(vec![group]);
        assert!(text.contains(r#"process="a\"} 1\\x0a# EOF\\""#), "{text}");
        assert_eq!(text.matches("# EOF\n").count(), 1);
    }
}
