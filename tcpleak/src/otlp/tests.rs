//! What a collector gets, and what becomes of one that does not do its part. A real one is for the end-to-end
//! tests.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use opentelemetry_http::{HttpError, Request, ResponseBodyTooLarge};
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::LogRecord,
    metrics::v1::{Metric, metric::Data},
};
use prost::Message as _;

use super::*;
use crate::{
    metrics::measure,
    output::samples::{eof_unread, handler, hostile, report},
    report::Container,
};

const LONG: Duration = Duration::from_secs(60);

/// A server that reads what is sent to it, and answers as it is told.
struct Collector {
    url: String,
    requests: Receiver<(String, Vec<u8>)>,
}

impl Collector {
    fn start(mut answer: impl FnMut(&mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (sender, requests) = channel();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if let Some(request) = read(&stream) {
                    let _ = sender.send(request);
                    answer(&mut stream);
                }
            }
        });
        Self { url, requests }
    }

    fn well() -> Self {
        Self::start(|stream| status(stream, "200 OK"))
    }

    /// The next request to this path.
    fn body(&self, path: &str) -> Vec<u8> {
        loop {
            let (asked, body) = self.requests.recv_timeout(LONG).unwrap();
            if asked == path {
                return body;
            }
        }
    }

    fn metrics(&self) -> Vec<Metric> {
        let request = ExportMetricsServiceRequest::decode(&self.body("/v1/metrics")[..]).unwrap();
        let resources = request.resource_metrics.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_metrics);
        scopes.flat_map(|scope| scope.metrics).collect()
    }

    fn logs(&self) -> ExportLogsServiceRequest {
        ExportLogsServiceRequest::decode(&self.body("/v1/logs")[..]).unwrap()
    }

    fn records(&self) -> Vec<LogRecord> {
        let resources = self.logs().resource_logs.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_logs);
        scopes.flat_map(|scope| scope.log_records).collect()
    }
}

fn read(stream: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((path, body))
}

fn status(stream: &mut TcpStream, status: &str) {
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(answer.as_bytes());
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn attribute<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a AnyValue> {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    found.and_then(|attribute| attribute.value.as_ref())
}

fn lines(attributes: &[KeyValue], name: &str) -> Vec<String> {
    match attribute(attributes, name).and_then(|value| value.value.as_ref()) {
        Some(Value::ArrayValue(array)) => {
            array.values.iter().map(|value| text(Some(value))).collect()
        }
        other => panic!("{name}: {other:?}"),
    }
}

fn named<'a>(metrics: &'a [Metric], name: &str) -> Option<&'a Metric> {
    metrics.iter().find(|metric| metric.name == name)
}

fn health() -> Health {
    Health {
        surveys: 7,
        ..Health::default()
    }
}

#[test]
fn every_metric_that_has_rows_arrives_as_it_was_measured() {
    let collector = Collector::well();
    let mut otlp = Otlp::start(&collector.url).unwrap();
    let report = report(vec![eof_unread()]);
    otlp.observe(&report, &health());
    otlp.finish();
    let (mut sent, second) = (collector.metrics(), collector.metrics());
    sent.extend(second);
    for metric in measure(&report, &health()) {
        let found = named(&sent, metric.name);
        assert_eq!(found.is_some(), !metric.rows.is_empty(), "{}", metric.name);
    }
    let Some(Data::Gauge(gauge)) = &named(&sent, "tcpleak_leaked_connections").unwrap().data else {
        panic!("{sent:#?}");
    };
    let [point] = &gauge.data_points[..] else {
        panic!("{gauge:#?}");
    };
    assert_eq!(text(attribute(&point.attributes, "process")), "python3");
    assert_eq!(text(attribute(&point.attributes, "verdict")), "eof-unread");
    let value = format!("{:?}", point.value);
    assert!(value.contains("20.0"), "{value}");
    let Some(Data::Sum(surveys)) = &named(&sent, "tcpleak_surveys").unwrap().data else {
        panic!("{sent:#?}");
    };
    // Cumulative.
    assert!(surveys.is_monotonic && surveys.aggregation_temporality == 2);
}

#[test]
fn a_row_that_is_gone_is_not_sent_any_more() {
    let collector = Collector::well();
    let client = Arc::new(Client::new(false).unwrap());
    let url = base(&collector.url).unwrap();
    let mut metrics = Metrics::start(&client, &url, &resource()).unwrap();
    metrics.observe(measure(&report(vec![eof_unread()]), &health()));
    metrics.flush();
    let leaked = "tcpleak_leaked_connections";
    let has_rows = |metrics: &[Metric]| match named(metrics, leaked).map(|metric| &metric.data) {
        Some(Some(Data::Gauge(gauge))) => !gauge.data_points.is_empty(),
        _ => false,
    };
    assert!(has_rows(&collector.metrics()));
    metrics.observe(measure(&report(vec![]), &health()));
    metrics.flush();
    let sent = collector.metrics();
    assert!(named(&sent, "tcpleak_connections").is_some());
    assert!(!has_rows(&sent), "{sent:#?}");
}

