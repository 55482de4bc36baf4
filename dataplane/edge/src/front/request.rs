//! What a client may say in a request head, and what the edge says in its place.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri, Version, header};

use super::tls::TlsFacts;
use crate::bootstrap::Role;

/// Fields about one connection rather than one message (RFC 9110 section 7.6.1), and `expect`,
/// which hyper has answered already.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Names that proxies use to speak about the client. The edge is the first to know, so anything
/// a client says there is a lie or a mistake.
const FORWARDING: &[&str] = &[
    "forwarded",
    "true-client-ip",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];
const FORWARDING_PREFIXES: &[&str] = &["x-lockgate-", "x-forwarded-"];

/// Why a request is answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    Target,
    Host,
    Method,
}

impl Odd {
    pub fn text(self) -> &'static str {
        match self {
            Self::Target => "The request target must be a plain path.\n",
            Self::Host => "The request must name exactly one host.\n",
            Self::Method => "This method is not supported.\n",
        }
    }
}

/// Refuses valid HTTP in forms that only invite different readings further on.
pub fn check<B>(request: &Request<B>) -> Result<(), Odd> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Odd::Method);
    }
    if !plain_path(request.uri()) {
        return Err(Odd::Target);
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if plain_host(host) => Ok(()),
        (None, None) if request.version() == Version::HTTP_10 => Ok(()),
        _ => Err(Odd::Host),
    }
}

/// Origin form only: no scheme, no authority, no `*`, printable ASCII.
fn plain_path(target: &Uri) -> bool {
    target.scheme().is_none()
        && target.authority().is_none()
        && target.path_and_query().is_some_and(|path| {
            path.as_str().starts_with('/')
                && path.as_str().bytes().all(|byte| byte.is_ascii_graphic())
        })
}

/// Letters, digits and what separates them in names, addresses and ports.
fn plain_host(host: &HeaderValue) -> bool {
    host.len() <= 270
        && !host.is_empty()
        && host
            .as_bytes()
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte))
}

/// Removes what a client must not say to the control plane. Names with an underscore go too:
/// some servers read them as if they were written with a hyphen.
pub fn scrub_request(headers: &mut HeaderMap) {
    let listed = listed_by_connection(headers);
    remove_if(headers, |name| {
        name.contains('_')
            || HOP_BY_HOP.contains(&name)
            || FORWARDING.contains(&name)
            || FORWARDING_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix))
            || listed.iter().any(|other| other == name)
    });
}

/// Removes what the control plane must not say to clients.
pub fn scrub_response(headers: &mut HeaderMap) {
    let listed = listed_by_connection(headers);
    remove_if(headers, |name| {
        HOP_BY_HOP.contains(&name)
            || name.starts_with("x-lockgate-")
            || listed.iter().any(|other| other == name)
    });
}

/// Fields the sender declared to be about this connection only. `Host` and lengths stay, since
/// removing them would change the meaning of the message.
fn listed_by_connection(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| {
            !["host", "content-length", "cookie", "authorization"].contains(&name.as_str())
        })
        .collect()
}

fn remove_if(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    // Names of a HeaderMap are lower case.
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| unwanted(name.as_str()))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Facts about the connection, as headers for the control plane.
#[derive(Debug)]
pub struct Facts {
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Facts {
    pub fn new(peer: SocketAddr, local: SocketAddr, role: Role, tls: &TlsFacts) -> Self {
        let mut headers = Vec::new();
        let mut add = |name, value: &str| {
            // All values are ASCII by construction; one that is not is left out, not guessed.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.push((HeaderName::from_static(name), value));
            }
        };
        add("x-lockgate-peer", &peer.to_string());
        add("x-lockgate-local", &local.to_string());
        add("x-lockgate-listener", role.name());
        add(
            "x-lockgate-tls",
            &format!("{}/{}/{}", tls.version, tls.cipher, tls.group),
        );
        if !tls.server_name.is_empty() {
            add("x-lockgate-server-name", &tls.server_name);
        }
        if !tls.client_certificates.is_empty() {
            // DER in base64, leaf first. Possession is proved for the leaf; whether the others lead
            // anywhere is for the control plane to find out.
            let chain: Vec<String> = tls
                .client_certificates
                .iter()
                .map(|certificate| STANDARD.encode(certificate))
                .collect();
            add("x-lockgate-client-certificate", &chain.join(","));
        }
        Self { headers }
    }

