//! The peer of leaking clients: the test itself.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use rustix::net::sockopt;

use super::patience;

/// A listening socket of the test. Connections are accepted when the story says so; a client does
/// not wait for that.
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// Listens on IPv4 loopback.
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    /// Listens at an address.
    pub fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address)
            .unwrap_or_else(|error| panic!("cannot listen at {address}: {error}"));
        sockopt::set_socket_timeout(&listener, sockopt::Timeout::Recv, Some(patience()))
            .expect("accept() can have a time limit");
        Self { listener }
    }

    /// Where it listens, as an argument.
    pub fn address(&self) -> String {
        self.socket_address().to_string()
    }

    /// Where it listens.
    pub fn socket_address(&self) -> SocketAddr {
        self.listener
            .local_addr()
            .expect("the listener has an address")
    }

    /// The port where it listens, as an argument.
    pub fn port(&self) -> String {
        self.socket_address().port().to_string()
    }

    /// Accepts one connection.
    #[track_caller]
    pub fn accept(&self) -> TcpStream {
        match self.listener.accept() {
            Ok((connection, _)) => connection,
            Err(error) => panic!("no client came within {:?}: {error}", patience()),
        }
    }

    /// Serves every client in a thread of its own, for as long as clients come.
    pub fn serve(self, answer: impl Fn(TcpStream) + Clone + Send + 'static) {
        thread::spawn(move || {
            while let Ok((connection, _)) = self.listener.accept() {
                let answer = answer.clone();
                thread::spawn(move || answer(connection));
            }
        });
    }

    /// Has clients wait, once there is one more than is accepted.
    pub fn keep_waiting(&self) -> TcpStream {
        rustix::net::listen(&self.listener, 0).expect("it listens");
        TcpStream::connect(self.socket_address()).expect("there is room for one")
    }

    /// Accepts `count` connections and closes them.
    #[track_caller]
    pub fn hang_up_on(&self, count: usize) {
        for _ in 0..count {
            drop(self.accept());
        }
    }
}

/// Closes a connection with a RST.
pub fn reset(connection: TcpStream) {
    sockopt::set_socket_linger(&connection, Some(Duration::ZERO)).expect("a socket can linger");
    drop(connection);
}

/// Reads the head of an HTTP request; `false` when the client asks nothing more.
pub fn read_http_request(connection: &TcpStream) -> bool {
    let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
    lines.any(|line| line.is_empty())
}

/// Answers an HTTP request. The connection stays open.
pub fn answer_http_request(mut connection: &TcpStream, body: &[u8]) -> io::Result<()> {
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    connection.write_all(body)
}
