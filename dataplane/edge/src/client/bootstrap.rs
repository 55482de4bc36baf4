//! What the client service tells a new edge, once, on standard input.

use std::io::Read;
use std::os::fd::RawFd;
use std::os::unix::net::UnixListener;

use rustix::net::SocketType;
use serde::Deserialize;

use crate::bootstrap::{BootstrapError, describe, error, expect_socket};
use crate::descriptors::Inherited;

/// Largest document in bytes; it holds two numbers.
const MAX_DOCUMENT: u64 = 4096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    link_fd: RawFd,
    control_uid: Option<u32>,
}

/// A checked bootstrap of a client edge.
#[derive(Debug)]
pub struct Bootstrap {
    /// Listens, nonblocking.
    pub link: UnixListener,
    /// The user id the service runs under; our own when the document names none.
    pub control_uid: u32,
}

impl Bootstrap {
    /// Reads to the end of `input`, so the writer must close its end.
    pub fn read(input: impl Read) -> Result<Self, BootstrapError> {
        let mut text = Vec::new();
        input
            .take(MAX_DOCUMENT + 1)
            .read_to_end(&mut text)
            .map_err(|problem| error(format!("standard input: {problem}")))?;
        if text.len() as u64 > MAX_DOCUMENT {
            return Err(error(format!("longer than {MAX_DOCUMENT} bytes")));
        }
        let document: Document =
            serde_json::from_slice(&text).map_err(|problem| error(describe(&problem)))?;
        let number = document.link_fd;
        let link = Inherited::default().take(number).map_err(|problem| {
            error(format!(
                "link_fd: descriptor {number} was not handed over: {problem}"
            ))
        })?;
        expect_socket("link_fd", &link, SocketType::STREAM, true)?;
        let link = UnixListener::from(link);
        link.local_addr()
            .map_err(|_| error("link_fd: not a Unix socket"))?;
        link.set_nonblocking(true)
            .map_err(|problem| error(format!("link_fd: cannot be made nonblocking: {problem}")))?;
        Ok(Self {
            link,
            control_uid: document
                .control_uid
                .unwrap_or_else(|| rustix::process::getuid().as_raw()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::fd::{IntoRawFd, OwnedFd};

    #[test]
    fn the_document_names_a_listening_unix_socket_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let link = UnixListener::bind(directory.path().join("link")).unwrap();
        let link = OwnedFd::from(link).into_raw_fd();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = OwnedFd::from(tcp).into_raw_fd();
        let (pair, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let pair = OwnedFd::from(pair).into_raw_fd();
        for (text, wanted) in [
            ("{".to_owned(), "not JSON"),
            ("{}".to_owned(), "missing field `link_fd`"),
            (r#"{"link_fd": "3"}"#.to_owned(), "wrong kind"),
            (r#"{"link_fd": 1}"#.to_owned(), "not handed over"),
            (format!(r#"{{"link_fd": {pair}}}"#), "does not listen"),
            (format!(r#"{{"link_fd": {tcp}}}"#), "not a Unix socket"),
            (
                format!(r#"{{"link_fd": {link}, "udp": []}}"#),
                "unknown field `udp`",
            ),
            (" ".repeat(5000), "longer than"),
        ] {
            let problem = Bootstrap::read(text.as_bytes()).unwrap_err().to_string();
            assert!(problem.contains(wanted), "{text}: {problem}");
        }
        let text = format!(r#"{{"link_fd": {link}, "control_uid": 5}}"#);
        assert_eq!(Bootstrap::read(text.as_bytes()).unwrap().control_uid, 5);
    }
}
