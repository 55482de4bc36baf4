//! The data thread against a client made of real sockets: rustls over TCP, ESP over UDP, and a
//! socket pair in place of the TUN.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod both;
mod bounds;
mod client;
mod ends;
mod flows;
mod gateway;
mod network_connect;
mod packets;
mod pair;
mod paths;
mod rates;
mod transfer;
