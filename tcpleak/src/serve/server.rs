//! The server: a thread that answers, one request for each connection, and bounded in everything that a
//! client decides.

use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{Access, Board, Listen, answer::answer};

/// Most connections at a time; more are closed at once.
const CONNECTIONS: usize = 64;
/// How long a client may take to agree on TLS, and to send its headers.
const ASKING: Duration = Duration::from_secs(5);
/// How long a connection may take as a whole.
const WHOLE: Duration = Duration::from_secs(30);
/// Most bytes of a request's headers, and most headers.
const HEADER_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
/// Pause when the host has no descriptor for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// A server that runs until its process ends.
pub struct Server {
    address: String,
}

impl Server {
    /// Starts to answer.
    ///
    /// # Errors
    ///
    /// When there can be no thread, or no event loop on it.
    pub fn start(listen: Listen, board: Arc<Board>) -> anyhow::Result<Self> {
        let scheme = match listen.tls {
            Some(_) => "https",
            None => "http",
        };
        let address = listen.address().context("the listening socket")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the server's event loop could not be started")?;
        let socket = {
            let _inside = runtime.enter();
            TcpListener::from_std(listen.socket).context("the listening socket")?
        };
        let service = Arc::new(Service {
            access: listen.access,
            board,
            tls: listen.tls,
        });
        thread::Builder::new()
            .name("serve".into())
            .spawn(move || runtime.block_on(accept(socket, service)))
            .context("the server's thread could not be started")?;
        Ok(Self {
            address: format!("{scheme}://{address}"),
        })
    }

    /// Where it is to be found, as a URL without a path.
    pub fn address(&self) -> &str {
        &self.address
    }
}

struct Service {
    access: Access,
    board: Arc<Board>,
    tls: Option<TlsAcceptor>,
}

/// Accepts connections for ever.
async fn accept(socket: TcpListener, service: Arc<Service>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        match socket.accept().await {
            Ok((stream, _)) => {
                // Without room the connection is closed here.
                if let Ok(permit) = room.clone().try_acquire_owned() {
                    tokio::spawn(attend(stream, service.clone(), permit));
                }
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn attend(stream: TcpStream, service: Arc<Service>, _permit: OwnedSemaphorePermit) {
    // Whatever goes wrong with a client is the client's affair.
    let _ = timeout(WHOLE, async {
        match &service.tls {
            Some(tls) => {
                let stream = timeout(ASKING, tls.accept(stream)).await??;
                talk(stream, &service).await
            }
            None => talk(stream, &service).await,
        }
    })
    .await;
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    service: &Service,
) -> Result<(), io::Error> {
    let respond = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(respond(&request, service))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ASKING)
        .max_headers(HEADERS)
        .max_buf_size(HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), respond);
    pin!(connection).await.map_err(io::Error::other)
}

fn respond(request: &Request<Incoming>, service: &Service) -> Response<Full<bytes::Bytes>> {
    let path = request.uri().path();
    let asked = (&service.access, &*service.board);
    let answer = answer(
        request.method(),
        path,
        request.headers(),
        asked,
        Instant::now(),
    );
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}
