//! The TUN: whole super-packets in both directions, each behind its vnet header.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use lockgate_dataplane::coalesce::{Coalescer, MAX_SEGMENTS};
use lockgate_dataplane::discard::Discard;
use lockgate_dataplane::vnet::VnetHeader;
use rustix::io::Errno;

use super::counts::{Counts, Failure};

/// Most bytes that one read returns: vnet header and the largest packet.
pub(super) const READ: usize = lockgate_dataplane::vnet::LEN + 65_535;
/// Most pieces of one write: the header, and what the coalescer glues together.
const PIECES: usize = 1 + MAX_SEGMENTS;

/// Writes packets for the network, glued together where they are one flow. A client edge has no
/// device until it is given one.
#[derive(Debug)]
pub(super) struct Tun {
    device: Option<OwnedFd>,
    glue: Coalescer,
    /// Packets taken since the last [`Tun::take_count`].
    taken: u32,
}

impl Tun {
    /// `takes_udp`: the kernel accepts UDP super-packets.
    pub(super) fn new(device: Option<OwnedFd>, takes_udp: bool) -> io::Result<Self> {
        if let Some(device) = &device {
            rustix::io::ioctl_fionbio(device, true)?;
        }
        let glue = if takes_udp {
            Coalescer::new()
        } else {
            Coalescer::without_udp()
        };
        Ok(Self {
            device,
            glue,
            taken: 0,
        })
    }

    /// The device to wait for, if there is one.
    pub(super) fn device(&self) -> Option<BorrowedFd<'_>> {
        self.device.as_ref().map(AsFd::as_fd)
    }

    /// One vnet header and packet; `None` when there is none at the moment. Fails when the
    /// interface is gone.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(device) = &self.device else {
            return Ok(None);
        };
        match rustix::io::read(device, buffer) {
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
        if self.device.is_none() {
            return counts.discard(Discard::NoTun);
        }
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
        let Some(device) = &self.device else { return };
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let mut used = 1;
        if let Some(first) = pieces.first_mut() {
            *first = IoSlice::new(&group.header);
        }
        for (piece, range) in pieces.iter_mut().skip(1).zip(group.ranges) {
            *piece = IoSlice::new(buffer.get(range.clone()).unwrap_or_default());
            used += 1;
        }
        if rustix::io::writev(device, pieces.get(..used).unwrap_or_default()).is_err() {
            counts.failure(Failure::TunWrite);
        }
    }

    /// Writes one packet of our own, whose checksums are complete.
    pub(super) fn write(&self, packet: &[u8], counts: &mut Counts) {
        let Some(device) = &self.device else { return };
        let header = VnetHeader::default().encode();
        let pieces = [IoSlice::new(&header), IoSlice::new(packet)];
        if rustix::io::writev(device, &pieces).is_err() {
            counts.failure(Failure::TunWrite);
        }
    }
}
