//! The bootstrap document: what the supervisor tells a new edge, once, on standard input.
//!
//! One JSON object of at most [`MAX_DOCUMENT`] bytes. It holds private keys, so its text is
//! zeroed after parsing and errors quote keys of the document, never values of secrets.
//! Descriptors are numbers of what the supervisor has opened and left open for this process.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use lockgate_dataplane::network::Network;
use rustix::net::SocketType;
use rustix::net::sockopt;
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use crate::descriptors::Inherited;
use crate::front::limits::Limits;
use crate::front::tls::{self, Certificate, ClientCertificates, Minimum};

/// Largest document in bytes: some hundred certificate chains.
pub const MAX_DOCUMENT: usize = 1 << 20;

/// Which of the two web faces a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Users and their clients.
    Gateway,
    /// Administrators; no tunnels.
    Admin,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Admin => "admin",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    listeners: Vec<ListenerEntry>,
    udp: Vec<UdpEntry>,
    tun_fd: RawFd,
    #[serde(default)]
    tun_takes_udp: bool,
    link_fd: RawFd,
    http_socket: PathBuf,
    certificates: Vec<CertificateEntry>,
    #[serde(default)]
    tls_minimum: Minimum,
    #[serde(default)]
    client_certificates: ClientCertificates,
    #[serde(default)]
    reserved: Vec<String>,
    #[serde(default)]
    limits: Limits,
    control_uid: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenerEntry {
    fd: RawFd,
    role: Role,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UdpEntry {
    fd: RawFd,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateEntry {
    names: Vec<String>,
    chain: String,
    key: String,
}

impl Drop for CertificateEntry {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// A checked bootstrap: every descriptor is what it is said to be, every key fits its chain.
#[derive(Debug)]
pub struct Bootstrap {
    pub listeners: Vec<(TcpListener, Role)>,
    pub udp: Vec<UdpSocket>,
    pub tun: OwnedFd,
    /// The kernel took the UDP offloads of the TUN (`TUN_F_USO4`, `TUN_F_USO6`).
    pub tun_takes_udp: bool,
    pub link: UnixListener,
    pub http_socket: PathBuf,
    pub tls: Arc<rustls::ServerConfig>,
    pub reserved: Vec<Network>,
    pub limits: Limits,
    /// The user id the control plane runs under; our own when the document names none.
    pub control_uid: u32,
}

/// Why an edge cannot start; the text says which key of the document and what is wanted.
#[derive(Debug, PartialEq, Eq)]
pub struct BootstrapError(pub String);

impl std::fmt::Display for BootstrapError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bootstrap: {}", self.0)
    }
}

impl std::error::Error for BootstrapError {}

pub(crate) fn error(text: impl Into<String>) -> BootstrapError {
    BootstrapError(text.into())
}

impl Bootstrap {
    /// Reads to the end of `input`, so the writer must close its end.
    pub fn read(input: impl Read) -> Result<Self, BootstrapError> {
        // The whole room at once: a buffer that grew would leave copies of keys behind.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_DOCUMENT + 1));
        input
            .take(MAX_DOCUMENT as u64 + 1)
            .read_to_end(&mut text)
            .map_err(|problem| error(format!("standard input: {problem}")))?;
        if text.len() > MAX_DOCUMENT {
            return Err(error(format!("longer than {MAX_DOCUMENT} bytes")));
        }
        let document: Document =
            serde_json::from_slice(&text).map_err(|problem| error(describe(&problem)))?;
        document.open()
    }
}

/// serde's message may quote values; only its position and kind are safe to show.
pub(crate) fn describe(problem: &serde_json::Error) -> String {
    let (line, column) = (problem.line(), problem.column());
    if problem.is_data() {
        // "unknown field `x`, expected …" and "missing field `x`" quote names; "invalid type:
        // string "…"" quotes a value.
        let text = problem.to_string();
        if text.starts_with("unknown field") || text.starts_with("missing field") {
            return text;
        }
        return format!("a value of the wrong kind at line {line} column {column}");
    }
    format!("not JSON at line {line} column {column}")
}

impl Document {
    fn open(mut self) -> Result<Bootstrap, BootstrapError> {
        self.limits.check().map_err(error)?;
        if self.listeners.is_empty() {
            return Err(error("listeners is empty: at least one is needed"));
        }
        if !self.http_socket.is_absolute() {
            return Err(error("http_socket must be an absolute path"));
        }
        let reserved = self
            .reserved
            .iter()
            .map(|text| {
                text.parse()
                    .map_err(|problem| error(format!("reserved: {text:?}: {problem}")))
            })
            .collect::<Result<Vec<Network>, _>>()?;
        let certificates = self
            .certificates
            .drain(..)
            .enumerate()
            .map(|(at, entry)| {
                Certificate::from_pem(&entry.names, &entry.chain, &entry.key)
                    .map_err(|problem| error(format!("certificates[{at}]: {problem}")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let tls = tls::server_config(certificates, self.tls_minimum, self.client_certificates)
            .map_err(|problem| error(format!("certificates: {problem}")))?;
        let mut inherited = Inherited::default();
        let mut take = |name: &str, number: RawFd| {
            inherited.take(number).map_err(|problem| {
                error(format!(
                    "{name}: descriptor {number} was not handed over (twice): {problem}"
                ))
            })
        };
        let mut listeners = Vec::new();
        for (at, entry) in self.listeners.iter().enumerate() {
            let name = format!("listeners[{at}].fd");
            let socket = take(&name, entry.fd)?;
            expect_socket(&name, &socket, SocketType::STREAM, true)?;
            let listener = TcpListener::from(socket);
            address(&name, listener.local_addr())?;
            listeners.push((listener, entry.role));
        }
        let mut udp = Vec::new();
        for (at, entry) in self.udp.iter().enumerate() {
            let name = format!("udp[{at}].fd");
            let socket = take(&name, entry.fd)?;
            expect_socket(&name, &socket, SocketType::DGRAM, false)?;
            let socket = UdpSocket::from(socket);
            address(&name, socket.local_addr())?;
            udp.push(socket);
        }
        let tun = take("tun_fd", self.tun_fd)?;
        let link = take("link_fd", self.link_fd)?;
        expect_socket("link_fd", &link, SocketType::STREAM, true)?;
        let link = UnixListener::from(link);
        link.local_addr()
            .map_err(|_| error("link_fd: not a Unix socket"))?;
        let nonblocking = |name: &str, result: std::io::Result<()>| {
            result
                .map_err(|problem| error(format!("{name}: cannot be made nonblocking: {problem}")))
        };
        nonblocking("link_fd", link.set_nonblocking(true))?;
        for (listener, _) in &listeners {
            nonblocking("listeners", listener.set_nonblocking(true))?;
        }
        Ok(Bootstrap {
            listeners,
            udp,
            tun,
            tun_takes_udp: self.tun_takes_udp,
            link,
            http_socket: self.http_socket,
            tls,
            reserved,
            limits: self.limits,
            control_uid: self
                .control_uid
                .unwrap_or_else(|| rustix::process::getuid().as_raw()),
        })
    }
}

fn address(name: &str, found: std::io::Result<SocketAddr>) -> Result<SocketAddr, BootstrapError> {
    found.map_err(|_| error(format!("{name}: not an IPv4 or IPv6 socket")))
}

pub(crate) fn expect_socket(
    name: &str,
    socket: impl AsFd,
    kind: SocketType,
    listening: bool,
) -> Result<(), BootstrapError> {
    let found =
        sockopt::socket_type(&socket).map_err(|_| error(format!("{name}: not a socket")))?;
    if found != kind {
        return Err(error(format!("{name}: the wrong type of socket")));
    }
    if listening && !sockopt::socket_acceptconn(&socket).unwrap_or(false) {
        return Err(error(format!("{name}: the socket does not listen")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use std::os::fd::IntoRawFd;

    fn certificate() -> serde_json::Value {
        let made = rcgen::generate_simple_self_signed(vec!["gw.test".to_owned()]).unwrap();
        serde_json::json!({
            "names": ["gw.test"], "chain": made.cert.pem(), "key": made.signing_key.serialize_pem(),
        })
    }

    fn document() -> serde_json::Value {
        let tcp = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap()).into_raw_fd();
        let udp = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap()).into_raw_fd();
        let (tun, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let link = UnixListener::bind(directory.path().join("link")).unwrap();
        serde_json::json!({
            "listeners": [{"fd": tcp, "role": "gateway"}],
            "udp": [{"fd": udp}],
            "tun_fd": OwnedFd::from(tun).into_raw_fd(),
            "link_fd": OwnedFd::from(link).into_raw_fd(),
            "http_socket": "/run/http",
            "certificates": [certificate()],
            "reserved": ["10.88.0.0/16", "fd00:88::/64"],
        })
    }

    fn read(document: &serde_json::Value) -> Result<Bootstrap, BootstrapError> {
        Bootstrap::read(document.to_string().as_bytes())
    }

    #[test]
    fn a_whole_document_opens() {
        let bootstrap = read(&document()).unwrap();
        assert_eq!(bootstrap.listeners.len(), 1);
        assert_eq!(bootstrap.reserved.len(), 2);
        assert_eq!(bootstrap.control_uid, rustix::process::getuid().as_raw());
        assert_eq!(bootstrap.udp.len(), 1);
    }

    #[test]
    fn errors_name_the_key_and_never_a_secret() {
        let rows: &[(&str, serde_json::Value, &str)] = &[
            ("listeners", serde_json::json!([]), "listeners is empty"),
            (
                "reserved",
                serde_json::json!(["10.0.0.1/8"]),
                "reserved: \"10.0.0.1/8\"",
            ),
            (
                "http_socket",
                serde_json::json!("run/http"),
                "http_socket must be an absolute path",
            ),
            (
                "tun_fd",
                serde_json::json!(1),
                "tun_fd: descriptor 1 was not handed over",
            ),
            (
                "link_fd",
                serde_json::json!(987_654),
                "link_fd: descriptor 987654 was not handed over",
            ),
            (
                "limits",
                serde_json::json!({"head_bytes": 1}),
                "limits.head_bytes is 1",
            ),
            (
                "limits",
                serde_json::json!({"head": 1}),
                "unknown field `head`",
            ),
            ("tls_minimum", serde_json::json!("1.1"), "wrong kind"),
            (
                "certificates",
                serde_json::json!([]),
                "certificates: at least one is needed",
            ),
            ("certificates", serde_json::json!("SECRET"), "wrong kind"),
            ("surprise", serde_json::json!(1), "unknown field `surprise`"),
        ];
        for (key, value, wanted) in rows {
            let mut changed = document();
            changed[*key] = value.clone();
            let text = read(&changed).unwrap_err().to_string();
            assert!(text.contains(wanted), "{key}: {text}");
            assert!(!text.contains("SECRET"), "{key}: {text}");
        }
        let mut mixed = document();
        mixed["certificates"][0]["key"] = certificate()["key"].clone();
        let text = read(&mixed).unwrap_err().to_string();
        assert!(
            text.contains("certificates[0]: the key does not belong to"),
            "{text}"
        );
        let mut wrong = document();
        wrong["udp"][0]["fd"] = wrong["listeners"][0]["fd"].clone();
        assert!(read(&wrong).unwrap_err().to_string().contains("udp[0].fd"));
        assert!(
            Bootstrap::read(&b"{"[..])
                .unwrap_err()
                .to_string()
                .contains("not JSON at line 1")
        );
        assert!(
            read(&serde_json::json!({"a": "x".repeat(MAX_DOCUMENT)}))
                .unwrap_err()
                .0
                .contains("longer")
        );
    }
}