#[test]
fn a_new_leak_is_one_record_with_both_code_paths() {
    let collector = Collector::well();
    let mut otlp = Otlp::start(&collector.url).unwrap();
    let mut group = handler();
    group.process.container = Some(Container {
        id: "0123".into(),
        pod: Some("api-7d9".into()),
        namespace: Some("shop".into()),
        ..Container::default()
    });
    otlp.tell(&report(vec![group.clone()]), &group);
    otlp.finish();
    let request = collector.logs();
    let resource = request.resource_logs[0].resource.as_ref().unwrap();
    assert_eq!(
        text(attribute(&resource.attributes, "service.name")),
        "tcpleak"
    );
    assert!(attribute(&resource.attributes, "host.name").is_some());
    let records = &request.resource_logs[0].scope_logs[0].log_records;
    let [record] = &records[..] else {
        panic!("{records:#?}");
    };
    assert_eq!(record.severity_text, "WARN");
    let body = text(record.body.as_ref());
    assert!(
        body.starts_with("api-server (pid 1907) keeps 400 connections"),
        "{body}"
    );
    for (name, value) in [
        ("tcpleak.group", group.id.as_str()),
        ("tcpleak.verdict", "eof-consumed"),
        ("tcpleak.connections", "400"),
        ("tcpleak.endpoint", "0.0.0.0:8080"),
        ("process.pid", "1907"),
        ("k8s.pod.name", "api-7d9"),
        ("k8s.namespace.name", "shop"),
        ("code.function.name", "api::upload::handle"),
    ] {
        assert_eq!(text(attribute(&record.attributes, name)), value, "{name}");
    }
    let origin = lines(&record.attributes, "tcpleak.path.origin");
    assert_eq!(origin[1], "api::accept_loop (/srv/api/src/main.cc:40)");
    let read = lines(&record.attributes, "tcpleak.path.last_read");
    assert!(read.contains(&"api::upload::handle (/srv/api/src/upload.cc:58)".to_owned()));
    assert!(!lines(&record.attributes, "tcpleak.path.last_write").is_empty());
}

#[test]
fn names_that_others_chose_are_made_plain_and_cut() {
    let collector = Collector::well();
    let mut otlp = Otlp::start(&collector.url).unwrap();
    let mut group = hostile();
    let origin = group.origin.as_mut().unwrap();
    origin.frames = vec![origin.frames[0].clone(); 250];
    otlp.tell(&report(vec![group.clone()]), &group);
    otlp.finish();
    let records = collector.records();
    let sent = format!("{records:?}");
    assert!(!sent.chars().any(crate::plain::is_hostile));
    let origin = lines(&records[0].attributes, "tcpleak.path.origin");
    assert_eq!(origin.len(), 101);
    assert_eq!(origin[100], "and 150 more");
    let path = text(attribute(&records[0].attributes, "tcpleak.cgroup"));
    assert!(path.len() <= 300 && path.ends_with('…'), "{path}");
}

#[test]
fn a_leak_is_sent_again_when_the_collector_cannot_take_it() {
    let mut refusals = 2;
    let collector = Collector::start(move |stream| {
        let refuses = refusals > 0;
        refusals -= i32::from(refuses);
        status(stream, if refuses { "503 Busy" } else { "200 OK" });
    });
    let client = Arc::new(Client::new(false).unwrap());
    let url = base(&collector.url).unwrap();
    let mut logs = Logs::start(&client, &url, &resource()).unwrap();
    logs.tell(&report(vec![]), &eof_unread());
    let tries: Vec<Vec<LogRecord>> = (0..3).map(|_| collector.records()).collect();
    assert_eq!(tries[0].len(), 1);
    assert!(tries[0] == tries[1] && tries[1] == tries[2]);
}

#[test]
fn what_waits_for_a_collector_that_is_down_is_bounded() {
    // Nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let client = Arc::new(Client::new(false).unwrap());
    let mut logs = Logs::start(&client, &format!("http://{closed}"), &resource()).unwrap();
    for _ in 0..logs::WAITING + 5 {
        logs.tell(&report(vec![]), &eof_unread());
    }
    assert_eq!(logs.left_out(), 5);
}

fn ask(collector: &Collector, patience: Duration) -> Result<u16, HttpError> {
    let client = Client::with_patience(false, patience).unwrap();
    let request = Request::post(format!("{}v1/logs", collector.url));
    let response = client.send(request.body("told".into()).unwrap())?;
    Ok(response.status().as_u16())
}

#[test]
fn an_answer_is_bounded_in_time_and_size() {
    let silent = Collector::start(|stream| {
        // It hangs up when the other side does.
        let _ = stream.read(&mut [0]);
    });
    let error = ask(&silent, Duration::from_millis(300)).unwrap_err();
    assert!(error.to_string().contains("timeout"), "{error}");
    let endless = |start: &'static str, rest: &'static str| {
        let collector = Collector::start(move |stream| {
            let _ = stream.write_all(start.as_bytes());
            while stream.write_all(rest.as_bytes()).is_ok() {}
        });
        ask(&collector, LONG).unwrap_err()
    };
    let body = endless("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "endless");
    assert!(body.is::<ResponseBodyTooLarge>(), "{body}");
    endless("HTTP/1.1 200 OK\r\n", "X-Endless: yes\r\n");
    let refusal = Collector::start(|stream| status(stream, "500 Broken"));
    assert_eq!(ask(&refusal, LONG).unwrap(), 500);
}

#[test]
fn what_is_no_url_of_a_collector_is_refused() {
    for wrong in [
        "",
        "127.0.0.1:4318",
        "ftp://host",
        "http://",
        "http://host/?a=b",
        "http://a b",
    ] {
        let error = Otlp::start(wrong).err();
        assert!(error.is_some(), "{wrong}");
    }
    assert_eq!(base("http://host:4318/").unwrap(), "http://host:4318");
    assert_eq!(base("https://host/otlp").unwrap(), "https://host/otlp");
}
