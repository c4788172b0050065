//! One request to whoever may be there, and what went wrong told apart.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::datalayer::client_config;
use crate::scrape_config::ScrapeConfig;

/// Longest answer that is read, bytes.
const MAX_ANSWER: usize = 32 << 20;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Ask<'a> {
    pub path: &'a str,
    /// JSON to post; `None` gets.
    pub post: Option<String>,
    pub bearer: Option<&'a str>,
}

impl<'a> Ask<'a> {
    pub(super) fn get(path: &'a str) -> Self {
        Self { path, post: None, bearer: None }
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Answer {
    /// The beginning of the body in one line.
    pub(super) fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(400)]);
        let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        line.chars().take(160).collect()
    }
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody takes the connection.
    Connect(String),
    /// The connection is taken and nothing comes.
    Silent(Duration),
    /// The certificate, or what comes before it.
    Tls(String),
    /// Plain HTTP was spoken, and TLS is.
    SpeaksTls,
    /// TLS was spoken, and plain HTTP is.
    SpeaksPlain,
    NotHttp(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(reason) => write!(f, "cannot be connected to: {reason}"),
            Self::Silent(time) => {
                write!(f, "takes the connection and says nothing within {time:?}")
            }
            Self::Tls(reason) => write!(f, "fails the TLS handshake: {reason}"),
            Self::SpeaksTls => f.write_str("speaks TLS, and is asked in plain HTTP"),
            Self::SpeaksPlain => f.write_str("speaks plain HTTP, and is asked over TLS"),
            Self::NotHttp(reason) => write!(f, "does not speak HTTP: {reason}"),
        }
    }
}

/// Asks over plain HTTP, or over TLS.
#[derive(Clone)]
pub(super) struct Http {
    tls: Option<Arc<ClientConfig>>,
    patience: Duration,
}

impl Http {
    pub(super) fn plain(patience: Duration) -> Self {
        Self { tls: None, patience }
    }

    /// Over TLS, with certificates as `scrape` says.
    pub(super) fn over_tls(scrape: &ScrapeConfig, patience: Duration) -> Result<Self, String> {
        let tls = client_config(scrape).map_err(|e| e.to_string())?;
        Ok(Self { tls: Some(tls), patience })
    }

    pub(super) async fn ask(&self, at: SocketAddr, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let connected = timeout(self.patience, TcpStream::connect(at)).await;
        let stream = match connected {
            Err(_) => {
                return Err(Failure::Connect(format!("no answer within {:?}", self.patience)));
            }
            Ok(Err(e)) => return Err(Failure::Connect(reason(&e))),
            Ok(Ok(stream)) => stream,
        };
        let answer = timeout(self.patience, async {
            match &self.tls {
                None => exchange(stream, at, ask).await,
                Some(tls) => {
                    let connector = TlsConnector::from(tls.clone());
                    let name = ServerName::from(at.ip());
                    let stream = connector.connect(name, stream).await;
                    exchange(stream.map_err(|e| Failure::Tls(e.to_string()))?, at, ask).await
                }
            }
        });
        let failure = match answer.await {
            Ok(Ok(answer)) if !asks_for_tls(&answer) || self.tls.is_some() => return Ok(answer),
            Ok(Ok(answer)) => {
                return if self.speaks_tls(at).await {
                    Err(Failure::SpeaksTls)
                } else {
                    Ok(answer)
                };
            }
            Ok(Err(failure)) => failure,
            Err(_) => return Err(Failure::Silent(self.patience)),
        };
        Err(match failure {
            Failure::NotHttp(_) if self.tls.is_none() && self.speaks_tls(at).await => {
                Failure::SpeaksTls
            }
            Failure::Tls(_) if self.speaks_plain(at, ask).await => Failure::SpeaksPlain,
            other => other,
        })
    }

    async fn speaks_tls(&self, at: SocketAddr) -> bool {
        let any = ScrapeConfig { insecure_skip_verify: true, ..ScrapeConfig::default() };
        let Ok(tls) = client_config(&any) else { return false };
        let handshake = timeout(self.patience, async {
            let stream = TcpStream::connect(at).await?;
            TlsConnector::from(tls).connect(ServerName::from(at.ip()), stream).await
        });
        matches!(handshake.await, Ok(Ok(_)))
    }

    async fn speaks_plain(&self, at: SocketAddr, ask: &Ask<'_>) -> bool {
        let get = Ask { post: None, ..ask.clone() };
        let asked = timeout(self.patience, async {
            exchange(TcpStream::connect(at).await.ok()?, at, &get).await.ok()
        });
        matches!(asked.await, Ok(Some(_)))
    }
}

/// Go's and nginx' answers to plain HTTP on a port of TLS.
fn asks_for_tls(answer: &Answer) -> bool {
    let says = |text: &[u8]| memchr::memmem::find(&answer.body, text).is_some();
    answer.status == StatusCode::BAD_REQUEST
        && (says(b"HTTPS server") || says(b"plain HTTP request was sent to HTTPS port"))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    at: SocketAddr,
    ask: &Ask<'_>,
) -> Result<Answer, Failure> {
    let broken = |e: hyper::Error| Failure::NotHttp(reason(&e));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let method = if ask.post.is_some() { Method::POST } else { Method::GET };
    let mut request = Request::builder()
        .method(method)
        .uri(ask.path)
        .header(HOST, at.to_string())
        .header(CONTENT_TYPE, "application/json");
    if let Some(bearer) = ask.bearer {
        request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
    }
    let body = Full::new(Bytes::from(ask.post.clone().unwrap_or_default()));
    let request = request.body(body).map_err(|e| Failure::NotHttp(e.to_string()))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|e| Failure::NotHttp(e.to_string()))?.to_bytes();
    drop(connection);
    Ok(Answer { status, body })
}

/// An error with what brought it about, in one line.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
