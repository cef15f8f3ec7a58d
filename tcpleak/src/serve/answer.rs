//! What is answered.

use std::time::Instant;

use bytes::Bytes;
use hyper::{
    Method, StatusCode,
    header::{
        ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST,
        HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, WWW_AUTHENTICATE,
        X_CONTENT_TYPE_OPTIONS,
    },
};

use super::{Access, Board, Freshness, page::page};
use crate::output::openmetrics;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
/// Nothing may be loaded, and no other page may show this one.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// An answer, without the body for a request that wants none.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// Answers a request by its method, path and headers.
pub fn answer(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    (access, board): (&Access, &Board),
    now: Instant,
) -> Answer {
    // HTTP/1.0 has no such header, and no browser speaks that.
    let host = headers
        .get(HOST)
        .map(|host| host.to_str().unwrap_or_default());
    if host.is_some_and(|host| !access.admits_host(host)) {
        return plain(
            StatusCode::MISDIRECTED_REQUEST,
            "this is not the host that was asked for; --host NAME makes it one\n",
        );
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        return answer.with(ALLOW, "GET, HEAD");
    }
    let token = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let admitted = access.admits(token);
    let mut answer = match path {
        // These tell nothing of what is seen.
        "/healthz" => health(board, now),
        "/readyz" => readiness(board, now),
        "/" => Answer::new(StatusCode::OK, HTML, page().html.clone().into())
            .with(CONTENT_SECURITY_POLICY, &page().content_security_policy),
        "/metrics" | "/report.json" | "/history.json" if !admitted => {
            plain(StatusCode::UNAUTHORIZED, "a token is needed\n")
                .with(WWW_AUTHENTICATE, "Bearer realm=\"tcpleak\"")
        }
        "/metrics" => {
            let metrics = board.shown().map(|shown| shown.metrics());
            document(openmetrics::CONTENT_TYPE, metrics)
        }
        "/report.json" => document(JSON, board.shown().map(|shown| shown.report())),
        "/history.json" => document(JSON, board.history()),
        _ => plain(
            StatusCode::NOT_FOUND,
            "there is /, /metrics, /report.json, /history.json, /healthz and /readyz\n",
        ),
    };
    if *method == Method::HEAD {
        answer.body = Bytes::new();
    }
    answer
}

fn document(kind: &'static str, document: Option<Bytes>) -> Answer {
    match document {
        Some(document) => Answer::new(StatusCode::OK, kind, document),
        None => plain(StatusCode::SERVICE_UNAVAILABLE, "there was no survey yet\n"),
    }
}

/// Whether tcpleak is better started anew.
fn health(board: &Board, now: Instant) -> Answer {
    match board.freshness(now) {
        Freshness::Late(since) => late(since),
        Freshness::NotYet | Freshness::Fresh => plain(StatusCode::OK, "ok\n"),
    }
}

/// Whether there is something to see.
fn readiness(board: &Board, now: Instant) -> Answer {
    match board.freshness(now) {
        Freshness::Late(since) => late(since),
        Freshness::NotYet => plain(StatusCode::SERVICE_UNAVAILABLE, "there was no survey yet\n"),
        Freshness::Fresh => plain(StatusCode::OK, "ok\n"),
    }
}

fn late(since: std::time::Duration) -> Answer {
    let words = format!("there was no survey for {} seconds\n", since.as_secs());
    Answer::new(StatusCode::SERVICE_UNAVAILABLE, TEXT, words.into())
}

fn plain(status: StatusCode, words: &'static str) -> Answer {
    Answer::new(status, TEXT, Bytes::from_static(words.as_bytes()))
}

