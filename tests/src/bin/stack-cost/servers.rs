//! The peers of the programs: this very process, none of whose paths is captured.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

/// Threads of a server.
const THREADS: usize = 8;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";

/// Starts a server that answers one request of each client and hangs up.
pub fn answering() -> io::Result<SocketAddr> {
    start(|connection| {
        read_head(&connection)?;
        (&connection).write_all(ANSWER)
    })
}

/// Starts a server that hangs up on each client at once.
pub fn hanging_up() -> io::Result<SocketAddr> {
    start(|_| Ok(()))
}

/// Asks a server for a page.
pub fn ask(server: SocketAddr) -> io::Result<()> {
    let mut connection = TcpStream::connect(server)?;
    connection.write_all(REQUEST)?;
    connection.read_to_end(&mut Vec::new()).map(drop)
}

fn start(serve: fn(TcpStream) -> io::Result<()>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    for _ in 0..THREADS {
        let listener = listener.try_clone()?;
        thread::spawn(move || {
            while let Ok((connection, _)) = listener.accept() {
                // A client that went away wants no answer.
                let _ = serve(connection);
            }
        });
    }
    Ok(address)
}

fn read_head(mut connection: &TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => head.extend_from_slice(&part[..read]),
        }
    }
    Ok(())
}
