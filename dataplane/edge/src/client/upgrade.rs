//! The HTTP request for IF-T and its answer (`if-t-tls`, section 3 of the protocol notes).

use lockgate_dataplane::link::{Dial, DialFailure};

use super::Failure;

/// Longest head of an answer, and most lines in it; what servers commonly allow for a request.
pub const HEAD_BYTES: usize = 16 * 1024;
const HEAD_LINES: usize = 64;
/// Longest host, target and user agent. A DNS name has at most 253 bytes.
const HOST: usize = 300;
const TARGET: usize = 4096;
const USER_AGENT: usize = 256;

/// The protocol asked for.
const PROTOCOL: &str = "IF-T/TLS 1.0";

/// The request head. Refuses what would say more than one value in its place.
pub fn request(dial: &Dial) -> Result<Vec<u8>, Failure> {
    let refuse = |what| Err(Failure::new(DialFailure::Http, what));
    let host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if dial.host.is_empty() || dial.host.len() > HOST || !dial.host.bytes().all(host) {
        return refuse("the host cannot be asked for: not a name or address with a port");
    }
    // A fragment is not part of a request target (RFC 9112 section 3.2).
    let target = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !dial.path.starts_with('/') || dial.path.len() > TARGET || !dial.path.bytes().all(target) {
        return refuse("the path cannot be asked for: not a slash and printable ASCII");
    }
    let agent = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if dial.user_agent.is_empty()
        || dial.user_agent.len() > USER_AGENT
        || !dial.user_agent.bytes().all(agent)
    {
        return refuse("the user agent cannot be sent: not printable ASCII");
    }
    let Dial {
        host,
        path,
        user_agent,
        ..
    } = dial;
    Ok(format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {user_agent}\r\n\
         Content-Type: EAP\r\nUpgrade: {PROTOCOL}\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes())
}

