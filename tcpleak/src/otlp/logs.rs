//! One log record for each new leak.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::logs::{Logger as _, LoggerProvider as _};
use opentelemetry_otlp::{
    LogExporter, Protocol, RetryPolicy, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{
        BatchConfigBuilder, BatchLogProcessor, LogBatch, LogExporter as Export, SdkLogger,
        SdkLoggerProvider,
    },
};

use super::{NAME, client::Client, record};
use crate::report::{Group, Report};

/// Most records that wait.
pub(super) const WAITING: usize = 64;
/// Most records that are sent in one request.
const AT_ONCE: usize = 8;
/// How long it is tried to send the same records.
const PATIENCE: Duration = Duration::from_secs(300);
/// Longest pause between two tries.
const PAUSE: Duration = Duration::from_secs(10);
/// How long is waited for a collector at the end.
const FINISH: Duration = Duration::from_secs(5);

/// The records, and the thread that sends them.
#[derive(Debug)]
pub struct Logs {
    provider: SdkLoggerProvider,
    logger: SdkLogger,
    waiting: Arc<AtomicUsize>,
    /// Leaks that found no room since one did.
    left_out: usize,
}

impl Logs {
    /// Starts to send them to a collector.
    pub fn start(client: &Arc<Client>, url: &str, resource: &Resource) -> anyhow::Result<Self> {
        let policy = RetryPolicy::recommended()
            .with_max_retries(usize::MAX)
            .with_initial_delay(Duration::from_secs(1))
            .with_max_delay(PAUSE);
        let exporter = LogExporter::builder()
            .with_http()
            .with_shared_http_client(client.clone())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{url}/v1/logs"))
            .with_timeout(PATIENCE)
            .with_retry_policy(policy)
            .build()?;
        let waiting = Arc::new(AtomicUsize::new(0));
        let exporter = Counted {
            exporter,
            waiting: Arc::clone(&waiting),
        };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING)
            .with_max_export_batch_size(AT_ONCE)
            .with_scheduled_delay(Duration::from_secs(1));
        let processor = BatchLogProcessor::builder(exporter).with_batch_config(batches.build());
        let provider = SdkLoggerProvider::builder()
            .with_log_processor(processor.build())
            .with_resource(resource.clone())
            .build();
        Ok(Self {
            logger: provider.logger(NAME),
            provider,
            waiting,
            left_out: 0,
        })
    }

    /// Has a record of a leak sent, if there is room.
    pub fn tell(&mut self, report: &Report, group: &Group) {
        if self.waiting.load(Ordering::Relaxed) >= WAITING {
            if self.left_out == 0 {
                anstream::eprintln!(
                    "tcpleak: --otlp: too many new leaks wait to be sent, and some are not"
                );
            }
            self.left_out += 1;
            return;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut made = self.logger.create_log_record();
        record::fill(&mut made, report, group, self.left_out);
        self.logger.emit(made);
        self.left_out = 0;
    }

    /// Leaks that found no room since one did.
    #[cfg(test)]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Sends what waits.
    pub fn finish(&self) {
        let _ = self.provider.shutdown_with_timeout(FINISH);
        let waiting = self.waiting.load(Ordering::Relaxed) + self.left_out;
        if waiting > 0 {
            anstream::eprintln!("tcpleak: --otlp: {} not sent", new_leaks(waiting));
        }
    }
}

/// An exporter that tells how much it has dealt with, and says what is lost.
struct Counted<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
}

impl<E: Export> Export for Counted<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let number = batch.iter().count();
        let result = self.exporter.export(batch).await;
        self.waiting.fetch_sub(number, Ordering::Relaxed);
        if result.is_err() {
            anstream::eprintln!("tcpleak: --otlp: {} not sent", new_leaks(number));
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E> fmt::Debug for Counted<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Counted").finish_non_exhaustive()
    }
}

fn new_leaks(number: usize) -> String {
    match number {
        1 => "1 new leak was".into(),
        _ => format!("{number} new leaks were"),
    }
}
