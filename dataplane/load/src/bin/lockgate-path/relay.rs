//! A long path: what is read from the TUN device is written back later, in order.
//!
//! Super-packets stay whole, so that the relay costs little beside what is measured through it.
//! A loss hits single packets all the same: then the super-packet is cut, and what is left of it
//! goes on as single packets.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use lockgate_dataplane::segment::{Segments, VnetHeader};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::loss::Loss;

/// Bytes held at most; more are dropped, as a full router does. 10 Gbit/s for 50 ms.
const HELD: usize = 64 << 20;
/// Frames read before the due ones are written.
const BATCH: usize = 64;
const FRAME: usize = VnetHeader::LEN + 65_535;

/// Until the device goes away.
pub fn run(tun: impl AsFd, delay: Duration, loss: Loss) -> io::Result<()> {
    let mut line = Line {
        held: VecDeque::new(),
        bytes: 0,
        delay,
        loss,
    };
    let mut frame = vec![0; FRAME];
    println!("ready");
    io::stdout().flush()?;
    loop {
        let timeout = line.wait(Instant::now());
        let timeout = timeout.and_then(|wait| Timespec::try_from(wait).ok());
        let mut waiting = [PollFd::new(&tun, PollFlags::IN)];
        match poll(&mut waiting, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for _ in 0..BATCH {
            match rustix::io::read(&tun, &mut frame) {
                Ok(length) => {
                    line.take(frame.get_mut(..length).unwrap_or_default(), Instant::now())
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                Err(error) => return Err(error.into()),
            }
        }
        while let Some(frame) = line.due(Instant::now()) {
            // What the kernel does not take back is lost, as on any path.
            let _ = rustix::io::write(&tun, &frame);
        }
    }
}

/// The packets under way, oldest first.
struct Line {
    held: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    delay: Duration,
    loss: Loss,
}

impl Line {
    /// `frame`: virtio-net header and packet as they were read.
    fn take(&mut self, frame: &mut [u8], now: Instant) {
        if self.bytes + frame.len() > HELD {
            return;
        }
        let due = now + self.delay;
        let Some(header) = VnetHeader::parse(frame) else {
            return;
        };
        let packets = packets_in(&header, frame.len());
        if self.loss.spares(packets) {
            return self.hold(due, frame.to_vec());
        }
        let packet = frame.get_mut(VnetHeader::LEN..).unwrap_or_default();
        let Ok(segments) = Segments::new(&header, packet) else {
            return; // neither IPv4 nor IPv6: nothing that is measured here
        };
        for index in 0..segments.count() {
            if self.loss.takes_next() {
                continue;
            }
            let mut single = vec![0; VnetHeader::LEN + segments.len_of(index)];
            segments.write(index, single.get_mut(VnetHeader::LEN..).unwrap_or_default());
            self.hold(due, single);
        }
    }

    fn hold(&mut self, due: Instant, frame: Vec<u8>) {
        self.bytes += frame.len();
        self.held.push_back((due, frame));
    }

    /// How long until something is due; nothing when nothing is held.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let (due, _) = self.held.front()?;
        Some(due.saturating_duration_since(now))
    }

    fn due(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.held.front().filter(|(due, _)| *due <= now)?;
        let (_, frame) = self.held.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }
}

/// Packets a frame stands for: as many as the kernel would cut it into.
fn packets_in(header: &VnetHeader, length: usize) -> u64 {
    if header.gso_size == 0 {
        return 1;
    }
    let payload = length.saturating_sub(VnetHeader::LEN + usize::from(header.hdr_len));
    payload.div_ceil(usize::from(header.gso_size)).max(1) as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    const SIZE: u16 = 100;

    /// A UDP super-packet of IPv4 with `count` datagrams of [`SIZE`] bytes, numbered.
    fn super_packet(count: u8) -> Vec<u8> {
        let payload = usize::from(count) * usize::from(SIZE);
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend([192, 0, 2, 1, 192, 0, 2, 2, 0, 9, 0, 9, 0, 0, 0, 0]);
        packet[2..4].copy_from_slice(&(28 + payload as u16).to_be_bytes());
        packet[24..26].copy_from_slice(&(8 + payload as u16).to_be_bytes());
        packet.extend((0..count).flat_map(|number| [number; SIZE as usize]));
        let header = VnetHeader {
            flags: 1,
            gso_type: 5,
            hdr_len: 28,
            gso_size: SIZE,
            csum_start: 20,
            csum_offset: 6,
        };
        [header.encode().to_vec(), packet].concat()
    }

    fn line(share: f64) -> Line {
        Line {
            held: VecDeque::new(),
            bytes: 0,
            delay: Duration::from_millis(20),
            loss: Loss::new(share).unwrap(),
        }
    }

    #[test]
    fn packets_come_back_whole_in_order_and_late() {
        let (mut line, now) = (line(0.0), Instant::now());
        let sent = [super_packet(3), super_packet(1), super_packet(40)];
        for frame in &sent {
            line.take(&mut frame.clone(), now);
        }
        assert_eq!(line.wait(now), Some(Duration::from_millis(20)));
        assert!(line.due(now + Duration::from_millis(19)).is_none());
        let later = now + Duration::from_millis(20);
        let back: Vec<_> = std::iter::from_fn(|| line.due(later)).collect();
        assert_eq!(back, sent);
        assert_eq!(line.bytes, 0);
    }

    #[test]
    fn a_loss_takes_one_packet_out_of_a_super_packet() {
        let (mut line, now) = (line(0.01), Instant::now());
        let mut victims = Loss::new(0.01).unwrap();
        let lost = (0..2_000).filter(|_| victims.takes_next()).count();
        for _ in 0..50 {
            line.take(&mut super_packet(40), now);
        }
        let later = now + line.delay;
        let mut packets = 0;
        while let Some(frame) = line.due(later) {
            let header = VnetHeader::parse(&frame).unwrap();
            packets += packets_in(&header, frame.len());
            if header.gso_size == 0 {
                assert_eq!(frame.len(), VnetHeader::LEN + 28 + usize::from(SIZE));
                let number = frame[VnetHeader::LEN + 28];
                assert!(
                    frame[VnetHeader::LEN + 28..]
                        .iter()
                        .all(|byte| *byte == number)
                );
            }
        }
        assert!(lost > 0);
        assert_eq!(packets, 2_000 - lost as u64);
    }

    #[test]
    fn a_full_line_drops() {
        let (mut line, now) = (line(0.0), Instant::now());
        line.bytes = HELD;
        line.take(&mut super_packet(1), now);
        assert!(line.held.is_empty());
    }
}
