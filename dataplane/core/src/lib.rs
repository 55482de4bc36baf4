//! Packet code of the Lockgate data plane.
//!
//! Nouns: an inner *packet* is IPv4 or IPv6; a *session* owns one inner address per family; its
//! [`gate`] decides what may pass; [`esp`] seals and opens packets for UDP; [`if_t`] and [`ncp`] frame them
//! for TLS; [`segment`] cuts super-packets from the TUN, [`coalesce`] glues packets for it;
//! [`link`] is what the control plane says. Nothing here does I/O or reads a clock, and no input
//! can make it panic: what cannot be handled is a [`discard::Discard`], counted by its reason.
#![forbid(unsafe_code)]

mod bytes;
pub mod checksum;
pub mod coalesce;
pub mod discard;
pub mod esp;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod gate;
pub mod http_head;
pub mod icmp;
pub mod if_t;
pub mod ip;
pub mod link;
pub mod mss;
pub mod ncp;
pub mod network;
#[cfg(test)]
mod packets;
pub mod probe;
pub mod rate;
pub mod replay;
pub mod segment;
pub mod throttle;
pub mod vnet;
