//! What was decided about datagrams that come in fragments: only the first fragment shows the
//! ports, the others follow its verdict.

use super::Judged;
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
    judged: Option<Judged>,
}

/// Ring of the latest first fragments; without memory of its own until there is one.
#[derive(Debug, Default)]
pub struct Fragments {
    entries: Vec<Entry>,
    oldest: usize,
}

impl Fragments {
    /// Notes what became of a first fragment; `None`: it could not be judged. A repeated first
    /// fragment counts anew.
    pub fn note(&mut self, datagram: Datagram, judged: Option<Judged>, now_ms: u64) {
        let entry = Entry {
            datagram,
            until_ms: now_ms.saturating_add(TIMEOUT_MS),
            judged,
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

    /// What became of the first fragment of a datagram, if it was seen not too long ago.
    pub fn first_of(&self, datagram: &Datagram, now_ms: u64) -> Option<Option<Judged>> {
        let known = self
            .entries
            .iter()
            .find(|known| known.datagram == *datagram)?;
        (now_ms < known.until_ms).then_some(known.judged)
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::rules::{Remote, Verdict};

    fn judged(allow: bool) -> Option<Judged> {
        Some(Judged {
            remote: Remote {
                address: [10, 0, 0, 1].into(),
                protocol: 17,
                port: Some(53),
            },
            verdict: Verdict { allow, rule: None },
        })
    }

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
        assert_eq!(fragments.first_of(&datagram(0), 0), None);
        for id in 0..1000 {
            fragments.note(datagram(id), judged(id % 2 == 0), 5);
        }
        assert_eq!(fragments.entries.len(), SLOTS);
        assert_eq!(fragments.first_of(&datagram(999 - SLOTS as u32), 5), None);
        for id in 1000 - SLOTS as u32..1000 {
            assert_eq!(
                fragments.first_of(&datagram(id), 5 + TIMEOUT_MS - 1),
                Some(judged(id % 2 == 0))
            );
            assert_eq!(fragments.first_of(&datagram(id), 5 + TIMEOUT_MS), None);
        }
        fragments.note(datagram(999), judged(true), 6);
        assert_eq!(
            fragments.first_of(&datagram(999), 6),
            Some(judged(true)),
            "the latest first fragment decides"
        );
        assert_eq!(
            fragments.first_of(
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
