//! The command line.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    rights::User,
    select::{Select, duration},
};

/// Find TCP connections whose peer is gone and that nobody closes, and the code that opened them.
///
/// Without a command tcpleak watches the host: it reports at once what is leaked already, then
/// every change, and ends with a report on Ctrl-C. Leaks that are older than tcpleak are found too;
/// the code path is known for connections opened while it runs.
#[derive(Debug, Parser)]
#[command(name = "tcpleak", version, after_long_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; watch the host when absent.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of watching.
    #[command(flatten)]
    pub watch: Watch,
}

impl Cli {
    /// Whether the log of the kernel programs was asked for.
    pub fn is_verbose(&self) -> bool {
        match &self.command {
            None => self.watch.output.verbose,
            Some(Command::Snapshot(snapshot)) => snapshot.output.verbose,
            Some(Command::TimeWait(options)) => options.output.verbose,
            Some(Command::Run(run)) => run.verbose,
            Some(Command::Serve(serve)) => serve.verbose,
            Some(Command::Doctor(doctor)) => doctor.verbose,
            Some(Command::LeakForDoctor | Command::ReadCode | Command::RunOnLeak { .. }) => false,
        }
    }
}

/// Most captures of one process in a second, unless the user says otherwise.
pub const CAPTURES: u32 = 200;

const EXAMPLES: &str = "\
Examples:
  sudo tcpleak                            watch the host until Ctrl-C
  sudo tcpleak --pid 4242 --duration 60s  watch one process for a minute
  sudo tcpleak --remote 10.0.0.0/8        only connections to these peers
  sudo tcpleak --open 10m                 also a pool that only grows: what is open and unused
  sudo tcpleak snapshot --all             what the kernel shows now, leaks or not
  sudo tcpleak snapshot --format json     one document for a script
  sudo tcpleak time-wait                  who uses up ports, and when they run out
  sudo tcpleak run -- pytest              run tests, and fail when they leak connections
  sudo tcpleak serve                      watch for weeks: http://localhost:9469
  sudo tcpleak doctor                     what works on this kernel, proven by a leak of its own

Exit status:
  0  no leak
  1  tcpleak could not do its work; the message names the cause
  2  the command line is wrong
  3  leaks were found
`tcpleak run` ends with the status of its command when that failed.

The words (verdicts, evidence, ages) are explained in docs/verdicts.md.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look once, without tracing: which leaked connections exist now, and who holds them.
    Snapshot(Snapshot),
    /// Show who uses up ports: sockets in TIME_WAIT by who closed the connections first, how many ports
    /// are left for each destination and when they run out, and what would help.
    TimeWait(TimeWait),
    /// Run a command, such as the tests of a project, and fail when it leaks connections, or whatever it
    /// started.
    Run(Run),
    /// Watch for weeks, and answer over HTTP what leaks: metrics for Prometheus, a live page, the report as
    /// JSON.
    Serve(Box<Serve>),
    /// Show what works on this kernel and with these rights, and prove it on a leak of its own.
    Doctor(Doctor),
    /// The leak that the doctor finds: one connection whose peer is gone, held until standard input
    /// ends.
    #[command(hide = true)]
    LeakForDoctor,
    /// The process that reads the files of other programs, for tcpleak itself; it talks on standard
    /// input.
    #[command(hide = true)]
    ReadCode,
    /// The process that runs the command of `--on-leak`, for tcpleak itself; it is told on standard input
    /// when.
    #[command(hide = true)]
    RunOnLeak {
        /// The command and its arguments.
        #[arg(required = true, last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
}

/// Options of watching.
#[derive(Clone, Debug, Args)]
pub struct Watch {
    /// Which connections to report.
    #[command(flatten)]
    pub select: Select,
    /// Where the report goes, and how it looks.
    #[command(flatten)]
    pub output: Output,
    /// How often there is a survey, until when, and at what cost.
    #[command(flatten)]
    pub pace: Pace,
    /// How much is traced.
    #[command(flatten)]
    pub tracing: Tracing,
}

