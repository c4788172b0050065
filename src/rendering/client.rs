use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::timeout;

use super::cache::Cache;
use crate::scheduling::BoxFuture;
use crate::tokens::{MediaSpan, PromptTokens, Render, RenderError, RenderPrompts};

/// Longest answer: a few million tokens in JSON.
const MAX_ANSWER: usize = 64 << 20;
/// Connections kept for the next request, as in the reference.
const IDLE_CONNECTIONS: usize = 16;
/// Rendered prompts are kept in this many bytes.
const CACHE_BYTES: usize = 64 << 20;
/// Engines remembered not to render.
const MAX_TOKENIZERS: usize = 64;

/// Every vLLM has this endpoint. It takes the same bodies, but no media and no list of prompts.
const TOKENIZE: &str = "/tokenize";

/// Has prompts turned into token ids by vLLM's render endpoints, over connections that are kept.
///
/// The body is handed on as it came, so whatever the engine makes of its fields, it makes of them
/// here as well. An engine that does not render is asked to tokenize instead.
#[derive(Debug)]
pub struct RenderClient(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    http: Client<HttpConnector, Full<Bytes>>,
    cache: Cache,
    /// Bases that do not render, newest last.
    tokenizers: Mutex<VecDeque<String>>,
}

impl Default for RenderClient {
    fn default() -> Self {
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build_http();
        let cache = Cache::new(CACHE_BYTES);
        Self(Arc::new(Shared { http, cache, tokenizers: Mutex::default() }))
    }
}

impl RenderPrompts for RenderClient {
    fn render(
        &self,
        base: String,
        kind: Render,
        body: Bytes,
        patience: Duration,
    ) -> BoxFuture<Result<Arc<[PromptTokens]>, RenderError>> {
        let shared = self.0.clone();
        Box::pin(async move { shared.render(&base, kind, body, patience).await })
    }
}

impl Shared {
    /// The token ids of the prompts in `body`, a request of the OpenAI API of this kind, from the
    /// engine at `base`.
    ///
    /// # Errors
    /// Where the engine does not give them in time.
    async fn render(
        &self,
        base: &str,
        kind: Render,
        body: Bytes,
        patience: Duration,
    ) -> Result<Arc<[PromptTokens]>, RenderError> {
        let key = self.cache.key(kind.path(), &body);
        if let Some(prompts) = self.cache.get(key) {
            return Ok(prompts);
        }
        let answer = timeout(patience, self.ask_either(base.trim_end_matches('/'), kind, body));
        let answer = answer.await.map_err(|_| RenderError::TimedOut)??;
        let prompts: Arc<[_]> = read(&answer)?.into();
        self.cache.put(key, prompts.clone());
        Ok(prompts)
    }

    async fn ask_either(
        &self,
        base: &str,
        kind: Render,
        body: Bytes,
    ) -> Result<Bytes, RenderError> {
        if !self.tokenizers.lock().iter().any(|known| known == base) {
            match self.ask(base, kind.path(), body.clone()).await {
                Err(RenderError::Refused(403 | 404)) => {}
                answer => return answer,
            }
        }
        let answer = self.ask(base, TOKENIZE, body).await?;
        let mut tokenizers = self.tokenizers.lock();
        if !tokenizers.iter().any(|known| known == base) {
            if tokenizers.len() == MAX_TOKENIZERS {
                tokenizers.pop_front();
            }
            tokenizers.push_back(base.to_owned());
        }
        Ok(answer)
    }

