//! How messages and packets stand in the plaintext of a tunnel's connection: IF-T frames or Network
//! Connect's records.
//!
//! What an edge must know of a message by itself is asked here; everything else in it is the
//! control plane's business.

use std::ops::Range;

use lockgate_dataplane::{if_t, link, ncp};

use crate::data::{Farewell, Side};

/// Vendor of the tunnel's IF-T messages.
pub const VENDOR: u32 = 0x0a4c;
/// Kind of a message that is one inner packet.
pub const DATA: u32 = 0x04;
/// Kind of the message by which a client says whether it uses ESP.
pub const ESP_IN_USE: u32 = 0x05;
/// Kind of the message that ends the configuration: data may follow, not come before.
const END_OF_CONFIGURATION: u32 = 0x8f;
/// Kind of the message by which a client logs out.
const LOGOUT: u32 = 0x89;
/// Kind of the message that ends a session with a text.
const FATAL: u32 = 0x93;

/// First sequence number of a gateway; real ones start near it, clients do not check it.
const GATEWAY_SEQUENCE: u32 = 0x1f4;
/// First sequence number of a client, as openconnect counts.
const CLIENT_SEQUENCE: u32 = 0;

/// Message by which a client says that it uses ESP, or does not.
pub const USES_ESP: &[u8] = b"ncmo=1\n\0";
pub const LEFT_ESP: &[u8] = b"ncmo=0\n\0";

/// Plaintext of one TLS record. openconnect 9.01 takes an IF-T frame, and an oNCP record of the
/// configuration, only whole from one.
pub const RECORD: usize = 16_384;
/// Longest body or packet a client may send: what openconnect itself accepts.
pub const MAX_BODY: usize = 16_384;
/// Longest head in front of an inner packet.
pub const LONGEST_HEAD: usize = ncp::DATA_HEADER;
/// Longest head of anything a client sends.
pub const LONGEST_HEADER: usize = 20;

/// The peer broke the framing. The stream cannot be resynchronised: close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Something received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// One inner packet.
    Packet,
    /// A message; `vendor` is 0 where there are none.
    Message { vendor: u32, kind: u32 },
    /// Bytes where a packet should have been.
    Unreadable,
}

/// One connection's framing, and where both directions are in it.
#[derive(Clone, Debug)]
pub enum Framing {
    IfT {
        /// Number of the next outgoing frame.
        sequence: u32,
    },
    Ncp(ncp::Reader),
}

impl Framing {
    /// IF-T at the beginning of a connection.
    pub fn if_t(side: Side) -> Self {
        let sequence = match side {
            Side::Gateway => GATEWAY_SEQUENCE,
            Side::Client => CLIENT_SEQUENCE,
        };
        Self::IfT { sequence }
    }

    /// Network Connect at the beginning of a connection, a gateway's.
    pub fn ncp() -> Self {
        Self::Ncp(ncp::Reader::default())
    }

    /// Its name on the edge link.
    pub fn name(&self) -> link::Framing {
        match self {
            Self::IfT { .. } => link::Framing::IfT,
            Self::Ncp(_) => link::Framing::Ncp,
        }
    }

    /// Takes out what only cuts the stream: from the bytes of `buf` from `from` on, which have just
    /// been received. Returns where the others end; [`next`](Self::next) wants those.
    pub fn strip(&mut self, buf: &mut [u8], from: usize) -> Result<usize, Malformed> {
        match self {
            Self::IfT { .. } => Ok(buf.len()),
            Self::Ncp(reader) => reader.strip(buf, from).map_err(|_| Malformed),
        }
    }

