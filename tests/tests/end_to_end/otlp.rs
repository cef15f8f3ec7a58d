//! What a collector of OpenTelemetry is sent, and that one which fails holds up nothing.
//!
//! The real collector is in the directory that `TCPLEAK_TEST_COLLECTOR` names, see `.ci/collector`. Every test has
//! one of its own besides, which is no collector: it decodes what comes as OpenTelemetry defines it, and fails what
//! does not decode.

use std::{
    env,
    fmt::Debug,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
};
use prost::Message;

use crate::harness::{Compiled, Fixture, Program, Server, Serving, patience, wait_until};

/// Metrics soon, and what else the environment can say.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("OTEL_METRIC_EXPORT_INTERVAL", "300"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "X-Scope=ops%2Ftest"),
    (
        "OTEL_RESOURCE_ATTRIBUTES",
        "deployment.environment.name=staging",
    ),
];

/// What a collector has understood, as text.
trait Collector {
    fn url(&self) -> String;
    fn understood(&self) -> String;
}

/// A decoder of the protocol.
struct Decoder {
    url: String,
    understood: Arc<Mutex<String>>,
}

impl Decoder {
    /// One whose answers are written by `answer`.
    fn start(answer: impl Fn(&mut TcpStream) + Send + 'static) -> Self {
        Self::listen(any_listener(), answer)
    }

    fn listen(listener: TcpListener, answer: impl Fn(&mut TcpStream) + Send + 'static) -> Self {
        let url = format!("http://{}", address_of(&listener));
        Self::talk(listener, url, Some, answer)
    }

    /// One that speaks HTTPS.
    fn start_with_tls(tls: rustls::ServerConfig) -> Self {
        let (listener, tls) = (any_listener(), Arc::new(tls));
        let url = format!("https://{}", address_of(&listener));
        let open = move |stream| {
            let connection = rustls::ServerConnection::new(tls.clone()).ok()?;
            Some(rustls::StreamOwned::new(connection, stream))
        };
        Self::talk(listener, url, open, well)
    }

    fn talk<Stream: Read + Write>(
        listener: TcpListener,
        url: String,
        open: impl Fn(TcpStream) -> Option<Stream> + Send + 'static,
        answer: impl Fn(&mut Stream) + Send + 'static,
    ) -> Self {
        let understood = Arc::new(Mutex::new(String::new()));
        let text = understood.clone();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let Some(mut stream) = open(stream) else {
                    continue;
                };
                if let Some(request) = decode(&mut stream) {
                    text.lock()
                        .expect("no test panics with it")
                        .push_str(&request);
                    answer(&mut stream);
                }
            }
        });
        Self { url, understood }
    }
}

impl Collector for Decoder {
    fn url(&self) -> String {
        self.url.clone()
    }

    fn understood(&self) -> String {
        self.understood
            .lock()
            .expect("no test panics with it")
            .clone()
    }
}

/// Reads a request; none when it has no end.
fn decode(stream: &mut impl Read) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase();
    let (_, rest) = head.split_once("content-length:")?;
    let length = rest.lines().next()?.trim().parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    for header in ["content-type: application/x-protobuf", "x-scope: ops/test"] {
        assert!(head.contains(header), "{head}");
    }
    match head.split(' ').nth(1)? {
        "/v1/metrics" => Some(shown::<ExportMetricsServiceRequest>(&body)),
        "/v1/logs" => Some(shown::<ExportLogsServiceRequest>(&body)),
        path => panic!("nothing is known at {path}"),
    }
}

fn shown<T: Message + Default + Debug>(body: &[u8]) -> String {
    format!("{:?}\n", T::decode(body).expect("it is what it should be"))
}

fn well(stream: &mut impl Write) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

/// Rotel, which is no work of OpenTelemetry's own libraries.
struct Rotel {
    _program: Program,
    url: String,
    directory: tempfile::TempDir,
}

impl Rotel {
    fn start(program: PathBuf) -> Self {
        let directory = tempfile::tempdir().expect("there is a directory for temporary files");
        let [http, grpc] = [free_address(), free_address()];
        let output = File::create(directory.path().join("output")).expect("it is ours");
        let mut command = Command::new(program);
        command
            .args(["start", "--exporter", "blackhole"])
            .args(["--debug-log", "metrics", "--debug-log", "logs"])
            .args(["--debug-log-verbosity", "detailed"])
            .args(["--otlp-http-endpoint", &http, "--otlp-grpc-endpoint", &grpc])
            .arg("--pid-file")
            .arg(directory.path().join("pid"))
            .stderr(output.try_clone().expect("it is open"))
            .stdout(output);
        let rotel = Self {
            _program: Program::start(&mut command),
            url: format!("http://{http}"),
            directory,
        };
        wait_until("the collector listens", || {
            TcpStream::connect(&http).is_ok()
        });
        rotel
    }
}

impl Collector for Rotel {
    fn url(&self) -> String {
        self.url.clone()
    }

    fn understood(&self) -> String {
        fs::read_to_string(self.directory.path().join("output")).expect("it writes UTF-8")
    }
}

fn any_listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("there are free ports")
}

fn address_of(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("it has an address")
}

fn free_address() -> String {
    address_of(&any_listener()).to_string()
}

fn collectors() -> Vec<Box<dyn Collector>> {
    let mut collectors: Vec<Box<dyn Collector>> = vec![Box::new(Decoder::start(well))];
    if let Some(directory) = env::var_os("TCPLEAK_TEST_COLLECTOR") {
        let program = PathBuf::from(directory).join("collector");
        collectors.push(Box::new(Rotel::start(program)));
    }
    collectors
}

