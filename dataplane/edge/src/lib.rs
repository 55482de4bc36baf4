//! Lockgate's edge: the process that terminates TLS, frames messages, seals ESP and moves packets.
//!
//! Nouns: the [`bootstrap`] document is all an edge is told at start; the [`front`] accepts
//! connections and speaks TLS and HTTP; the [`client`] dials a gateway instead; a
//! [`conversation`] carries messages until the control plane has decided; the [`data`] thread
//! owns sessions and packets afterwards; a [`framing`] says how both stand on a connection; the
//! [`link`] joins all of it to the control plane; [`confine`] takes away every right the process does not need. The edge holds TLS and session
//! keys: no credentials, no database, and it opens no file and no network socket once it runs.

pub mod bootstrap;
pub mod client;
pub mod confine;
pub mod conversation;
pub mod data;
mod descriptors;
pub mod framing;
pub mod front;
pub mod link;
pub mod log;
pub mod run;
pub mod self_check;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic elsewhere: the values behind our locks are whole between calls.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
