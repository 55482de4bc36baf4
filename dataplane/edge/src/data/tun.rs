//! The TUN: whole super-packets in both directions, each behind its vnet header.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use lockgate_dataplane::coalesce::{Coalescer, MAX_SEGMENTS};
use rustix::io::Errno;

use super::counts::{Counts, Failure};

/// Most bytes that one read returns: vnet header and the largest packet.
pub(super) const READ: usize = lockgate_dataplane::vnet::LEN + 65_535;
/// Most pieces of one write: the header, and what the coalescer glues together.
const PIECES: usize = 1 + MAX_SEGMENTS;

/// Writes packets for the network, glued together where they are one flow.
#[derive(Debug)]
pub(super) struct Tun {
    fd: OwnedFd,
    glue: Coalescer,
    /// Packets taken since the last [`Tun::take_count`].
    taken: u32,
}

impl Tun {
    /// `takes_udp`: the kernel accepts UDP super-packets.
    pub(super) fn new(fd: OwnedFd, takes_udp: bool) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        let glue = if takes_udp {
            Coalescer::new()
        } else {
            Coalescer::without_udp()
        };
        Ok(Self { fd, glue, taken: 0 })
    }

    /// One vnet header and packet; `None` when there is none at the moment. Fails when the
    /// interface is gone.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::io::read(&self.fd, buffer) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::AGAIN | Errno::INTR | Errno::NOMEM | Errno::NOBUFS) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the packet at `range` of `buffer` for writing. All packets until the next [`flush`]
    /// must lie in the same buffer and stay as they are.
    ///
    /// [`flush`]: Self::flush
    pub(super) fn offer(&mut self, buffer: &mut [u8], range: Range<usize>, counts: &mut Counts) {
        self.taken = self.taken.saturating_add(1);
        if !self.glue.offer(buffer, range.clone()) {
            self.flush(buffer, counts);
            self.glue.offer(buffer, range);
        }
    }

    /// Packets taken for writing since this was last asked.
    pub(super) fn take_count(&mut self) -> u32 {
        std::mem::take(&mut self.taken)
    }

    /// Writes what has been taken.
    pub(super) fn flush(&mut self, buffer: &mut [u8], counts: &mut Counts) {
        let Some(group) = self.glue.finish(buffer) else {
            return;
        };
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let mut used = 1;
        if let Some(first) = pieces.first_mut() {
            *first = IoSlice::new(&group.header);
        }
        for (piece, range) in pieces.iter_mut().skip(1).zip(group.ranges) {
            *piece = IoSlice::new(buffer.get(range.clone()).unwrap_or_default());
            used += 1;
        }
        if rustix::io::writev(&self.fd, pieces.get(..used).unwrap_or_default()).is_err() {
            counts.failure(Failure::TunWrite);
        }
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
