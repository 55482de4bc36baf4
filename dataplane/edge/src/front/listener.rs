//! Accepts connections on one inherited listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};

use super::Front;
use super::refusal::Refusal;
use super::serve::{self, Ends};
use crate::bootstrap::Role;
use crate::log::{self, Seldom};

/// TCP keepalive: first probe after this, then every [`PROBE_EVERY`], given up after
/// [`PROBES`]: a peer that vanished is noticed within three minutes.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBES: u32 = 8;
/// Pause after `accept` failed, so that a lack of descriptors does not become a busy loop.
const PAUSE: Duration = Duration::from_millis(100);

static ACCEPT_FAILED: Seldom = Seldom::new(Duration::from_secs(10));
static TURNED_AWAY: Seldom = Seldom::new(Duration::from_secs(10));

/// Runs until the process ends.
pub async fn run(front: Arc<Front>, listener: TcpListener, local: SocketAddr, role: Role) {
    let start = Instant::now();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(problem) => {
                front.refusals.count(Refusal::Accept);
                ACCEPT_FAILED.warning(
                    "accept-failed",
                    serde_json::json!({"listener": local.to_string(), "reason": problem.to_string()}),
                );
                front.admission.evict_oldest();
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let now_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let place = match front.admission.enter(peer.ip(), now_ms) {
            Ok(place) => place,
            Err(refusal) => {
                TURNED_AWAY.warning(
                    "connection-refused",
                    serde_json::json!({"peer": peer.to_string(), "reason": refusal.name()}),
                );
                continue;
            }
        };
        set_options(&stream);
        // The address the client reached; a listener on the wildcard has none of its own.
        let local = stream.local_addr().unwrap_or(local);
        let ends = Ends {
            peer: canonical(peer),
            local: canonical(local),
            role,
        };
        tokio::spawn(serve::connection(front.clone(), stream, ends, place));
    }
}

/// IPv4 as IPv4, also on a listener that takes both families.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Options a connection can live without are set without complaint.
fn set_options(stream: &TcpStream) {
    if let Err(problem) = stream.set_nodelay(true) {
        log::warning(
            "socket-option",
            serde_json::json!({"option": "nodelay", "reason": problem.to_string()}),
        );
    }
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, PROBE_AFTER);
    let _ = sockopt::set_tcp_keepintvl(stream, PROBE_EVERY);
    let _ = sockopt::set_tcp_keepcnt(stream, PROBES);
}