/// Length of the answer's head once it is whole and says 101; `None`: read more.
///
/// Headers are free but for two: an answer with a body leaves open where IF-T starts, and another
/// protocol is not the one asked for.
pub fn answer(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let refuse = |what: &dyn std::fmt::Display| Err(Failure::new(DialFailure::Http, what));
    // The parser would skip empty lines in front.
    if bytes.first().is_some_and(|byte| *byte != b'H') {
        return refuse(&"what came is no HTTP answer");
    }
    let mut lines = [httparse::EMPTY_HEADER; HEAD_LINES];
    let mut head = httparse::Response::new(&mut lines);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES => return Ok(None),
        Ok(httparse::Status::Partial) => return refuse(&"the head of the answer is too long"),
        Err(problem) => return refuse(&format_args!("what came is no HTTP answer: {problem}")),
    };
    if length > HEAD_BYTES {
        return refuse(&"the head of the answer is too long");
    }
    let code = head.code.unwrap_or_default();
    if code != 101 {
        let reason = head.reason.unwrap_or_default();
        let text = format_args!("{code} {reason}");
        return Err(Failure::new(DialFailure::HttpStatus, text));
    }
    for header in head.headers.iter() {
        let value = header.value.trim_ascii();
        let odd = match header.name.to_ascii_lowercase().as_str() {
            "transfer-encoding" => true,
            "content-length" => value != b"0",
            "upgrade" => !value.eq_ignore_ascii_case(PROTOCOL.as_bytes()),
            _ => false,
        };
        if odd {
            return refuse(&format_args!("101 with an odd header {}", header.name));
        }
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn dial(host: &str, path: &str, user_agent: &str) -> Dial {
        Dial {
            conn: 1,
            server_name: String::new(),
            roots: vec![],
            pin: vec![],
            host: host.to_owned(),
            path: path.to_owned(),
            user_agent: user_agent.to_owned(),
        }
    }

    #[test]
    fn the_request_is_what_gateways_know() {
        let head = request(&dial("gw.test:4443", "/team?x=1", "Lockgate/1 (Linux)")).unwrap();
        assert_eq!(
            String::from_utf8(head).unwrap(),
            "GET /team?x=1 HTTP/1.1\r\nHost: gw.test:4443\r\nUser-Agent: Lockgate/1 (Linux)\r\n\
             Content-Type: EAP\r\nUpgrade: IF-T/TLS 1.0\r\nContent-Length: 0\r\n\r\n"
        );
        assert!(request(&dial("[2001:db8::1]:443", "/", "x")).is_ok());
    }

    #[test]
    fn nothing_else_gets_into_the_request() {
        let long = "x".repeat(5000);
        for (host, path, agent, wanted) in [
            ("", "/", "x", "host"),
            ("gw.test\r\nX: 1", "/", "x", "host"),
            ("gw.test/", "/", "x", "host"),
            ("u@gw.test", "/", "x", "host"),
            (&*long, "/", "x", "host"),
            ("gw.test", "", "x", "path"),
            ("gw.test", "team", "x", "path"),
            ("gw.test", "/a b", "x", "path"),
            ("gw.test", "/a\r\nX: 1", "x", "path"),
            ("gw.test", "/a#b", "x", "path"),
            ("gw.test", "/\u{e9}", "x", "path"),
            ("gw.test", &format!("/{long}"), "x", "path"),
            ("gw.test", "/", "", "user agent"),
            ("gw.test", "/", "x\ny", "user agent"),
            ("gw.test", "/", "x\ty", "user agent"),
            ("gw.test", "/", &*long, "user agent"),
        ] {
            let failure = request(&dial(host, path, agent)).unwrap_err();
            assert!(
                failure.detail.starts_with(&format!("the {wanted}")),
                "{failure:?}"
            );
        }
    }

    #[test]
    fn only_a_whole_101_without_a_body_is_an_upgrade() {
        let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: if-t/tls 1.0\r\n\
                    Connection: Upgrade\r\nContent-Length: 0\r\nX: y\r\n\r\n";
        let wire = format!("{good}IF-T");
        assert_eq!(answer(wire.as_bytes()), Ok(Some(good.len())));
        for end in 0..good.len() {
            assert_eq!(
                answer(good.get(..end).unwrap().as_bytes()),
                Ok(None),
                "{end}"
            );
        }
        assert!(answer(b"HTTP/1.0 101 x\r\n\r\n").is_ok_and(|length| length.is_some()));
        let long = format!("HTTP/1.1 101 x\r\nA: {}", "x".repeat(HEAD_BYTES));
        let many = format!(
            "HTTP/1.1 101 x\r\n{}\r\n",
            "A: b\r\n".repeat(HEAD_LINES + 1)
        );
        let http = DialFailure::Http;
        let status = DialFailure::HttpStatus;
        for (text, cause, detail) in [
            (
                "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",
                status,
                "302 Found",
            ),
            ("HTTP/1.1 200 OK\r\n\r\n<html>", status, "200 OK"),
            ("HTTP/1.1 100 Continue\r\n\r\n", status, "100 Continue"),
            ("HTTP/1.1 503\r\n\r\n", status, "503 "),
            ("HTTP/2 101\r\n\r\n", http, "no HTTP answer"),
            ("\r\nHTTP/1.1 101 x\r\n\r\n", http, "no HTTP answer"),
            ("SSH-2.0-x\r\n", http, "no HTTP answer"),
            ("HTTP/1.1 101 x\r\nA b\r\n\r\n", http, "no HTTP answer"),
            ("HTTP/1.1 101 x\r\nA: b\0\r\n\r\n", http, "no HTTP answer"),
            (
                "HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n",
                http,
                "odd header Upgrade",
            ),
            (
                "HTTP/1.1 101 x\r\nContent-Length: 5\r\n\r\n",
                http,
                "odd header",
            ),
            (
                "HTTP/1.1 101 x\r\nTransfer-Encoding: chunked\r\n\r\n",
                http,
                "odd header",
            ),
            (&long, http, "too long"),
            (&format!("{long}\r\n\r\n"), http, "too long"),
            (&many, http, "no HTTP answer"),
        ] {
            let failure = answer(text.as_bytes()).unwrap_err();
            assert_eq!(failure.cause, cause, "{text:?}");
            assert!(failure.detail.contains(detail), "{text:?}: {failure:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_is_read_past_its_end(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
            start in 0_usize..40,
        ) {
            let mut wire = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n".to_vec();
            wire.truncate(start);
            wire.extend(bytes);
            if let Ok(Some(length)) = answer(&wire) {
                proptest::prop_assert!(wire.get(..length).unwrap().ends_with(b"\n"));
            }
        }
    }
}
