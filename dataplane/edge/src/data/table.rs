//! Live sessions, found by id, inner address or inbound SPI.

use std::net::IpAddr;

use hashbrown::HashMap;
use slab::Slab;

use super::session::Session;

/// SPIs below this one are reserved (RFC 4303, section 2.1).
const FIRST_SPI: u32 = 256;

#[derive(Debug, Default)]
pub(super) struct Table {
    sessions: Slab<Session>,
    ids: HashMap<u64, usize>,
    addresses: HashMap<IpAddr, usize>,
    spis: HashMap<u32, usize>,
    /// The session opened last, as long as it lives.
    newest: Option<usize>,
}

impl Table {
    pub(super) fn get(&self, slot: usize) -> Option<&Session> {
        self.sessions.get(slot)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Session> {
        self.sessions.get_mut(slot)
    }

    /// The slot of a session by id.
    pub(super) fn find(&self, id: u64) -> Option<usize> {
        self.ids.get(&id).copied()
    }

    /// The slot of the session that owns an inner address.
    #[inline]
    pub(super) fn by_address(&self, address: IpAddr) -> Option<usize> {
        self.addresses.get(&address).copied()
    }

    /// The slot of the session that handed out an SPI.
    #[inline]
    pub(super) fn by_spi(&self, spi: u32) -> Option<usize> {
        self.spis.get(&spi).copied()
    }

    /// The slot of the session opened last.
    #[inline]
    pub(super) fn newest(&self) -> Option<usize> {
        self.newest
    }

    /// Whether another session than `id` owns one of these addresses.
    pub(super) fn taken(&self, addresses: impl Iterator<Item = IpAddr>, id: u64) -> bool {
        addresses.into_iter().any(|address| {
            self.by_address(address)
                .and_then(|slot| self.get(slot))
                .is_some_and(|owner| owner.id != id)
        })
    }

    /// Adds a session whose id and addresses are free.
    pub(super) fn insert(&mut self, session: Session) -> usize {
        let (id, addresses) = (session.id, session.addresses());
        let slot = self.sessions.insert(session);
        self.ids.insert(id, slot);
        self.newest = Some(slot);
        self.addresses
            .extend(addresses.map(|address| (address, slot)));
        slot
    }

    /// Takes a session out; its addresses and SPIs are free again.
    pub(super) fn remove(&mut self, slot: usize) -> Option<Session> {
        let session = self.sessions.try_remove(slot)?;
        self.ids.remove(&session.id);
        self.newest = self.newest.filter(|newest| *newest != slot);
        for address in session.addresses() {
            self.addresses.remove(&address);
        }
        for spi in session.esp.spis() {
            self.spis.remove(&spi);
        }
        Some(session)
    }

    /// Books an inbound SPI for a session. False when it is in use or reserved.
    pub(super) fn claim_spi(&mut self, spi: u32, slot: usize) -> bool {
        spi >= FIRST_SPI && self.spis.try_insert(spi, slot).is_ok()
    }

    pub(super) fn release_spi(&mut self, spi: u32) {
        self.spis.remove(&spi);
    }

    /// Slots of all sessions.
    pub(super) fn slots(&self) -> Vec<usize> {
        self.sessions.iter().map(|(slot, _)| slot).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().map(|(_, session)| session)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}