    async fn ask(&self, base: &str, path: &str, body: Bytes) -> Result<Bytes, RenderError> {
        let request = Request::post(format!("{base}{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|_| RenderError::Url)?;
        let answer = self.http.request(request).await.map_err(|_| RenderError::Unreachable)?;
        let (parts, body) = answer.into_parts();
        if !parts.status.is_success() {
            return Err(RenderError::Refused(parts.status.as_u16()));
        }
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        Ok(body.map_err(|_| RenderError::Unreachable)?.to_bytes())
    }
}

/// One prompt as vLLM answers it when it renders, or (`tokens`) when it tokenizes.
#[derive(Deserialize)]
struct Rendered {
    #[serde(alias = "tokens")]
    token_ids: Vec<u32>,
    features: Option<Features>,
}

/// Media of a prompt, by modality. Both lists of a modality go together item by item.
#[derive(Deserialize)]
struct Features {
    #[serde(default)]
    mm_hashes: Option<BTreeMap<String, Vec<Option<Box<str>>>>>,
    #[serde(default)]
    mm_placeholders: Option<BTreeMap<String, Vec<Placeholder>>>,
}

#[derive(Clone, Copy, Deserialize)]
struct Placeholder {
    offset: u32,
    length: u32,
}

/// Reads an answer of a render endpoint: of one prompt for chats, a list of them for completions.
///
/// # Errors
/// Where it is none.
fn read(answer: &[u8]) -> Result<Vec<PromptTokens>, RenderError> {
    let is_list = answer.trim_ascii_start().first() == Some(&b'[');
    let prompts = if is_list {
        serde_json::from_slice(answer)
    } else {
        serde_json::from_slice(answer).map(|prompt| vec![prompt])
    };
    let prompts: Vec<Rendered> = prompts.map_err(|_| RenderError::Unreadable)?;
    Ok(prompts.into_iter().map(prompt).collect())
}

fn prompt(rendered: Rendered) -> PromptTokens {
    let mut media = Vec::new();
    if let Some(Features { mm_hashes: Some(hashes), mm_placeholders: Some(mut places) }) =
        rendered.features
    {
        for (modality, hashes) in hashes {
            let places = places.remove(&modality).unwrap_or_default();
            for (hash, Placeholder { offset, length }) in hashes.into_iter().zip(places) {
                // An item without a hash cannot be found again; it is still none of the others.
                let hash = hash.unwrap_or_else(|| "\0".into());
                media.push(MediaSpan { offset, length, hash });
            }
        }
    }
    media.sort_by_key(|span| span.offset);
    PromptTokens { ids: rendered.token_ids, media }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::Response;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn answers() {
        let ids = |ids: &[u32]| PromptTokens { ids: ids.to_vec(), media: vec![] };
        let image = PromptTokens {
            ids: vec![1, 9, 9, 2],
            media: vec![MediaSpan { offset: 1, length: 2, hash: "ab".into() }],
        };
        let cases = [
            (r#"{"token_ids":[1,2],"request_id":"x"}"#, Ok(vec![ids(&[1, 2])])),
            (r#"{"token_ids":[],"features":null}"#, Ok(vec![ids(&[])])),
            (r#"[{"token_ids":[1]},{"token_ids":[2]}]"#, Ok(vec![ids(&[1]), ids(&[2])])),
            (
                r#"{"token_ids":[1,9,9,2],"features":{"mm_hashes":{"image":["ab"]},
                    "mm_placeholders":{"image":[{"offset":1,"length":2}]},"kwargs":{}}}"#,
                Ok(vec![image]),
            ),
            (r#"{"token_ids":[-1]}"#, Err(RenderError::Unreadable)),
            (r#"{"tokens":"x"}"#, Err(RenderError::Unreadable)),
            ("", Err(RenderError::Unreadable)),
        ];
        for (answer, expected) in cases {
            assert_eq!(read(answer.as_bytes()), expected, "{answer}");
        }
    }

    /// A renderer that answers what the body says it should.
    struct Renderer {
        url: String,
        connections: Arc<AtomicUsize>,
        requests: Arc<AtomicUsize>,
    }

    impl Renderer {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let connections = Arc::new(AtomicUsize::new(0));
            let requests = Arc::new(AtomicUsize::new(0));
            let (opened, asked) = (connections.clone(), requests.clone());
            tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    opened.fetch_add(1, Ordering::SeqCst);
                    let asked = asked.clone();
                    let service = service_fn(move |request| answer(request, asked.clone()));
                    let serve = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    tokio::spawn(serve);
                }
            });
            Self { url, connections, requests }
        }
    }

    async fn answer(
        request: Request<hyper::body::Incoming>,
        asked: Arc<AtomicUsize>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        asked.fetch_add(1, Ordering::SeqCst);
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        if body == "hang" {
            std::future::pending::<()>().await;
        }
        if body == "refuse" || (body == "tokenize" && path != "/tokenize") {
            return Ok(Response::builder().status(403).body(Full::default()).unwrap());
        }
        if path == "/tokenize" {
            return Ok(Response::new(Full::new(r#"{"count":1,"tokens":[7]}"#.into())));
        }
        let kind = u32::from(path == "/v1/chat/completions/render");
        Ok(Response::new(Full::new(format!(r#"{{"token_ids":[{kind}]}}"#).into())))
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn connections_and_answers_are_used_again() {
        let renderer = Renderer::start().await;
        let client = RenderClient::default();
        let cases = [
            (Render::Completion, "a", 0, 1),
            (Render::Chat, "a", 1, 2),
            (Render::Chat, "b", 1, 3),
            (Render::Chat, "a", 1, 3),
        ];
        for (kind, body, id, requests) in cases {
            let prompts = client
                .0
                .render(&renderer.url, kind, Bytes::from_static(body.as_bytes()), LONG)
                .await;
            assert_eq!(prompts.unwrap()[0].ids, [id], "{kind:?} {body}");
            assert_eq!(renderer.requests.load(Ordering::SeqCst), requests, "{kind:?} {body}");
        }
        assert_eq!(renderer.connections.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn engines_that_do_not_render_tokenize() {
        let renderer = Renderer::start().await;
        let client = RenderClient::default();
        // The first time both are tried, then only what is known to work.
        for (body, requests) in [("tokenize", 2), ("tokenize ", 3)] {
            let body = Bytes::from_static(body.as_bytes());
            let prompts = client.0.render(&renderer.url, Render::Chat, body, LONG).await.unwrap();
            assert_eq!(prompts[0].ids, [7]);
            assert_eq!(renderer.requests.load(Ordering::SeqCst), requests);
        }
    }

    #[tokio::test]
    async fn what_goes_wrong() {
        let renderer = Renderer::start().await;
        let client = RenderClient::default();
        let short = Duration::from_millis(50);
        let cases = [
            ("refuse", &*renderer.url, LONG, Err(RenderError::Refused(403))),
            ("hang", &renderer.url, short, Err(RenderError::TimedOut)),
            ("a", "http://127.0.0.1:1", LONG, Err(RenderError::Unreachable)),
        ];
        for (body, url, patience, expected) in cases {
            let bytes = Bytes::from_static(body.as_bytes());
            assert_eq!(
                client.0.render(url, Render::Chat, bytes, patience).await,
                expected,
                "{body}"
            );
        }
    }
}
