//! When a client edge has nothing left to live for.
//!
//! It outlives its parent, so nobody else ends it: without a service the data thread ends the
//! sessions in time, and without both the process goes.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::data::ToData;
use crate::link::DataPort;
use crate::link::directory::Directory;

/// Without a service and without a session for this long, the edge is of no use: a service that
/// restarts comes back sooner, and one that comes later starts a new edge.
pub const ALONE: Duration = Duration::from_secs(10);
/// How often sessions are looked for meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// Returns when there has been neither a link nor a session for [`ALONE`].
pub async fn until_useless(directory: &Directory, data: &dyn DataPort) {
    let mut link = directory.link();
    loop {
        // The sender lives in `directory`: waiting cannot fail.
        let _ = link.wait_for(|up| !up).await;
        let mut since = Instant::now();
        while timeout(LOOK, link.wait_for(|up| *up)).await.is_err() {
            if has_sessions(data).await {
                since = Instant::now();
            } else if since.elapsed() >= ALONE {
                return;
            }
        }
    }
}

/// A data thread that does not answer has none; its end is noticed elsewhere.
async fn has_sessions(data: &dyn DataPort) -> bool {
    let (reply, sessions) = oneshot::channel();
    data.send(ToData::ReportSessions(reply));
    sessions.await.is_ok_and(|sessions| !sessions.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use lockgate_dataplane::link::{Framing, SessionState, Traffic, Transport};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Has so many sessions.
    #[derive(Default)]
    struct Sessions(AtomicUsize);

    impl DataPort for Sessions {
        fn send(&self, order: ToData) {
            if let ToData::ReportSessions(reply) = order {
                let state = SessionState {
                    session: 1,
                    generation: 1,
                    conn: 0,
                    address4: vec![],
                    address6: vec![],
                    remaining: 0,
                    quiet: 0,
                    transport: Transport::None,
                    peer: String::new(),
                    spis: vec![],
                    traffic: Traffic::default(),
                    framing: Framing::default(),
                };
                let _ = reply.send(vec![state; self.0.load(Ordering::Relaxed)]);
            }
        }
    }

    /// The clock of these tests stands still but for their own waiting.
    #[tokio::test(start_paused = true)]
    async fn an_edge_lives_while_there_is_a_link_or_a_session() {
        let directory = Arc::new(Directory::new(1, Arc::default()));
        let data = Arc::new(Sessions::default());
        let (directory_, data_) = (directory.clone(), data.clone());
        let useless = tokio::spawn(async move { until_useless(&directory_, data_.as_ref()).await });
        let wait = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        wait(8).await;
        directory.link_up();
        wait(1000).await;
        data.0.store(1, Ordering::Relaxed);
        directory.link_down();
        wait(1000).await;
        assert!(!useless.is_finished());
        data.0.store(0, Ordering::Relaxed);
        wait(8).await;
        assert!(!useless.is_finished());
        wait(5).await;
        assert!(useless.is_finished());
    }
}
