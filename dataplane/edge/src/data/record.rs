//! Packets on their way out over TLS: framed ones for one connection share TLS records.

use lockgate_dataplane::discard::Discard;

use super::lifecycle::Book;
use crate::framing::{LONGEST_HEAD, RECORD};

/// Queued bytes at which the socket is written within a turn.
const WRITE_AT: usize = 64 << 10;

/// Plaintext of the record that is being filled.
#[derive(Debug)]
pub(super) struct Record {
    buffer: Box<[u8]>,
    used: usize,
    /// Slot of the connection.
    target: Option<usize>,
}

impl Record {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; RECORD].into(),
            used: 0,
            target: None,
        }
    }

    /// Room for an inner packet of `length` bytes to the connection in slot `target`, what stands in
    /// front of it written. It counts as sent: the caller must fill all of the room.
    #[inline]
    pub(super) fn room(
        &mut self,
        target: usize,
        length: usize,
        book: &mut Book,
        now: u64,
    ) -> Result<&mut [u8], Discard> {
        let longest = LONGEST_HEAD + length;
        if self.target != Some(target) {
            self.finish(book, now);
        } else if self.used + longest > RECORD {
            self.queue(book, now);
        }
        let conn = book
            .conns
            .get_mut(target)
            .filter(|conn| conn.is_ready())
            .ok_or(Discard::NoTransport)?;
        if !conn.takes_data() {
            return Err(Discard::QueueFull);
        }
        let room = self.buffer.get_mut(self.used..).unwrap_or_default();
        let head = conn.head(length, room).ok_or(Discard::TooBig)?;
        let body = room.get_mut(head..head + length).ok_or(Discard::TooBig)?;
        self.target = Some(target);
        self.used += head + length;
        Ok(body)
    }

    /// Hands the record to its connection; writes to the socket when enough has come together.
    fn queue(&mut self, book: &mut Book, now: u64) {
        let Some(target) = self.target else { return };
        let record = self.buffer.get(..self.used).unwrap_or_default();
        self.used = 0;
        let Some(conn) = book.conns.get_mut(target) else {
            return;
        };
        if !conn.queue(record) {
            book.lose(target, "TLS failure", now);
        } else if !conn.waits_to_write && conn.queued() >= WRITE_AT {
            book.flush(target, now);
        }
    }

    /// Hands the record over and writes all there is.
    pub(super) fn finish(&mut self, book: &mut Book, now: u64) {
        if self.used > 0 {
            self.queue(book, now);
        }
        if let Some(target) = self.target.take()
            && book
                .conns
                .get_mut(target)
                .is_some_and(|conn| !conn.waits_to_write)
        {
            book.flush(target, now);
        }
    }
}
