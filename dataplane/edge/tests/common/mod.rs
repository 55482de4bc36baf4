//! A front with a fake control plane and a fake data thread around it, and clients for it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod client;

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use lockgate_dataplane::if_t;
use lockgate_dataplane::link::{FromEdge, SessionState, ToEdge, VERSION};
use lockgate_edge::bootstrap::Role;
use lockgate_edge::data::{Adopted, ToData};
use lockgate_edge::front::admission::Admission;
use lockgate_edge::front::limits::Limits;
use lockgate_edge::front::refusal::Refusals;
use lockgate_edge::front::tls::{self, Certificate, ClientCertificates, Minimum};
use lockgate_edge::front::{Front, listener};
use lockgate_edge::link::directory::Directory;
use lockgate_edge::link::server::LinkServer;
use lockgate_edge::link::uplink::{self, Uplink};
use lockgate_edge::link::{DataPort, codec};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest,
};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than anything here takes; reached only when a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("nothing happened")
}

/// Waits until `fact` holds.
pub async fn until(mut fact: impl FnMut() -> bool) {
    soon(async {
        while !fact() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Stands for the data thread: remembers orders, answers with a list of sessions.
#[derive(Default)]
pub struct FakeData {
    pub orders: Mutex<Vec<String>>,
    pub adopted: Mutex<Vec<Adopted>>,
    pub sessions: Mutex<Vec<SessionState>>,
    pub ports: Mutex<Vec<std::net::UdpSocket>>,
}

impl DataPort for FakeData {
    fn send(&self, order: ToData) {
        let name = match order {
            ToData::Link(message) => format!("{message:?}"),
            ToData::Adopt(adopted) => {
                self.adopted.lock().unwrap().push(*adopted);
                "Adopt".to_owned()
            }
            ToData::ReportSessions(reply) => {
                let _ = reply.send(self.sessions.lock().unwrap().clone());
                "ReportSessions".to_owned()
            }
            ToData::Tun { takes_udp, .. } => format!("Tun {takes_udp}"),
            ToData::Port { session, socket } => {
                self.ports.lock().unwrap().push(socket);
                format!("Port {session}")
            }
            other => format!("{other:?}"),
        };
        self.orders.lock().unwrap().push(name);
    }
}

pub struct Edge {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub data: Arc<FakeData>,
    pub refusals: Arc<Refusals>,
    pub admission: Arc<Admission>,
    pub directory: Arc<Directory>,
    pub uplink: Uplink,
    pub ca: CertificateDer<'static>,
    pub directory_path: tempfile::TempDir,
    pub http_socket: PathBuf,
    pub link_socket: PathBuf,
}

pub struct Options {
    pub limits: Limits,
    pub client_certificates: ClientCertificates,
    pub minimum: Minimum,
}

impl Default for Options {
    fn default() -> Self {
        let limits = Limits {
            new_per_second: 100_000,
            new_burst: 100_000,
            ..Limits::default()
        };
        Self {
            limits,
            client_certificates: ClientCertificates::Off,
            minimum: Minimum::Tls12,
        }
    }
}

impl Edge {
    pub async fn start(options: Options) -> Self {
        let data = Arc::new(FakeData::default());
        Self::start_with(options, data.clone(), |_| data).await
    }

    /// With the data thread that `start` makes; `fake` sees nothing of it.
    pub async fn start_with(
        options: Options,
        fake: Arc<FakeData>,
        start: impl FnOnce(Uplink) -> Arc<dyn DataPort>,
    ) -> Self {
        let Options {
            limits,
            client_certificates,
            minimum,
        } = options;
        let directory_path = tempfile::tempdir().unwrap();
        let http_socket = directory_path.path().join("http");
        let link_socket = directory_path.path().join("link");
        let made = rcgen::generate_simple_self_signed(vec!["gw.test".to_owned()]).unwrap();
        let certificate = Certificate::from_pem(
            &["gw.test".to_owned()],
            &made.cert.pem(),
            &made.signing_key.serialize_pem(),
        )
        .unwrap();
        let refusals = Arc::new(Refusals::default());
        let directory = Arc::new(Directory::new(limits.queue_bytes, refusals.clone()));
        let (uplink, outgoing) = uplink::channel(refusals.clone());
        let data = start(uplink.clone());
        let link = LinkServer {
            listener: UnixListener::bind(&link_socket).unwrap(),
            control_uid: rustix::process::getuid().as_raw(),
            edge: 7,
            directory: directory.clone(),
            data: data.clone(),
            client: None,
            outgoing,
            refusals: refusals.clone(),
        };
        tokio::spawn(link.run());
        let admission = Admission::new(&limits, refusals.clone(), [1; 16]);
        let front = Arc::new(Front {
            limits,
            tls: tls::server_config(vec![certificate], minimum, client_certificates).unwrap(),
            http_socket: http_socket.clone(),
            admission: admission.clone(),
            directory: directory.clone(),
            uplink: uplink.clone(),
            data: data.clone(),
            refusals: refusals.clone(),
        });
        let mut addresses = Vec::new();
        for role in [Role::Gateway, Role::Admin] {
            // All of 127.0.0.0/8 reaches it: tests use several "addresses".
            let socket = TcpListener::bind("0.0.0.0:0").await.unwrap();
            let port = socket.local_addr().unwrap().port();
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            addresses.push(address);
            tokio::spawn(listener::run(front.clone(), socket, address, role));
        }
        Self {
            address: addresses[0],
            admin: addresses[1],
            data: fake,
            refusals,
            admission,
            directory,
            uplink,
            ca: made.cert.der().clone(),
            directory_path,
            http_socket,
            link_socket,
        }
    }

    /// A control plane that has been greeted.
    pub async fn control(&self) -> Control {
        let mut control = Control::connect(&self.link_socket).await;
        control.send(&ToEdge::Hello { version: VERSION }).await;
        assert!(matches!(
            control.next().await,
            FromEdge::Hello {
                version: VERSION,
                edge: 7,
                ..
            }
        ));
        until(|| {
            self.data
                .orders
                .lock()
                .unwrap()
                .iter()
                .any(|order| order == "LinkUp")
        })
        .await;
        control
    }

    /// Serves HTTP for the control plane: answers with what it was asked.
    pub fn echo_server(&self) {
        let listener = UnixListener::bind(&self.http_socket).unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = hyper::service::service_fn(echo);
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
    }

    pub fn client_config(&self) -> rustls::ClientConfig {
        self.trusting().with_no_client_auth()
    }

    /// Of a client that shows `chain` when it is asked for a certificate.
    pub fn client_config_with(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> rustls::ClientConfig {
        self.trusting().with_client_auth_cert(chain, key).unwrap()
    }

    fn trusting(
        &self,
    ) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.ca.clone()).unwrap();
        rustls::ClientConfig::builder().with_root_certificates(roots)
    }

    pub async fn tls(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        self.tls_with(address, self.client_config()).await.unwrap()
    }

    pub async fn tls_with(
        &self,
        address: SocketAddr,
        config: rustls::ClientConfig,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("gw.test").unwrap();
        soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }

    pub async fn ask(&self, request: &str) -> String {
        let mut stream = self.tls(self.address).await;
        say(&mut stream, request.as_bytes()).await;
        read_all(&mut stream).await
    }

    /// A client that has got the upgrade.
    pub async fn tunnel(&self) -> TlsStream<TcpStream> {
        let mut stream = self.tls(self.address).await;
        say(&mut stream, UPGRADE.as_bytes()).await;
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        stream
    }
}

/// As openconnect writes it: no `Connection` header.
pub const UPGRADE: &str = "GET /team HTTP/1.1\r\nHost: gw.test\r\nUser-Agent: Open AnyConnect VPN Agent v9.01-3\r\n\
    Cookie: DSID=0123\r\nContent-Type: EAP\r\nUpgrade: IF-T/TLS 1.0\r\nContent-Length: 0\r\n\r\n";

async fn echo(
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let collected = body.collect().await;
    let Ok(collected) = collected else {
        return Ok(hyper::Response::builder()
            .status(400)
            .body(Full::new(Bytes::new()))
            .unwrap());
    };
    let trailers = collected
        .trailers()
        .map(|trailers| trailers.len())
        .unwrap_or(0);
    let headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("?").to_owned()))
        .collect();
    let text = serde_json::json!({
        "method": head.method.to_string(), "target": head.uri.to_string(), "headers": headers,
        "trailers": trailers, "body": collected.to_bytes().len(),
    });
    Ok(hyper::Response::builder()
        .header("x-lockgate-inside", "1")
        .header("x-answer", "1")
        .body(Full::new(Bytes::from(text.to_string())))
        .unwrap())
}

