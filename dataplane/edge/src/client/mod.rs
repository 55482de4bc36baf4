//! The edge of an endpoint: dials a gateway instead of accepting clients.
//!
//! The client service opens every socket and the TUN, and sends their descriptors over the link;
//! [`handed`] looks that each is what it should be. [`dial`] brings a TCP connection through TLS
//! and the HTTP [`upgrade`] to IF-T; [`trust`] judges the gateway's certificate by the anchors
//! and the pin the service gave. From there on it is a [`conversation`](crate::conversation) like
//! any other, until the data thread takes over. [`run`] is the process, which outlives its
//! parent; [`life`] ends it when it serves nobody any more.

pub mod bootstrap;
mod dial;
pub mod handed;
pub mod life;
pub mod run;
pub mod trust;
pub mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use lockgate_dataplane::link::{Dial, MAX_BODY};
use rustls::crypto::CryptoProvider;

use crate::conversation::{Terms, Ties};
use crate::data::Side;
use crate::front::tls;
use crate::link::codec::LinkError;

/// From the descriptor's arrival to the HTTP answer: TLS and one round trip, on a bad line.
pub const DIAL_TIME: Duration = Duration::from_secs(15);
/// Connections not yet attached. The service makes one at a time for each tunnel.
const CONNECTIONS: usize = 64;
/// Bytes that may wait for a gateway that does not read.
pub const QUEUE_BYTES: usize = 1 << 20;
/// What a gateway may say before attach. A conversation with every question takes about 30
/// frames; the longest of them is a configuration, 16 bytes for each of some thousand networks.
const FRAMES: u32 = 256;
const BYTES: usize = 1 << 20;
const BODY: usize = MAX_BODY;
/// From the upgrade to attach: people type passwords and look for tokens. The gateway has a limit
/// of its own, and the service closes what it gives up.
const SIGN_IN_TIME: Duration = Duration::from_secs(600);
/// For one frame to be written.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// Makes connections to gateways.
#[derive(Debug)]
pub struct Client {
    ties: Ties,
    provider: Arc<CryptoProvider>,
    dial_time: Duration,
    terms: Terms,
}

impl Client {
    /// `dial_time`: [`DIAL_TIME`], except in tests.
    pub fn new(ties: Ties, dial_time: Duration) -> Self {
        Self {
            ties,
            provider: Arc::new(tls::provider()),
            dial_time,
            terms: Terms {
                side: Side::Client,
                frames: FRAMES,
                bytes: BYTES,
                body: BODY,
                time: SIGN_IN_TIME,
                write_time: WRITE_TIME,
            },
        }
    }

    /// Starts a dial; its end is told over the link. An error, which ends the link, when the
    /// number of the connection is in use or there are too many.
    pub fn dial(
        self: &Arc<Self>,
        dial: Box<Dial>,
        socket: std::net::TcpStream,
    ) -> Result<(), LinkError> {
        // 0 stands for "no connection" in messages.
        if dial.conn == 0 || self.ties.directory.len() >= CONNECTIONS {
            return Err(LinkError::Message);
        }
        let registered = self
            .ties
            .directory
            .register_as(dial.conn)
            .ok_or(LinkError::Message)?;
        tokio::spawn(dial::run(self.clone(), registered, dial, socket));
        Ok(())
    }
}

/// Why a dial came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub cause: lockgate_dataplane::link::DialFailure,
    /// At most [`DETAIL`] bytes of printable ASCII.
    pub detail: String,
}

/// Longest detail of a failure in bytes.
pub const DETAIL: usize = 256;

impl Failure {
    /// `detail` may hold what a server said: anything but printable ASCII becomes a question mark.
    pub fn new(
        cause: lockgate_dataplane::link::DialFailure,
        detail: impl std::fmt::Display,
    ) -> Self {
        let clean = |char: char| match char {
            ' '..='~' => char,
            _ => '?',
        };
        Self {
            cause,
            detail: detail.to_string().chars().take(DETAIL).map(clean).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockgate_dataplane::link::DialFailure;

    #[test]
    fn details_are_short_printable_text() {
        let failure = Failure::new(
            DialFailure::Http,
            format!("a\r\n\u{202e}é{}", "x".repeat(300)),
        );
        assert!(failure.detail.starts_with("a????xx"), "{failure:?}");
        assert_eq!(failure.detail.len(), DETAIL);
    }
}