    /// The first item of `buf` and the range of its body; the next item starts where that ends. `None`:
    /// feed more bytes. `most`: bytes a body may have.
    #[inline]
    pub fn next(
        &mut self,
        buf: &[u8],
        most: usize,
    ) -> Result<Option<(Item, Range<usize>)>, Malformed> {
        match self {
            Self::IfT { .. } => match if_t::next_frame(buf, most) {
                Ok(Some((header, body))) => {
                    let item = match (header.vendor, header.kind) {
                        (VENDOR, DATA) => Item::Packet,
                        (vendor, kind) => Item::Message { vendor, kind },
                    };
                    Ok(Some((item, body)))
                }
                Ok(None) => Ok(None),
                Err(_) => Err(Malformed),
            },
            Self::Ncp(reader) => match reader.next(buf, most) {
                Ok(Some((item, body))) => {
                    let item = match item {
                        ncp::Item::Packet => Item::Packet,
                        ncp::Item::Unreadable => Item::Unreadable,
                        ncp::Item::Message { kind } => Item::Message {
                            vendor: 0,
                            kind: kind.into(),
                        },
                    };
                    Ok(Some((item, body)))
                }
                Ok(None) => Ok(None),
                Err(_) => Err(Malformed),
            },
        }
    }

    /// Whether a client logs out with a message.
    pub fn logs_out(&self, vendor: u32, kind: u32) -> bool {
        matches!(self, Self::IfT { .. }) && (vendor, kind) == (VENDOR, LOGOUT)
    }

    /// Whether a client says with a message that it uses ESP.
    pub fn says_esp(&self, vendor: u32, kind: u32, body: &[u8]) -> Option<bool> {
        match self {
            Self::IfT { .. } if (vendor, kind) != (VENDOR, ESP_IN_USE) => None,
            Self::IfT { .. } if body == USES_ESP => Some(true),
            Self::IfT { .. } if body == LEFT_ESP => Some(false),
            Self::IfT { .. } => None,
            Self::Ncp(_) => ncp::says_esp(u16::try_from(kind).ok()?, body),
        }
    }

    /// Whether data may follow a message of ours, and not come before it.
    pub fn opens_data(&self, vendor: u32, kind: u32) -> bool {
        match self {
            Self::IfT { .. } => (vendor, kind) == (VENDOR, END_OF_CONFIGURATION),
            Self::Ncp(_) => (vendor, kind) == (0, ncp::CONFIGURATION.into()),
        }
    }

    /// Writes what stands in front of an inner packet of `length` bytes. Returns how much that is, or
    /// `None` when there is no room for both in `room`.
    #[inline]
    pub fn head(&mut self, length: usize, room: &mut [u8]) -> Option<usize> {
        match self {
            Self::IfT { sequence } => {
                let total = if_t::HEADER + length;
                let head = room.get_mut(..total)?.first_chunk_mut()?;
                *head = if_t::encode_header(VENDOR, DATA, total as u32, next(sequence));
                Some(if_t::HEADER)
            }
            Self::Ncp(_) => {
                let total = ncp::DATA_HEADER + length;
                let head = room.get_mut(..total)?.first_chunk_mut()?;
                *head = ncp::data_header(u16::try_from(length).ok()?);
                Some(ncp::DATA_HEADER)
            }
        }
    }

    /// The TLS records of a message of ours; `None` when the peer would not take it.
    pub fn message(&mut self, vendor: u32, kind: u32, body: &[u8]) -> Option<Vec<Vec<u8>>> {
        match self {
            Self::IfT { sequence } => {
                let total = if_t::HEADER + body.len();
                if total > RECORD {
                    return None;
                }
                let mut frame = Vec::with_capacity(total);
                let header = if_t::encode_header(vendor, kind, total as u32, next(sequence));
                frame.extend_from_slice(&header);
                frame.extend_from_slice(body);
                Some(vec![frame])
            }
            Self::Ncp(_) if vendor != 0 => None,
            Self::Ncp(_) => ncp::records(u16::try_from(kind).ok()?, body, RECORD),
        }
    }

    /// The TLS records that tell a client why its session ends.
    pub fn farewell(&mut self, farewell: &Farewell) -> Option<Vec<Vec<u8>>> {
        match self {
            Self::IfT { .. } => self.message(VENDOR, FATAL, &farewell.if_t()),
            Self::Ncp(_) => Some(vec![ncp::end(farewell.ncp()).to_vec()]),
        }
    }
}

fn next(sequence: &mut u32) -> u32 {
    let number = *sequence;
    *sequence = number.wrapping_add(1);
    number
}
