//! The header that stands before each packet read from or written to a TUN with IFF_VNET_HDR.
//!
//! `struct virtio_net_hdr` (virtio 1.2, section 5.1.6), legacy layout: 10 bytes, the byte order
//! of this machine. The kernel fills it in, yet its fields are checked before they are used.

/// Bytes before the packet.
pub const LEN: usize = 10;

/// The checksum at `csum_start + csum_offset` holds the pseudo-header sum only.
pub const NEEDS_CSUM: u8 = 1;

pub const GSO_NONE: u8 = 0;
pub const GSO_TCPV4: u8 = 1;
pub const GSO_TCPV6: u8 = 4;
pub const GSO_UDP_L4: u8 = 5;
/// Bit beside the type: the first segment may carry CWR.
pub const GSO_ECN: u8 = 0x80;

/// The header's fields as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    pub flags: u8,
    /// One of the `GSO_…` types, perhaps with [`GSO_ECN`].
    pub gso_type: u8,
    /// Bytes of all headers, a hint.
    pub hdr_len: u16,
    /// Payload bytes of each segment but the last.
    pub gso_size: u16,
    /// Where the checksummed part starts.
    pub csum_start: u16,
    /// Where the checksum lies, counted from `csum_start`.
    pub csum_offset: u16,
}

impl VnetHeader {
    pub const LEN: usize = LEN;

    /// The first ten bytes, or nothing when there are fewer.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let &[flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = bytes.first_chunk::<LEN>()?;
        Some(Self {
            flags,
            gso_type,
            hdr_len: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            csum_start: u16::from_ne_bytes([s0, s1]),
            csum_offset: u16::from_ne_bytes([o0, o1]),
        })
    }

    pub fn encode(&self) -> [u8; LEN] {
        let [h0, h1] = self.hdr_len.to_ne_bytes();
        let [g0, g1] = self.gso_size.to_ne_bytes();
        let [s0, s1] = self.csum_start.to_ne_bytes();
        let [o0, o1] = self.csum_offset.to_ne_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }

    /// Whether the packet's transport checksum is still to be completed.
    pub fn needs_checksum(&self) -> bool {
        self.flags & NEEDS_CSUM != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_undoes_encoding() {
        let header = VnetHeader {
            flags: 1,
            gso_type: 4,
            hdr_len: 60,
            gso_size: 1340,
            csum_start: 40,
            csum_offset: 16,
        };
        assert_eq!(VnetHeader::parse(&header.encode()), Some(header));
        assert_eq!(VnetHeader::parse(&[0; 9]), None);
    }
}
