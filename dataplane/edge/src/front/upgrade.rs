//! The request that turns an HTTPS connection into an IF-T tunnel.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Body;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use lockgate_dataplane::link::{ConnOpened, Framing, Secret};
use serde_bytes::ByteBuf;

use super::body::Answer;
use super::tls::TlsFacts;

/// The protocol asked for. Clients send no `Connection: Upgrade` with it.
const PROTOCOL: &str = "IF-T/TLS 1.0";

/// Whether the `Upgrade` header alone asks for the tunnel.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::UPGRADE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|protocol| protocol.trim().eq_ignore_ascii_case(PROTOCOL))
}

/// Only a bodyless GET of HTTP/1.1 can be upgraded.
pub fn is_possible<B: Body>(request: &Request<B>) -> bool {
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && request.body().is_end_stream()
}

pub fn switching() -> Response<Answer> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::new())));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response
}

/// What the control plane learns about the connection; `conn` and `exporter` are still to be
/// filled in.
pub fn facts<B>(
    request: &Request<B>,
    peer: SocketAddr,
    local: SocketAddr,
    tls: &TlsFacts,
    framing: Framing,
) -> Box<ConnOpened> {
    let headers = request.headers();
    let text = |name| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .unwrap_or_default()
    };
    let cookies: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    Box::new(ConnOpened {
        conn: 0,
        peer: peer.to_string(),
        local: local.to_string(),
        tls_version: tls.version.to_owned(),
        tls_cipher: tls.cipher.clone(),
        tls_group: tls.group.clone(),
        server_name: tls.server_name.clone(),
        client_certificates: tls
            .client_certificates
            .iter()
            .map(|der| ByteBuf::from(der.clone()))
            .collect(),
        host: text(header::HOST),
        path: request
            .uri()
            .path_and_query()
            .map(|path| path.as_str().to_owned())
            .unwrap_or_default(),
        user_agent: text(header::USER_AGENT),
        cookie: Secret(cookies.join(&b"; "[..])),
        exporter: Secret(Vec::new()),
        framing,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_upgrade_header_decides() {
        for (value, wanted) in [
            ("IF-T/TLS 1.0", true),
            ("if-t/tls 1.0", true),
            ("h2c, IF-T/TLS 1.0", true),
            ("websocket", false),
            ("IF-T/TLS 1.01", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::UPGRADE, HeaderValue::from_str(value).unwrap());
            assert_eq!(is_wanted(&headers), wanted, "{value}");
        }
        assert!(!is_wanted(&HeaderMap::new()));
    }

    #[test]
    fn facts_come_from_head_and_connection() {
        let request = Request::get("/team?x=1")
            .header("host", "gw.test")
            .header("user-agent", "agent")
            .header("cookie", "DSID=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap();
        let [peer, local] = ["[2001:db8::2]:5", "192.0.2.1:443"].map(|text| text.parse().unwrap());
        let opened = facts(&request, peer, local, &TlsFacts::default(), Framing::IfT);
        assert_eq!(opened.peer, "[2001:db8::2]:5");
        assert_eq!(
            (opened.path.as_str(), opened.framing),
            ("/team?x=1", Framing::IfT)
        );
        assert_eq!(opened.cookie, Secret(b"DSID=1; b=2".to_vec()));
        assert_eq!(
            (opened.host.as_str(), opened.user_agent.as_str()),
            ("gw.test", "agent")
        );
    }
}