/// How much is traced.
#[derive(Clone, Debug, Args)]
pub struct Tracing {
    /// Trace the accept() system calls for the code path of accepted connections where the kernel
    /// offers nothing cheaper. It slows every system call of the host a little.
    #[arg(long)]
    pub accept_stacks: bool,
    /// Most code paths that are captured of one process in a second, over time.
    #[arg(long, value_name = "NUMBER", default_value_t = CAPTURES, value_parser = clap::value_parser!(u32).range(1..))]
    pub captures: u32,
}

/// How often there is a survey, until when, and at what cost.
#[derive(Clone, Debug, Args)]
pub struct Pace {
    /// Time between two surveys (500ms, 1s, 2m).
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// Stop after this time instead of waiting for Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Most CPU time that code paths and surveys may cost, kernel side included, as a part of one core
    /// (1%, 0.5%). What is left out to keep to it is counted and shown. Following that connections
    /// open and end is never left out.
    #[arg(long, value_name = "PERCENT", default_value = "1%", value_parser = percent)]
    pub budget: f64,
}

/// Options of looking at ports.
#[derive(Clone, Debug, Args)]
pub struct TimeWait {
    /// Look once, without tracing: who closed the connections is not known then.
    #[arg(long, conflicts_with_all = ["duration", "interval", "budget"])]
    pub once: bool,
    /// Where the report goes, and how it looks.
    #[command(flatten)]
    pub output: Output,
    /// How often there is a look, until when, and at what cost.
    #[command(flatten)]
    pub pace: Pace,
}

/// Options of the snapshot.
#[derive(Clone, Debug, Args)]
pub struct Snapshot {
    /// Which connections to report.
    #[command(flatten)]
    pub select: Select,
    /// Where the report goes, and how it looks.
    #[command(flatten)]
    pub output: Output,
}

/// Options of running a command.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = RUN_HELP)]
pub struct Run {
    /// How long the peer must be gone before a connection counts as leaked while its process runs
    /// (500ms, 10s, 2m).
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub min_age: Duration,
    /// How long the peer must have been gone when a process ends, before a connection that nothing else
    /// has closed counts as leaked; with 0s it counts however short that was.
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = duration)]
    pub exit_age: Duration,
    /// Time between two surveys (500ms, 1s, 2m).
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = interval)]
    pub interval: Duration,
    /// Exit status when there are leaks and the command succeeded.
    #[arg(long, value_name = "STATUS", default_value_t = 3)]
    pub leak_exit_code: u8,
    /// Leaks that are known and do not count; `.tcpleak.toml` in the working directory when absent
    /// (docs/run.md).
    #[arg(long, value_name = "FILE")]
    pub suppressions: Option<PathBuf>,
    /// Write the report to this file as one JSON document (docs/json.md).
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the leaks to this file as JUnit XML, each as a test that failed.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Show the leaks as annotations of GitHub, on standard error.
    #[arg(long)]
    pub github: bool,
    /// Show the command lines of processes, which may hold passwords.
    #[arg(long)]
    pub command_lines: bool,
    /// Show every frame of the code paths, those of libraries and runtimes too (text only).
    #[arg(long)]
    pub full_stacks: bool,
    /// Show the log of the kernel programs on standard error.
    #[arg(short, long)]
    pub verbose: bool,
    /// The command and its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<OsString>,
}

