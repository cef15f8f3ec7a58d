//! Where to listen, and for whom.

use std::{
    fs::File,
    io::{self, Read as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring},
};

use super::Access;
use crate::cli;

/// Most bytes of a file with a token, certificates or a key.
const FILE_BYTES: u64 = 1 << 20;

/// A socket that listens, and what clients must bring.
pub struct Listen {
    pub(super) socket: TcpListener,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) access: Access,
}

impl Listen {
    /// Reads the files and opens the socket.
    ///
    /// # Errors
    ///
    /// When others than this host could ask without a token, or in clear text; when a file is not what it
    /// should be; when the address cannot be had.
    pub fn open(options: &cli::Listen) -> anyhow::Result<Self> {
        let address = options.listen;
        let token = options.token_file.as_deref().map(read_text).transpose()?;
        let access = Access::new(token.as_deref(), &options.host).map_err(anyhow::Error::msg);
        let access = access.with_context(|| match &options.token_file {
            Some(file) => format!("the token in {} is refused", file.display()),
            None => "no token".into(),
        })?;
        let tls = match (&options.tls_certificate, &options.tls_key) {
            (Some(certificate), Some(key)) => Some(acceptor(certificate, key)?),
            _ => None,
        };
        ensure!(
            address.ip().is_loopback() || (access.has_token() && tls.is_some()),
            "others than this host can reach {address}: that needs --token-file, --tls-certificate and \
             --tls-key (docs/serve.md); without, listen on 127.0.0.1"
        );
        let socket = TcpListener::bind(address)
            .with_context(|| format!("cannot listen on {address}; `ss -ltnp` shows who does"))?;
        socket
            .set_nonblocking(true)
            .context("the listening socket")?;
        Ok(Self {
            socket,
            tls,
            access,
        })
    }

    /// Where it listens, with the port that the kernel chose where none was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

fn acceptor(certificate: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .with_context(|| format!("{} holds no certificate (PEM)", certificate.display()))?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .ok()
        .with_context(|| format!("{} holds no private key (PEM)", key.display()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("TLS")?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| {
            let (certificate, key) = (certificate.display(), key.display());
            format!("{certificate} and {key} cannot be used together")
        })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(read(path)?)
        .ok()
        .with_context(|| format!("{} is no text", path.display()))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes)
}
