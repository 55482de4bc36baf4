//! Connections by slot and by id.

use hashbrown::HashMap;
use slab::Slab;

use super::conn::Conn;

#[derive(Debug, Default)]
pub(super) struct Conns {
    slots: Slab<Box<Conn>>,
    ids: HashMap<u64, usize>,
}

impl Conns {
    pub(super) fn insert(&mut self, conn: Conn) -> usize {
        let id = conn.id;
        let slot = self.slots.insert(Box::new(conn));
        self.ids.insert(id, slot);
        slot
    }

    pub(super) fn find(&self, id: u64) -> Option<usize> {
        self.ids.get(&id).copied()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Conn> {
        self.slots.get_mut(slot).map(|conn| &mut **conn)
    }

    pub(super) fn remove(&mut self, slot: usize) -> Option<Conn> {
        let conn = self.slots.try_remove(slot)?;
        self.ids.remove(&conn.id);
        Some(*conn)
    }
}
