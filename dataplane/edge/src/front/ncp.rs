//! The request that turns an HTTPS connection into a Network Connect tunnel.
//!
//! It is a POST that declares a body, of 256 bytes, of which none ever comes: the client waits for the
//! head of our answer and speaks another protocol after it.

use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, Version};

/// Where clients ask.
const PATH: &str = "/dana/js";
/// What they ask for: protocol and service, in either order.
const QUERY: [&str; 2] = ["prot=1", "svc=4"];

/// Whether a request asks for the tunnel, whatever else is wrong with it.
pub fn is_wanted<B>(request: &Request<B>) -> bool {
    let mut pairs: Vec<&str> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .collect();
    pairs.sort_unstable();
    request.method() == Method::POST && request.uri().path() == PATH && pairs == QUERY
}

/// Whether a client may be told anything but an ordinary answer: only HTTP/1.1, and nothing in the head
/// that would make something else of the bytes behind it.
pub fn is_possible(version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_11
        && [header::TRANSFER_ENCODING, header::UPGRADE, header::EXPECT]
            .iter()
            .all(|name| !headers.contains_key(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn method_path_and_query_decide() {
        for (method, target, wanted) in [
            ("POST", "/dana/js?prot=1&svc=4", true),
            ("POST", "/dana/js?svc=4&prot=1", true),
            ("GET", "/dana/js?prot=1&svc=4", false),
            ("POST", "/dana/js", false),
            ("POST", "/dana/js?prot=1", false),
            ("POST", "/dana/js?prot=1&svc=1", false),
            ("POST", "/dana/js?prot=1&svc=4&x=1", false),
            ("POST", "/dana/js?prot=1&prot=1&svc=4", false),
            ("POST", "/dana/js/?prot=1&svc=4", false),
            ("POST", "/Dana/js?prot=1&svc=4", false),
        ] {
            let request = Request::builder().method(method).uri(target);
            assert_eq!(is_wanted(&request.body(()).unwrap()), wanted, "{target}");
        }
    }

    #[test]
    fn nothing_but_a_plain_head_of_http_11_is_taken() {
        let with = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, header::HeaderValue::from_static("1"));
            headers
        };
        assert!(is_possible(Version::HTTP_11, &with("content-length")));
        assert!(!is_possible(Version::HTTP_10, &with("content-length")));
        for name in ["transfer-encoding", "upgrade", "expect"] {
            assert!(!is_possible(Version::HTTP_11, &with(name)), "{name}");
        }
    }
}