/// Waits until a collector has understood something with this text.
#[track_caller]
fn wait_for(collector: &dyn Collector, text: &str) {
    let start = Instant::now();
    // The library may be at rest between two tries for half of that time.
    while !collector.understood().contains(text) {
        let understood = || collector.understood();
        assert!(
            start.elapsed() < 2 * patience(),
            "no {text} in {}",
            understood()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// A program that asks a question and forgets the connection, and its server.
struct Asking {
    client: Fixture,
    server: Server,
}

impl Asking {
    fn start() -> Self {
        let server = Server::start();
        let client = Compiled::c("asks", &["-g"]).start(&[&server.address(), "1"]);
        Self { client, server }
    }

    fn leak(&mut self) {
        self.client.tell();
        let mut connection = self.server.accept();
        let mut question = [0; 8];
        connection.read_exact(&mut question).expect("a question");
        connection.write_all(b"answered").expect("it is there");
        drop(connection);
        self.client.facts();
    }

    fn serve(&self, url: &str) -> Serving {
        self.serve_with(&[], url)
    }

    fn serve_with(&self, environment: &[(&str, &str)], url: &str) -> Serving {
        Serving::start_with(
            &[&ENVIRONMENT, environment].concat(),
            &["--otlp", url, "--pid", &self.client.pid_text()],
        )
    }
}

#[test]
fn a_collector_gets_the_metrics_and_each_leak_once_with_both_code_paths() {
    for collector in collectors() {
        let mut asking = Asking::start();
        let mut serving = asking.serve(&collector.url());
        asking.leak();
        for part in [
            "tcpleak_leaked_connections",
            "tcpleak_surveys",
            "eof-ignored",
            "service.name",
            "host.name",
            "deployment.environment.name",
            "tcpleak.path.origin",
            "open_connection (",
            // On a machine that is busy not every path is captured.
            "tcpleak.path.last_",
        ] {
            wait_for(collector.as_ref(), part);
        }
        let understood = collector.understood();
        let uses = ["expect_end (", "read_answer (", "send_question ("];
        assert!(
            uses.iter().any(|used| understood.contains(used)),
            "{understood}"
        );
        serving.wait_for_surveys(5);
        assert_eq!(serving.terminate(), 0);
        let understood = collector.understood();
        let records = understood.matches("tcpleak.path.origin").count();
        assert_eq!(records, 1, "{understood}");
        assert!(!understood.contains("process.command_args"));
    }
}

#[test]
fn a_collector_behind_https_is_spoken_to_when_its_certificate_is_trusted() {
    let [certified, another] = [(); 2].map(|()| {
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])
            .expect("a certificate can be made")
    });
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let ring = rustls::crypto::ring::default_provider();
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(ring))
        .with_safe_default_protocol_versions()
        .expect("it knows them")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .expect("the key is that of the certificate");
    let trusted = tempfile::NamedTempFile::new().expect("there is a place for temporary files");
    let trust = |pem: String| fs::write(&trusted, pem).expect("it is ours");
    let path = trusted.path().to_str().expect("a path of ASCII");
    let trusting = [("SSL_CERT_FILE", path)];
    let collector = Decoder::start_with_tls(tls);

    trust(another.cert.pem());
    let asking = Asking::start();
    let mut serving = asking.serve_with(&trusting, &collector.url());
    let said = serving.wait_for_line("--otlp: the collector does not take what is sent");
    assert!(said.contains("certificate"), "{said}");
    drop(serving);
    assert_eq!(collector.understood(), "");

    trust(certified.cert.pem());
    let mut asking = Asking::start();
    let _serving = asking.serve_with(&trusting, &collector.url());
    asking.leak();
    wait_for(&collector, "tcpleak.path.origin");
    wait_for(&collector, "tcpleak_leaked_connections");
}

#[test]
fn a_collector_that_starts_later_gets_the_leak_all_the_same() {
    let address = free_address();
    let mut asking = Asking::start();
    let mut serving = asking.serve(&format!("http://{address}"));
    asking.leak();
    serving.wait_for_line("--otlp: the collector does not take what is sent");
    serving.wait_for_report("the leak", |report| {
        crate::harness::leaks(report).count() == 1
    });
    let listener = TcpListener::bind(&address).expect("nobody took the port");
    let collector = Decoder::listen(listener, well);
    wait_for(&collector, "tcpleak.path.origin");
    serving.wait_for_line("--otlp: the collector takes what is sent again");
}

#[test]
fn a_collector_that_fails_holds_up_nothing() {
    let silent = |stream: &mut TcpStream| {
        // Until the other side gives up.
        let _ = stream.read(&mut [0]);
    };
    let broken = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n");
    };
    let endless = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    };
    for (collector, reason) in [
        (Decoder::start(silent), "timeout"),
        (Decoder::start(broken), "status 500"),
        (Decoder::start(endless), "its answer is too long"),
    ] {
        let mut asking = Asking::start();
        let mut serving = asking.serve(&collector.url());
        asking.leak();
        serving.wait_for_report("the leak", |report| {
            crate::harness::leaks(report).count() == 1
        });
        let said = serving.wait_for_line("--otlp: the collector does not take what is sent");
        assert!(said.contains(reason), "{said}");
        serving.wait_for_surveys(5);
        assert_eq!(serving.terminate(), 0);
    }
}

#[test]
fn what_is_no_collector_is_refused_at_the_start() {
    let refused = crate::harness::run(&["serve", "--listen", "127.0.0.1:0", "--otlp", "localhost"]);
    assert_eq!(refused.code(), 1, "{refused:?}");
    assert!(refused.stderr.contains("--otlp"), "{refused:?}");
}