/// Options of serving.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Where to listen, and for whom.
    #[command(flatten)]
    pub listen: Listen,
    /// Which connections to report.
    #[command(flatten)]
    pub select: Select,
    /// Time between two surveys (500ms, 1s, 2m).
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = interval)]
    pub interval: Duration,
    /// Most CPU time that code paths and surveys may cost, kernel side included, as a part of one core
    /// (1%, 0.5%). What is left out to keep to it is counted and shown.
    #[arg(long, value_name = "PERCENT", default_value = "1%", value_parser = percent)]
    pub budget: f64,
    /// User to become once the kernel programs are attached; `root` stays root.
    #[arg(long, value_name = "USER", default_value = "nobody")]
    pub user: User,
    /// Who else is told of what is found.
    #[command(flatten)]
    pub forward: Forward,
    /// Show the command lines of processes, which may hold passwords.
    #[arg(long)]
    pub command_lines: bool,
    /// How much is traced.
    #[command(flatten)]
    pub tracing: Tracing,
    /// Show the log of the kernel programs on standard error.
    #[arg(short, long)]
    pub verbose: bool,
}

/// Where to listen, and for whom.
#[derive(Clone, Debug, Args)]
pub struct Listen {
    /// Address and port to listen on. One that others can reach needs a token and TLS.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9469")]
    pub listen: SocketAddr,
    /// File with the token that clients must send (`Authorization: Bearer TOKEN`).
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// File with the certificate for TLS and those between it and the root (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// File with the private key for TLS (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Another name by which clients call this host; addresses and localhost always work; repeatable.
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
}

const RUN_HELP: &str = "\
Examples:
  sudo tcpleak run -- pytest
  sudo tcpleak run --junit leaks.xml -- go test ./...
  sudo tcpleak run -- sudo -u \"$USER\" npm test   as yourself, not as root

A connection leaks when its peer is gone for --min-age and nobody closes it, or when nothing but the end \
of its process closes it. What the command writes is left alone; leaks are reported on standard error.

Exit status:
  the command's own, when it is not 0 (128 and the number of the signal that ended it)
  --leak-exit-code  the command succeeded and connections were leaked
  1                 the command could not be watched, and was not started, or not watched to its end
  126, 127          the command cannot be run, or there is none

docs/run.md has the rest.";

/// Who else is told of what is found.
#[derive(Clone, Debug, Default, Args)]
pub struct Forward {
    /// Send the metrics, and each new leak, to a collector of OpenTelemetry at this URL, by OTLP over HTTP
    /// (docs/otlp.md).
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
    /// Run this command for each new leak, with the leak as JSON on its standard input (docs/alerts.md). It is
    /// split into words as a shell does, but no shell runs it; it has no rights, and ten seconds.
    #[arg(long, value_name = "COMMAND")]
    pub on_leak: Option<String>,
}

/// Options of the doctor.
#[derive(Clone, Debug, Args)]
pub struct Doctor {
    /// Show the log of the kernel programs on standard error.
    #[arg(short, long)]
    pub verbose: bool,
}

/// Where the report goes, and how it looks.
#[derive(Clone, Debug, Args)]
pub struct Output {
    /// How the report looks. `json` is the final report as one document, `ndjson` every report on
    /// a line of its own (docs/json.md).
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub format: Format,
    /// Write to this file instead of standard output; it is replaced as a whole, never half written.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Show every frame of the code paths, those of libraries and runtimes too (text only).
    #[arg(long)]
    pub full_stacks: bool,
    /// Show the log of the kernel programs on standard error.
    #[arg(short, long)]
    pub verbose: bool,
}

/// How the report looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// The final report as one document.
    Json,
    /// Every report on a line of its own.
    Ndjson,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < Duration::from_millis(100) {
        return Err("surveys closer than 100ms would cost more than they tell".into());
    }
    Ok(interval)
}

/// A part of one core.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    match number.parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent / 100.0),
        _ => Err("a budget is more than 0% and at most 100% of one core".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn surveys_that_are_too_close_are_refused() {
        assert!(interval("1ms").is_err());
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
    }

    #[test]
    fn a_budget_is_a_part_of_one_core() {
        assert_eq!(percent("1%"), Ok(0.01));
        assert_eq!(percent("0.5"), Ok(0.005));
        for wrong in ["0", "-1%", "101%", "NaN", "inf", "%", "one"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }
}