    pub fn add_to(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(names: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for name in names {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_static("spoofed"),
            );
        }
        map
    }

    #[test]
    fn nothing_a_client_says_about_itself_gets_through() {
        for name in [
            "X-Lockgate-Peer",
            "x-lockgate-peer",
            "X-LOCKGATE-CLIENT-CERTIFICATE",
            "X_Lockgate_Peer",
            "x-lockgate_peer",
            "x_lockgate-peer",
            "X-Lockgate-Anything-New",
            "Forwarded",
            "X-Forwarded-For",
            "X-FORWARDED-PROTO",
            "X_Forwarded_For",
            "X-Forwarded-Whatever",
            "X-Real-IP",
            "True-Client-IP",
            "X-Client-IP",
            "X-Cluster-Client-IP",
            "Via",
            "X-Original-URL",
            "Connection",
            "Keep-Alive",
            "Proxy-Connection",
            "Proxy-Authorization",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "transfer_encoding",
            "content_length",
            "Upgrade",
            "Expect",
        ] {
            let mut map = headers(&[name, name, "accept"]);
            scrub_request(&mut map);
            assert_eq!(map.len(), 1, "{name}");
        }
    }

    #[test]
    fn our_facts_replace_spoofed_ones() {
        let tls = TlsFacts {
            version: "TLSv1.3",
            cipher: "C".to_owned(),
            group: "G".to_owned(),
            server_name: "gw.test".to_owned(),
            client_certificates: vec![vec![1, 2, 3], vec![4, 5]],
        };
        let [peer, local] =
            ["192.0.2.7:1234", "[2001:db8::1]:443"].map(|text| text.parse().unwrap());
        let facts = Facts::new(peer, local, Role::Gateway, &tls);
        let mut map = headers(&["x-lockgate-peer", "x-lockgate-peer", "x-lockgate-tls"]);
        scrub_request(&mut map);
        facts.add_to(&mut map);
        let rows = [
            ("x-lockgate-peer", "192.0.2.7:1234"),
            ("x-lockgate-local", "[2001:db8::1]:443"),
            ("x-lockgate-listener", "gateway"),
            ("x-lockgate-tls", "TLSv1.3/C/G"),
            ("x-lockgate-server-name", "gw.test"),
            ("x-lockgate-client-certificate", "AQID,BAU="),
        ];
        assert_eq!(map.len(), rows.len());
        for (name, value) in rows {
            assert_eq!(
                map.get_all(name).iter().collect::<Vec<_>>(),
                [value],
                "{name}"
            );
        }
    }

    #[test]
    fn fields_named_by_connection_go_but_not_those_that_carry_meaning() {
        let mut map = headers(&["x-secret", "accept", "host", "cookie"]);
        map.append(
            "connection",
            HeaderValue::from_static("close, X-Secret , host,cookie"),
        );
        scrub_request(&mut map);
        let mut names: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "cookie", "host"]);
        let mut map = headers(&[
            "X-Lockgate-Session",
            "connection",
            "set-cookie",
            "x-forwarded-for",
        ]);
        scrub_response(&mut map);
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn odd_requests_are_refused() {
        let request = |method: Method, target: &str, hosts: &[&str]| {
            let mut request = Request::builder().method(method).uri(target);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            check(&request.body(()).unwrap())
        };
        let one: &[&str] = &["gw.test:8443"];
        assert_eq!(request(Method::GET, "/a/b?c=%20d", one), Ok(()));
        assert_eq!(request(Method::GET, "/", &["[2001:db8::1]:443"]), Ok(()));
        for target in ["https://gw.test/", "http://evil.test/x", "gw.test:443"] {
            assert_eq!(
                request(Method::GET, target, one),
                Err(Odd::Target),
                "{target}"
            );
        }
        assert_eq!(request(Method::OPTIONS, "*", one), Err(Odd::Target));
        assert_eq!(request(Method::GET, "/ä", one), Err(Odd::Target));
        assert_eq!(
            request(Method::CONNECT, "gw.test:443", one),
            Err(Odd::Method)
        );
        assert_eq!(request(Method::TRACE, "/", one), Err(Odd::Method));
        for hosts in [&[][..], &["a", "b"], &[""], &["a/b"], &["a b"], &["a@b"]] {
            assert_eq!(
                request(Method::GET, "/", hosts),
                Err(Odd::Host),
                "{hosts:?}"
            );
        }
    }
}
