//! Connections the control plane has attached, but the front has not handed over yet.
//!
//! Frames for them wait here, bounded; a connection that never comes is forgotten.

use hashbrown::HashMap;

use super::farewell::Farewell;

/// Most frames one such connection may hold: a sign-in ends with three.
const MAX_FRAMES: usize = 64;
/// Most bytes they may have.
const MAX_BYTES: usize = 64 << 10;
/// How long the front may take, in ms: it needs one turn of its event loop.
const PATIENCE: u64 = 30_000;

/// One outgoing message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) vendor: u32,
    pub(super) kind: u32,
    pub(super) body: Vec<u8>,
}

/// What is known about a connection that is still to come.
#[derive(Debug)]
pub(super) struct Awaited {
    /// Id of the session it belongs to, if that is still there.
    pub(super) session: Option<u64>,
    /// It must be closed once it is here.
    pub(super) closing: bool,
    pub(super) messages: Vec<Message>,
    /// The last word, behind all messages.
    pub(super) farewell: Option<Farewell>,
    bytes: usize,
    since: u64,
}

#[derive(Debug, Default)]
pub(super) struct Pending(HashMap<u64, Awaited>);

impl Pending {
    /// The control plane attached a connection; without a session it is closed once it is here.
    pub(super) fn expect(&mut self, conn: u64, session: Option<u64>, now: u64) {
        self.0.insert(
            conn,
            Awaited {
                session,
                closing: session.is_none(),
                messages: Vec::new(),
                farewell: None,
                bytes: 0,
                since: now,
            },
        );
    }

    pub(super) fn awaits(&self, conn: u64) -> bool {
        self.0.contains_key(&conn)
    }

    /// Keeps a message. False when the bound is reached; the connection cannot be served then,
    /// since a tunnel with a message missing is no tunnel: it is closed once it is here.
    pub(super) fn push(&mut self, conn: u64, message: Message) -> bool {
        let Some(awaited) = self.0.get_mut(&conn) else {
            return false;
        };
        awaited.bytes += message.body.len();
        let fits = awaited.messages.len() < MAX_FRAMES && awaited.bytes <= MAX_BYTES;
        if fits {
            awaited.messages.push(message);
        } else {
            awaited.closing = true;
        }
        fits
    }

    /// The connection is to be closed once it is here and its messages are out.
    pub(super) fn close(&mut self, conn: u64) {
        if let Some(awaited) = self.0.get_mut(&conn) {
            awaited.closing = true;
        }
    }

    /// Its session has ended: as [`close`](Self::close), it belongs to none, and is told why.
    pub(super) fn disown(&mut self, conn: u64, farewell: Option<Farewell>) {
        self.close(conn);
        if let Some(awaited) = self.0.get_mut(&conn) {
            awaited.session = None;
            awaited.farewell = farewell;
        }
    }

    /// The session a connection belongs to.
    pub(super) fn session(&self, conn: u64) -> Option<u64> {
        self.0.get(&conn).and_then(|awaited| awaited.session)
    }

    /// The connection is here.
    pub(super) fn take(&mut self, conn: u64) -> Option<Awaited> {
        self.0.remove(&conn)
    }

    /// Forgets connections that did not come; returns their ids and sessions.
    pub(super) fn forget(&mut self, now: u64) -> Vec<(u64, Option<u64>)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let late = |awaited: &Awaited| now.saturating_sub(awaited.since) >= PATIENCE;
        self.0
            .extract_if(|_, awaited| late(awaited))
            .map(|(conn, awaited)| (conn, awaited.session))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(bytes: usize) -> Message {
        Message {
            vendor: 0xa4c,
            kind: 1,
            body: vec![0; bytes],
        }
    }

    #[test]
    fn messages_wait_within_bounds() {
        let mut pending = Pending::default();
        assert!(!pending.push(1, message(1)), "not attached");
        pending.expect(1, Some(9), 0);
        for _ in 0..MAX_FRAMES {
            assert!(pending.push(1, message(1)));
        }
        assert!(!pending.push(1, message(1)));
        let awaited = pending.take(1).unwrap();
        assert_eq!(awaited.messages.len(), MAX_FRAMES);
        assert_eq!((awaited.session, awaited.closing), (Some(9), true));
        pending.expect(2, Some(9), 0);
        assert!(!pending.push(2, message(MAX_BYTES + 1)));
    }

    #[test]
    fn a_closed_connection_keeps_its_session_until_that_ends() {
        let mut pending = Pending::default();
        pending.expect(1, Some(9), 0);
        pending.close(1);
        assert_eq!(pending.session(1), Some(9));
        pending.disown(1, None);
        assert_eq!(pending.session(1), None);
        assert!(pending.take(1).unwrap().closing);
        pending.expect(2, None, 0);
        assert!(pending.take(2).unwrap().closing);
    }

    #[test]
    fn a_connection_that_never_comes_is_forgotten() {
        let mut pending = Pending::default();
        pending.expect(1, Some(9), 1000);
        assert_eq!(pending.forget(PATIENCE), []);
        assert_eq!(pending.forget(1000 + PATIENCE), [(1, Some(9))]);
        assert!(!pending.awaits(1));
    }
}
