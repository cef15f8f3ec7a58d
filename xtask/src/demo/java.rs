//! The crawler in Java, and an Apache that closes connections which nobody uses.

use std::env;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::process;

/// How many pages the crawler asks for.
const PAGES: &str = "10";
/// How long Apache may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the crawler uses, from Debian's `libcommons-httpclient-java`.
const LIBRARIES: [&str; 3] = ["commons-httpclient", "commons-logging", "commons-codec"];

/// An Apache without pages. It is told to end when this value is dropped.
pub struct Apache {
    server: Child,
    port: u16,
}

impl Apache {
    /// Starts one, whose files are kept below a directory. What it could serve are its own modules: they
    /// lie where anybody may look.
    pub fn start(target: &Path) -> Result<Self> {
        let program = installed("apache2", "apache2-bin")?;
        let directory = target.join("demo/apache");
        fs::create_dir_all(&directory)
            .with_context(|| format!("making {}", directory.display()))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (own, modules) = (directory.display(), "/usr/lib/apache2/modules");
        let configuration = format!(
            "ServerName localhost\nServerRoot \"{own}\"\nDocumentRoot {modules}\n\
             User nobody\nGroup nogroup\nErrorLog \"{own}/errors\"\nPidFile \"{own}/pid\"\n\
             Listen 127.0.0.1:{port}\nKeepAlive On\nKeepAliveTimeout 1\n\
             LoadModule mpm_event_module {modules}/mod_mpm_event.so\n\
             LoadModule authz_core_module {modules}/mod_authz_core.so\n"
        );
        let file = directory.join("configuration");
        fs::write(&file, configuration)?;
        let mut command = Command::new(program);
        command.args(["-D", "FOREGROUND", "-f"]).arg(file);
        let server = command.spawn().context("cannot start Apache")?;
        let apache = Self { server, port };
        apache.wait()?;
        Ok(apache)
    }

    fn wait(&self) -> Result<()> {
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            ensure!(start.elapsed() < PATIENCE, "Apache does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        // Only this lets it end the processes that serve for it. It may have ended already.
        let _ = kill_process(Pid::from_child(&self.server), Signal::TERM);
        let _ = self.server.wait();
    }
}

/// Compiles the crawler; the command asks Apache for pages that it has not.
pub fn crawler(target: &Path, apache: &Apache) -> Result<Command> {
    let classes = target.join("demo/classes");
    fs::create_dir_all(&classes).with_context(|| format!("making {}", classes.display()))?;
    let libraries = LIBRARIES.map(|name| format!("/usr/share/java/{name}.jar"));
    for library in &libraries {
        if !Path::new(library).exists() {
            bail!("there is no {library}: apt-get install libcommons-httpclient-java");
        }
    }
    let libraries = libraries.join(":");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/java/Crawler.java");
    let mut compiler = Command::new(installed("javac", "openjdk-17-jdk-headless")?);
    compiler.args(["-cp", &libraries, "-d"]).arg(&classes);
    process::run(compiler.arg(source))?;
    let mut crawler = Command::new(installed("java", "openjdk-17-jdk-headless")?);
    crawler
        .arg("-cp")
        .arg(format!("{}:{libraries}", classes.display()))
        .arg("Crawler")
        .arg(format!("http://127.0.0.1:{}/missing", apache.port))
        .arg(PAGES);
    Ok(crawler)
}

/// Where a program is, or the package that has it.
fn installed(program: &str, package: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Apache lies where only root looks.
    let found = env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|file| file.is_file());
    found.with_context(|| format!("there is no {program}: apt-get install {package}"))
}