/// The fake control plane's end of the link.
pub struct Control {
    pub stream: UnixStream,
}

impl Control {
    pub async fn connect(path: &std::path::Path) -> Self {
        Self {
            stream: soon(UnixStream::connect(path)).await.unwrap(),
        }
    }

    pub async fn send(&mut self, message: &ToEdge) {
        let record = codec::encode(message).unwrap();
        self.stream.write_all(&record).await.unwrap();
    }

    /// Sends a message with descriptors on its first byte.
    pub async fn send_with(&mut self, message: &ToEdge, descriptors: &[BorrowedFd<'_>]) {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        let record = codec::encode(message).unwrap();
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        self.stream.writable().await.unwrap();
        let sent = self.stream.try_io(Interest::WRITABLE, || {
            let slices = [IoSlice::new(&record)];
            Ok(sendmsg(
                &self.stream,
                &slices,
                &mut control,
                SendFlags::empty(),
            )?)
        });
        self.stream
            .write_all(&record[sent.unwrap()..])
            .await
            .unwrap();
    }

    /// The next message; `None` when the edge closed the link.
    pub async fn try_next(&mut self) -> Option<FromEdge> {
        soon(async {
            let mut word = [0; 4];
            self.stream.read_exact(&mut word).await.ok()?;
            let mut record = vec![0; u32::from_be_bytes(word) as usize];
            self.stream.read_exact(&mut record).await.ok()?;
            Some(codec::decode(&record).unwrap())
        })
        .await
    }

    pub async fn next(&mut self) -> FromEdge {
        self.try_next().await.expect("the link was closed")
    }

    pub async fn opened(&mut self) -> lockgate_dataplane::link::ConnOpened {
        match self.next().await {
            FromEdge::ConnOpened(opened) => *opened,
            other => panic!("{other:?}"),
        }
    }

    pub async fn closed(&mut self) -> (u64, String) {
        loop {
            match self.next().await {
                FromEdge::ConnClosed {
                    conn,
                    session: 0,
                    cause,
                } => return (conn, cause),
                FromEdge::Frame { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

pub fn frame(vendor: u32, kind: u32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let total = u32::try_from(if_t::HEADER + body.len()).unwrap();
    let mut wire = if_t::encode_header(vendor, kind, total, sequence).to_vec();
    wire.extend_from_slice(body);
    wire
}

/// Writes and flushes: without, tokio-rustls may keep the last bytes to itself. The other side may
/// close meanwhile; what it answers is what counts.
pub async fn say(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    soon(async {
        if stream.write_all(bytes).await.is_ok() {
            let _ = stream.flush().await;
        }
    })
    .await;
}

pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    soon(async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
    })
    .await;
    String::from_utf8(head).unwrap()
}

/// The plaintext of one TLS record: rustls keeps records apart until they are read.
pub async fn read_record(stream: &mut (impl AsyncBufRead + Unpin)) -> Vec<u8> {
    let record = soon(stream.fill_buf()).await.unwrap().to_vec();
    stream.consume(record.len());
    record
}

/// Everything until the other side closes, whether it says goodbye or not.
pub async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    soon(async {
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            text.extend_from_slice(&buffer[..count]);
        }
    })
    .await;
    String::from_utf8_lossy(&text).into_owned()
}

/// Splits a response into status line and JSON body of the echo server.
pub fn echoed(response: &str) -> serde_json::Value {
    let (head, body) = response
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{response:?}"));
    assert!(head.starts_with("HTTP/1.1 200"), "{response}");
    serde_json::from_str(body).unwrap()
}

/// A self-signed client certificate and its key.
pub fn client_identity() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["alice.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    (made.cert.der().clone(), key)
}

/// The fields of /proc/PID/status, of the process or of one of its threads.
pub fn status(path: &std::path::Path) -> std::collections::HashMap<String, String> {
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

pub fn assert_confined(fields: &std::collections::HashMap<String, String>) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(fields[set], "0000000000000000", "{set}");
    }
    assert_eq!(fields["NoNewPrivs"], "1");
    assert_eq!(fields["Seccomp"], "2");
}
