//! The metrics: what was measured last, whenever the library asks for it.

use std::{
    sync::{Arc, Mutex},
    thread,
};

use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, MeterProvider as _},
};
use opentelemetry_otlp::{MetricExporter, Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider, Temporality},
};

use super::{NAME, client::Client};
use crate::{
    lock::lock,
    metrics::{Kind, Metric, Unit},
};

/// What was measured last.
type Measured = Arc<Mutex<Vec<Metric>>>;

/// The metrics, and the threads that send them.
#[derive(Debug)]
pub struct Metrics {
    measured: Measured,
    has_instruments: bool,
    gauges: SdkMeterProvider,
    counters: SdkMeterProvider,
}

impl Metrics {
    /// Starts to send them to a collector.
    pub fn start(client: &Arc<Client>, url: &str, resource: &Resource) -> anyhow::Result<Self> {
        let provider = |temporality| -> anyhow::Result<SdkMeterProvider> {
            let exporter = MetricExporter::builder()
                .with_http()
                .with_shared_http_client(client.clone())
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(format!("{url}/v1/metrics"))
                .with_temporality(temporality)
                .build()?;
            let provider = SdkMeterProvider::builder()
                .with_reader(PeriodicReader::builder(exporter).build())
                .with_resource(resource.clone());
            Ok(provider.build())
        };
        Ok(Self {
            measured: Measured::default(),
            has_instruments: false,
            // The library keeps the rows of cumulative instruments for ever. Gauges, of which a row can vanish,
            // look the same to the collector either way.
            gauges: provider(Temporality::Delta)?,
            counters: provider(Temporality::Cumulative)?,
        })
    }

    /// Takes the place of what was measured before. Each metric is there every time, with rows or without.
    pub fn observe(&mut self, metrics: Vec<Metric>) {
        if !self.has_instruments {
            self.has_instruments = true;
            for metric in &metrics {
                self.add_instrument(metric);
            }
        }
        *lock(&self.measured) = metrics;
    }

    fn add_instrument(&self, metric: &Metric) {
        let (name, measured) = (metric.name, Arc::clone(&self.measured));
        let callback = move |instrument: &dyn AsyncInstrument<f64>| {
            for row in rows(&measured, name) {
                instrument.observe(row.1, &row.0);
            }
        };
        let unit = unit(metric.unit);
        // What is made here lasts as long as the provider does.
        match metric.kind {
            Kind::Gauge => {
                let meter = self.gauges.meter(NAME);
                let gauge = meter.f64_observable_gauge(name).with_unit(unit);
                let gauge = gauge.with_description(metric.help);
                gauge.with_callback(callback).build();
            }
            Kind::Counter => {
                let meter = self.counters.meter(NAME);
                let counter = meter.f64_observable_counter(name).with_unit(unit);
                let counter = counter.with_description(metric.help);
                counter.with_callback(callback).build();
            }
        }
    }

    /// Sends the gauges now.
    #[cfg(test)]
    pub fn flush(&self) {
        self.gauges.force_flush().unwrap();
    }

    /// Sends what was measured last.
    pub fn finish(&self) {
        // Each waits for seconds at most. What fails was said already.
        thread::scope(|scope| {
            scope.spawn(|| self.gauges.shutdown());
            let _ = self.counters.shutdown();
        });
    }
}

/// The rows of a metric now.
fn rows(measured: &Measured, name: &str) -> Vec<(Vec<KeyValue>, f64)> {
    let metrics = lock(measured);
    let metric = metrics.iter().find(|metric| metric.name == name);
    let rows = metric.map(|metric| metric.rows.as_slice());
    let rows = rows.unwrap_or_default().iter().map(|row| {
        let labels = row.labels.iter();
        let labels = labels.map(|(name, value)| KeyValue::new(*name, value.clone()));
        (labels.collect(), row.value)
    });
    rows.collect()
}

/// The unit as UCUM has it.
fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Number | Unit::Ratio => "1",
        Unit::Seconds => "s",
        Unit::Bytes => "By",
    }
}