impl Answer {
    fn new(status: StatusCode, kind: &'static str, body: Bytes) -> Self {
        let headers = [
            (CONTENT_TYPE, kind),
            (CACHE_CONTROL, "no-store"),
            (CONTENT_SECURITY_POLICY, NOTHING),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                "same-origin",
            ),
        ];
        let value = HeaderValue::from_static;
        Self {
            status,
            headers: headers
                .map(|(name, text)| (name, value(text)))
                .into_iter()
                .collect(),
            body,
        }
    }

    fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{health::Health, output::samples};

    const TOKEN: &str = "0123456789abcdef";

    fn board() -> Board {
        let board = Board::new(Duration::from_secs(5));
        board.show(
            samples::report(vec![samples::eof_unread()]),
            Health::default(),
        );
        board
    }

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let value = HeaderValue::from_static;
        pairs
            .iter()
            .map(|(name, text)| (name.clone(), value(text)))
            .collect()
    }

    fn get(
        path: &str,
        access: &Access,
        board: &Board,
        given: &[(HeaderName, &'static str)],
    ) -> Answer {
        answer(
            &Method::GET,
            path,
            &headers(given),
            (access, board),
            Instant::now(),
        )
    }

    #[test]
    fn everything_that_is_served_says_what_it_is_and_is_not_kept() {
        let (access, board) = (Access::default(), board());
        for (path, kind) in [
            ("/", HTML),
            ("/metrics", openmetrics::CONTENT_TYPE),
            ("/report.json", JSON),
            ("/history.json", JSON),
            ("/healthz", TEXT),
            ("/readyz", TEXT),
        ] {
            let answer = get(path, &access, &board, &[(HOST, "localhost:9469")]);
            assert_eq!(answer.status, StatusCode::OK, "{path}");
            assert_eq!(answer.headers[CONTENT_TYPE], kind, "{path}");
            assert_eq!(answer.headers[CACHE_CONTROL], "no-store", "{path}");
            assert_eq!(answer.headers[X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
            let policy = answer.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.contains("default-src 'none'"), "{policy}");
            assert!(!answer.body.is_empty(), "{path}");
        }
        assert_eq!(
            get("/other", &access, &board, &[]).status,
            StatusCode::NOT_FOUND
        );
    }

    #[test]
    fn what_is_seen_needs_the_token_and_whether_it_works_does_not() {
        let (access, board) = (Access::new(Some(TOKEN), &[]).unwrap(), board());
        for path in ["/metrics", "/report.json", "/history.json"] {
            let refused = get(path, &access, &board, &[]);
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}");
            assert!(refused.headers.contains_key(WWW_AUTHENTICATE));
            let right = [(AUTHORIZATION, "Bearer 0123456789abcdef")];
            assert_eq!(
                get(path, &access, &board, &right).status,
                StatusCode::OK,
                "{path}"
            );
        }
        for path in ["/", "/healthz", "/readyz"] {
            assert_eq!(
                get(path, &access, &board, &[]).status,
                StatusCode::OK,
                "{path}"
            );
        }
    }

    #[test]
    fn a_strangers_name_gets_nothing() {
        let (access, board) = (Access::default(), board());
        for path in ["/", "/metrics", "/report.json", "/healthz"] {
            let answer = get(path, &access, &board, &[(HOST, "evil.example")]);
            assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{path}");
        }
    }

    #[test]
    fn nothing_can_be_changed() {
        let (access, board) = (Access::default(), board());
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let answer = answer(
                &method,
                "/",
                &HeaderMap::new(),
                (&access, &board),
                Instant::now(),
            );
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(answer.headers[ALLOW], "GET, HEAD");
        }
        let head = answer(
            &Method::HEAD,
            "/report.json",
            &HeaderMap::new(),
            (&access, &board),
            Instant::now(),
        );
        assert_eq!(head.status, StatusCode::OK);
        assert!(head.body.is_empty());
    }

    #[test]
    fn it_is_ready_with_the_first_survey_and_ill_when_they_stop() {
        let access = Access::default();
        let board = Board::new(Duration::from_secs(5));
        assert_eq!(get("/healthz", &access, &board, &[]).status, StatusCode::OK);
        for path in ["/readyz", "/metrics", "/report.json"] {
            let answer = get(path, &access, &board, &[]);
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        }
        board.show(samples::report(Vec::new()), Health::default());
        assert_eq!(get("/readyz", &access, &board, &[]).status, StatusCode::OK);
        let later = Instant::now() + Duration::from_secs(300);
        for path in ["/readyz", "/healthz"] {
            let answer = answer(
                &Method::GET,
                path,
                &HeaderMap::new(),
                (&access, &board),
                later,
            );
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        }
    }
}
