//! Real programs of the distribution.

use std::{
    path::PathBuf,
    process::{Child, ChildStdout, Command},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{installed, wait_until};

/// A running program. It is told to end when this value is dropped.
pub struct Program(Child);

impl Program {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn();
        Self(
            child.unwrap_or_else(|error| {
                panic!("cannot start {:?}: {error}", command.get_program())
            }),
        )
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Its piped standard output.
    pub fn output(&mut self) -> ChildStdout {
        self.0.stdout.take().expect("standard output is piped")
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.0
            .try_wait()
            .expect("it is a child of the test")
            .is_none()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already. SIGTERM lets a master end its workers.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        if !std::thread::panicking() {
            wait_until("the program ends", || !self.is_running());
        }
    }
}

/// An nginx with a configuration of its own, and one worker.
pub struct Nginx {
    master: Program,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Nginx {
    /// Starts one whose `http` block holds `http` and whose `server` block holds `server`, and waits
    /// until it answers.
    pub fn start(http: &str, server: &str) -> Self {
        let program = installed("nginx", "nginx");
        let directory = tempfile::tempdir().expect("there is a directory for temporary files");
        let port = free_port();
        let configuration = format!(
            "daemon off; user root; worker_processes 1; pid nginx.pid; error_log error.log;
             events {{ worker_connections 256; }}
             http {{
                 access_log off; client_body_temp_path body; proxy_temp_path proxy;
                 fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                 {http}
                 server {{ listen 127.0.0.1:{port}; {server} }}
             }}"
        );
        std::fs::write(directory.path().join("nginx.conf"), configuration).expect("it is ours");
        let mut command = Command::new(program);
        command
            .arg("-p")
            .arg(directory.path())
            .args(["-c", "nginx.conf", "-e", "error.log"]);
        let nginx = Self {
            master: Program::start(&mut command),
            port,
            _directory: directory,
        };
        wait_until("nginx listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        nginx
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process ids of the master and of its workers.
    pub fn pids(&self) -> Vec<u32> {
        let master = self.master.pid();
        let path = PathBuf::from(format!("/proc/{master}/task/{master}/children"));
        let workers = std::fs::read_to_string(path).expect("nginx runs");
        let workers = workers
            .split_whitespace()
            .map(|pid| pid.parse().expect("a pid"));
        [master].into_iter().chain(workers).collect()
    }
}

/// An Apache with a configuration of its own, which has no page.
pub struct Apache {
    _server: Program,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Apache {
    /// Starts one that keeps idle connections for a second, and waits until it answers. What it could
    /// serve are its own modules: they lie where anybody may look.
    pub fn start() -> Self {
        let program = installed("apache2", "apache2-bin");
        let directory = tempfile::tempdir().expect("there is a directory for temporary files");
        let (own, port) = (directory.path().display(), free_port());
        let modules = "/usr/lib/apache2/modules";
        let configuration = format!(
            "ServerName localhost\nServerRoot {own}\nDocumentRoot {modules}\n\
             User nobody\nGroup nogroup\nErrorLog {own}/error.log\nPidFile {own}/pid\n\
             Listen 127.0.0.1:{port}\nKeepAlive On\nKeepAliveTimeout 1\n\
             LoadModule mpm_event_module {modules}/mod_mpm_event.so\n\
             LoadModule authz_core_module {modules}/mod_authz_core.so\n"
        );
        let file = directory.path().join("apache.conf");
        std::fs::write(&file, configuration).expect("it is ours");
        let mut command = Command::new(program);
        let server = Program::start(command.args(["-D", "FOREGROUND", "-f"]).arg(&file));
        wait_until("Apache listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            _server: server,
            port,
            _directory: directory,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    listener.local_addr().expect("it has an address").port()
}
