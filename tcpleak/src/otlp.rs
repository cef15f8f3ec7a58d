//! `--otlp`: the metrics and the new leaks, to a collector of OpenTelemetry.
//!
//! The library keeps what waits, sends it, and tries again, in threads of its own; what is handed over here is
//! kept in memory, and never waited for.

mod client;
mod delivery;
mod logs;
mod metrics;
mod record;

use std::{fs, sync::Arc, thread};

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use ureq::http::Uri;

use self::{client::Client, logs::Logs, metrics::Metrics};
use crate::{
    health::Health,
    report::{Group, Report},
};

/// What the metrics and records come from.
const NAME: &str = "tcpleak";

/// A collector, and what it was told.
#[derive(Debug)]
pub struct Otlp {
    metrics: Metrics,
    logs: Logs,
}

impl Otlp {
    /// Starts to send to the collector at this URL: `http://host:4318`, to which `/v1/metrics` and `/v1/logs` are
    /// added. The environment has a say in the rest (docs/otlp.md). That a collector is down is no error.
    ///
    /// # Errors
    ///
    /// When that is no such URL, or it is one of HTTPS and no certificates are trusted here.
    pub fn start(url: &str) -> anyhow::Result<Self> {
        let start = || {
            let url = base(url)?;
            let client = Arc::new(Client::new(url.starts_with("https:"))?);
            let resource = resource();
            anyhow::Ok(Self {
                metrics: Metrics::start(&client, &url, &resource)?,
                logs: Logs::start(&client, &url, &resource)?,
            })
        };
        start().with_context(|| format!("--otlp {url:?}"))
    }

    /// Hands over what a report measures. Never waits for the collector.
    pub fn observe(&mut self, report: &Report, health: &Health) {
        self.metrics
            .observe(crate::metrics::measure(report, health));
    }

    /// Hands over a new leak. Never waits for the collector.
    pub fn tell(&mut self, report: &Report, leak: &Group) {
        self.logs.tell(report, leak);
    }

    /// Sends what waits, as far as the collector takes it within seconds.
    pub fn finish(self) {
        let Self { metrics, logs, .. } = self;
        // Each has its own time to wait.
        thread::scope(|scope| {
            scope.spawn(|| logs.finish());
            metrics.finish();
        });
    }
}

/// The URL that the path of a signal is added to.
fn base(url: &str) -> anyhow::Result<String> {
    let parsed: Uri = url.parse()?;
    let is_http = matches!(parsed.scheme_str(), Some("http" | "https"));
    anyhow::ensure!(
        is_http && parsed.host().is_some_and(|host| !host.is_empty()),
        "it is no URL such as http://127.0.0.1:4318"
    );
    anyhow::ensure!(
        parsed.query().is_none(),
        "the path of a signal cannot be added to a query"
    );
    Ok(url.trim_end_matches('/').to_owned())
}

/// Who sends.
fn resource() -> Resource {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    let id = fs::read_to_string("/etc/machine-id").ok();
    let id = id.map(|id| id.trim().to_owned());
    let id = id.filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    Resource::builder()
        .with_service_name(NAME)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("host.name", host))
        .with_attributes(id.map(|id| KeyValue::new("host.id", id)))
        .build()
}

#[cfg(test)]
mod tests;
