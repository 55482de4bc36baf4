//! The front: from `accept` to the moment a connection belongs to a session.
//!
//! [`listener`] accepts and asks the [`admission`] desk for a place; [`serve`] brings one
//! connection through TLS ([`tls`], [`possession`]) and HTTP; [`upgrade`] and [`ncp`] recognise
//! requests for a tunnel and [`crate::conversation`] carries its messages to and from the control
//! plane until the data thread takes over; every other request goes through [`request`], which
//! refuses odd ones and replaces headers nobody outside may set, and [`proxy`] to the control
//! plane's HTTP server. [`limits`] holds the numbers, [`refusal`] counts why people were turned
//! away. The front decides nothing about users.

pub mod admission;
pub mod body;
pub mod framing;
pub mod limits;
pub mod listener;
pub mod ncp;
pub mod possession;
pub mod proxy;
pub mod refusal;
pub mod request;
pub mod serve;
pub mod tls;
pub mod upgrade;

use std::path::PathBuf;
use std::sync::Arc;

use crate::conversation::{Terms, Ties};
use crate::data::Side;
use crate::framing::MAX_BODY;
use crate::link::DataPort;
use crate::link::directory::Directory;
use crate::link::uplink::Uplink;

/// What every connection of the front works with.
pub struct Front {
    pub limits: limits::Limits,
    pub tls: Arc<rustls::ServerConfig>,
    /// The control plane's HTTP server.
    pub http_socket: PathBuf,
    pub admission: Arc<admission::Admission>,
    pub directory: Arc<Directory>,
    pub uplink: Uplink,
    pub data: Arc<dyn DataPort>,
    pub refusals: Arc<refusal::Refusals>,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Front {
    pub(crate) fn ties(&self) -> Ties {
        Ties {
            directory: self.directory.clone(),
            uplink: self.uplink.clone(),
            data: self.data.clone(),
            refusals: self.refusals.clone(),
        }
    }

    pub(crate) fn terms(&self) -> Terms {
        Terms {
            side: Side::Gateway,
            frames: self.limits.sign_in_frames,
            bytes: self.limits.sign_in_bytes,
            body: self.limits.sign_in_bytes.min(MAX_BODY),
            time: self.limits.sign_in_time(),
            write_time: self.limits.write_time(),
        }
    }
}
