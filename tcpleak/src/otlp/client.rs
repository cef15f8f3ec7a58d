//! The HTTP that OTLP is sent by: a request at a time in the thread that asks, bounded in time and size.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, ResponseBodyTooLarge};
use tokio_rustls::rustls::crypto::ring;
use ureq::{
    Agent, Error,
    tls::{Certificate, RootCerts, TlsConfig},
};

use super::delivery::Delivery;

/// Longest request with its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer, in bytes. A collector has little to say.
const ANSWER_BYTES: u64 = 64 << 10;

/// A client that says when the collector does not take what is sent.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    delivery: Delivery,
}

impl Client {
    /// One for HTTP, or for HTTPS: it trusts whom the system trusts, or the certificates in `SSL_CERT_FILE`.
    ///
    /// # Errors
    ///
    /// When there is nobody to trust.
    pub fn new(https: bool) -> anyhow::Result<Self> {
        Self::with_patience(https, PATIENCE)
    }

    /// As [`Self::new`], with another patience.
    pub fn with_patience(https: bool, patience: Duration) -> anyhow::Result<Self> {
        let mut config = Agent::config_builder()
            .timeout_global(Some(patience))
            .max_redirects(0)
            .max_response_header_size(ANSWER_BYTES as usize)
            .http_status_as_error(false)
            .user_agent(concat!("tcpleak/", env!("CARGO_PKG_VERSION")));
        if https {
            config = config.tls_config(tls()?);
        }
        Ok(Self {
            agent: config.build().new_agent(),
            delivery: Delivery::default(),
        })
    }

    /// Sends a request, and reads the answer.
    pub fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let response = self.agent.run(Request::from_parts(parts, &body[..]))?;
        let (parts, mut body) = response.into_parts();
        let answer = body.with_config().limit(ANSWER_BYTES).read_to_vec();
        let answer = answer.map_err(|error| -> HttpError {
            match error {
                // This one is not tried again.
                Error::BodyExceedsLimit(_) => ResponseBodyTooLarge::new().into(),
                error => error.into(),
            }
        })?;
        Ok(Response::from_parts(parts, answer.into()))
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let result = self.send(request);
        let noted = match &result {
            Ok(response) if response.status().is_success() => self.delivery.note(Ok(())),
            Ok(response) => {
                let reason = format!("it answers with status {}", response.status());
                self.delivery.note(Err(&reason))
            }
            Err(error) if error.is::<ResponseBodyTooLarge>() => {
                self.delivery.note(Err("its answer is too long"))
            }
            Err(error) => self.delivery.note(Err(&error.to_string())),
        };
        if let Some(text) = noted {
            anstream::eprintln!("tcpleak: --otlp: {text}");
        }
        result
    }
}

fn tls() -> anyhow::Result<TlsConfig> {
    let trusted = rustls_native_certs::load_native_certs();
    let certificates = trusted.certs.iter();
    let certificates: Vec<Certificate<'static>> = certificates
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect();
    if certificates.is_empty() {
        let reason = trusted.errors.first().map(|error| format!(": {error}"));
        anyhow::bail!(
            "there are no certificates to trust{}",
            reason.unwrap_or_default()
        );
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(certificates))
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build())
}
