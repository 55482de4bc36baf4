//! The edge's end of the link to the control plane.
//!
//! [`codec`] cuts and builds records; [`receive`] reads their bytes, and the descriptors that a
//! client's service sends with them; [`uplink`] is the bounded queue of everything that goes up;
//! [`directory`] knows the IF-T connections the front still owns and which link they belong to;
//! [`server`] accepts the control plane and answers `hello`; [`dispatch`] hands each message to
//! its owner.
//!
//! Every link that said `hello` has an *epoch*. A connection belongs to the epoch it was
//! announced in: when the link drops it is closed, and nothing of it reaches a later link.
//! Messages of the data thread have no epoch; the list of sessions in the answer to `hello` is
//! what counts, whatever was lost before it.

pub mod codec;
pub mod directory;
mod dispatch;
pub mod receive;
pub mod server;
pub mod uplink;

use crate::data::{DataHandle, ToData};

/// What the link and the front need of the data thread.
pub trait DataPort: Send + Sync + 'static {
    /// Queues an order; never blocks. An end of the thread is noticed where it was started.
    fn send(&self, order: ToData);
}

impl DataPort for DataHandle {
    fn send(&self, order: ToData) {
        let _ = DataHandle::send(self, order);
    }
}
