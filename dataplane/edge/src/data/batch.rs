//! ESP packets on their way out: equally long ones for one client leave in one send.

use lockgate_dataplane::discard::Discard;

use super::counts::{Counts, Failure};
use super::port::{MAX_BATCH, MAX_SEGMENTS, Peer, Ports, Sent};

#[derive(Debug)]
pub(super) struct Batch {
    buffer: Box<[u8]>,
    used: usize,
    count: usize,
    /// Bytes of each packet but the last.
    segment: usize,
    /// A shorter packet is in: nothing may follow it.
    closed: bool,
    target: Option<Peer>,
    /// The socket did not take it.
    blocked: bool,
    /// The socket on which something was too large.
    too_large: Option<usize>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; MAX_BATCH].into(),
            used: 0,
            count: 0,
            segment: 0,
            closed: false,
            target: None,
            blocked: false,
            too_large: None,
        }
    }

    /// Room for up to `wanted` packets of at most `sealed` bytes each to `peer`, and for how many
    /// there is room: at least one. What cannot share a send with them goes first.
    #[inline]
    pub(super) fn room(
        &mut self,
        peer: Peer,
        sealed: usize,
        wanted: usize,
        ports: &Ports,
        counts: &mut Counts,
    ) -> Result<(&mut [u8], usize), Discard> {
        let joins = self.target == Some(peer)
            && !self.closed
            && sealed <= self.segment
            && self.count < MAX_SEGMENTS
            && self.used + sealed <= MAX_BATCH;
        if !joins {
            self.flush(ports, counts);
            if self.blocked {
                return Err(Discard::QueueFull);
            }
            self.target = Some(peer);
            self.segment = sealed;
        }
        let fit = wanted
            .min(MAX_SEGMENTS - self.count)
            .min((MAX_BATCH - self.used) / sealed.max(1))
            .max(1);
        let room = self
            .buffer
            .get_mut(self.used..self.used + fit * sealed)
            .ok_or(Discard::TooBig)?;
        Ok((room, fit))
    }

    /// `count` packets of `total` bytes, the last one of `last`, are in the room there was.
    #[inline]
    pub(super) fn add(&mut self, count: usize, total: usize, last: usize) {
        self.used += total;
        self.count += count;
        self.closed |= last < self.segment;
    }

    /// Sends what is there, if the socket takes it.
    pub(super) fn flush(&mut self, ports: &Ports, counts: &mut Counts) {
        if let Some(peer) = self.target.filter(|_| self.used > 0) {
            let contents = self.buffer.get(..self.used).unwrap_or_default();
            let sent = ports.get(peer.port).map_or(Sent::Failed, |port| {
                port.send(&peer, contents, self.segment)
            });
            self.blocked = sent == Sent::Blocked;
            if self.blocked {
                return;
            }
            if sent != Sent::Done {
                counts.failure(Failure::UdpSend);
            }
            if sent == Sent::TooLarge {
                self.too_large = Some(peer.port);
            }
        }
        (self.used, self.count, self.closed, self.target) = (0, 0, false, None);
    }

    /// The port on which something was too large to be sent, once.
    pub(super) fn takes_too_large(&mut self) -> Option<usize> {
        self.too_large.take()
    }

    /// The port that must become writable before anything else can be sent.
    pub(super) fn blocked(&self) -> Option<usize> {
        self.target.filter(|_| self.blocked).map(|peer| peer.port)
    }
}
