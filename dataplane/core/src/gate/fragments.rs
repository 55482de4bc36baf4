//! What was decided about datagrams that come in fragments: only the first fragment shows the
//! ports, the others follow its verdict.

use std::net::IpAddr;

/// Datagrams remembered per session; the oldest gives way. Fragments of one datagram follow each
/// other closely, so this is far more than come between them.
const SLOTS: usize = 64;
/// Receivers give up reassembly after 30 s (Linux; RFC 8200 section 4.5 allows 60 s).
const TIMEOUT_MS: u64 = 30_000;

/// What fragments of one datagram have in common, beside the session's own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub outbound: bool,
    pub remote: IpAddr,
    /// IPv4 only (RFC 791 section 3.2); IPv6 does not tell datagrams apart by it, so `None`.
    pub protocol: Option<u8>,
    pub id: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    datagram: Datagram,
    until_ms: u64,
    allowed: bool,
}

/// Ring of the latest first fragments; without memory of its own until there is one.
#[derive(Debug, Default)]
pub struct Fragments {
    entries: Vec<Entry>,
    oldest: usize,
}

impl Fragments {
    /// Notes the verdict of a first fragment. A repeated first fragment counts anew.
    pub fn note(&mut self, datagram: Datagram, allowed: bool, now_ms: u64) {
        let entry = Entry {
            datagram,
            until_ms: now_ms.saturating_add(TIMEOUT_MS),
            allowed,
        };
        if let Some(known) = self
            .entries
            .iter_mut()
            .find(|known| known.datagram == datagram)
        {
            *known = entry;
        } else if self.entries.len() < SLOTS {
            self.entries.push(entry);
        } else if let Some(oldest) = self.entries.get_mut(self.oldest) {
            *oldest = entry;
            self.oldest = (self.oldest + 1) % SLOTS;
        }
    }

    /// The verdict on a datagram whose first fragment was seen not too long ago.
    pub fn verdict(&self, datagram: &Datagram, now_ms: u64) -> Option<bool> {
        let known = self
            .entries
            .iter()
            .find(|known| known.datagram == *datagram)?;
        (now_ms < known.until_ms).then_some(known.allowed)
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(id: u32) -> Datagram {
        Datagram {
            outbound: true,
            remote: [10, 0, 0, 1].into(),
            protocol: Some(17),
            id,
        }
    }

    #[test]
    fn remembers_a_bounded_number_for_a_bounded_time() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.verdict(&datagram(0), 0), None);
        for id in 0..1000 {
            fragments.note(datagram(id), id % 2 == 0, 5);
        }
        assert_eq!(fragments.entries.len(), SLOTS);
        assert_eq!(fragments.verdict(&datagram(999 - SLOTS as u32), 5), None);
        for id in 1000 - SLOTS as u32..1000 {
            assert_eq!(
                fragments.verdict(&datagram(id), 5 + TIMEOUT_MS - 1),
                Some(id % 2 == 0)
            );
            assert_eq!(fragments.verdict(&datagram(id), 5 + TIMEOUT_MS), None);
        }
        fragments.note(datagram(999), true, 6);
        assert_eq!(
            fragments.verdict(&datagram(999), 6),
            Some(true),
            "the latest first fragment decides"
        );
        assert_eq!(
            fragments.verdict(
                &Datagram {
                    outbound: false,
                    ..datagram(999)
                },
                6
            ),
            None
        );
    }
}
