//! Probes: ESP payloads that are no packet, and ask whether the other end is there.
//!
//! ```text
//! plain    00                              answered by another one
//! padded   00 01 | MTU 2 | 00 00 00 …      answered by one of the same length, first 4 bytes alike
//! ```
//!
//! A padded probe asks whether a packet of its length arrives, and tells the largest inner packet
//! that its sender believes to arrive. Only Lockgate's own ends know it; openconnect and others
//! send and understand the plain one.

use crate::bytes::put;

/// Payload of a plain probe.
pub const PLAIN: &[u8] = &[0];
/// Bytes of a padded probe in front of its padding.
pub const PADDED_HEADER: usize = 4;
/// Second byte of a padded probe: the only form there is.
const VERSION: u8 = 1;

/// What a probe says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    Plain,
    Padded {
        /// The sender's MTU: any number, for the receiver to judge.
        mtu: u16,
        /// Bytes of the payload.
        length: usize,
    },
}

/// Reads an ESP payload as a probe; `None` for anything else, such as packets.
#[inline]
pub fn parse(payload: &[u8]) -> Option<Probe> {
    match payload {
        [0] => Some(Probe::Plain),
        [0, VERSION, high, low, ..] => Some(Probe::Padded {
            mtu: u16::from_be_bytes([*high, *low]),
            length: payload.len(),
        }),
        _ => None,
    }
}

/// Fills all of `payload` with a probe: a padded one if there is room for its header.
pub fn write(payload: &mut [u8], mtu: u16) {
    payload.fill(0);
    if payload.len() >= PADDED_HEADER {
        let [high, low] = mtu.to_be_bytes();
        put(payload, 0, [0, VERSION, high, low]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_a_probe() {
        for (payload, probe) in [
            (&[0][..], Some(Probe::Plain)),
            (
                &[0, 1, 5, 0],
                Some(Probe::Padded {
                    mtu: 1280,
                    length: 4,
                }),
            ),
            (
                &[0, 1, 5, 0x78, 0, 0],
                Some(Probe::Padded {
                    mtu: 1400,
                    length: 6,
                }),
            ),
            (&[], None),
            (&[1], None),
            (&[0, 0], None),
            (&[0, 1, 5], None),
            (&[0, 2, 5, 0], None),
            (&[0x45, 1, 5, 0], None),
        ] {
            assert_eq!(parse(payload), probe, "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(length in 0usize..3000, mtu: u16) {
            let mut payload = vec![0xee; length];
            write(&mut payload, mtu);
            let expected = match length {
                1 => Some(Probe::Plain),
                0 | 2 | 3 => None,
                _ => Some(Probe::Padded { mtu, length }),
            };
            prop_assert_eq!(parse(&payload), expected);
            prop_assert!(payload.iter().skip(PADDED_HEADER).all(|byte| *byte == 0));
        }

        #[test]
        fn any_bytes_are_taken_calmly(payload in proptest::collection::vec(any::<u8>(), 0..40)) {
            crate::fuzz::probe(&payload);
        }
    }
}
