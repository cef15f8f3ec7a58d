//! An nginx with one worker, which answers everything by itself.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::workload::installed;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// An nginx. It ends when this value is dropped.
pub struct Nginx {
    master: Child,
    address: SocketAddr,
    directory: PathBuf,
}

impl Nginx {
    /// Starts one; none when it is missing on this host.
    pub fn start() -> anyhow::Result<Option<Self>> {
        let Some(program) = installed("nginx") else {
            return Ok(None);
        };
        // Free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let name = format!("tcpleak-bench-{}-{}", std::process::id(), address.port());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).context("there is no room for nginx")?;
        let configuration = format!(
            "daemon off; user root; worker_processes 1; pid nginx.pid; error_log error.log;
             events {{ worker_connections 256; }}
             http {{
                 access_log off; client_body_temp_path body; proxy_temp_path proxy;
                 fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                 server {{ listen {address}; location / {{ return 200 'hello'; }} }}
             }}"
        );
        fs::write(directory.join("nginx.conf"), configuration)?;
        let master = Command::new(program)
            .arg("-p")
            .arg(&directory)
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdout(Stdio::null())
            .spawn()
            .context("nginx could not be started")?;
        let nginx = Self {
            master,
            address,
            directory,
        };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            ensure!(started.elapsed() < PATIENCE, "nginx does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(nginx))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended already. SIGTERM lets the master end its worker.
        let _ = kill_process(Pid::from_child(&self.master), Signal::TERM);
        let _ = self.master.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
