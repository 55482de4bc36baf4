//! A client edge with a fake service and a fake data thread around it, and gateways for it.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use lockgate_dataplane::link::{Dial, DialFailure, Dialed, FromEdge, ToEdge, VERSION};
use lockgate_edge::client::{Client, QUEUE_BYTES};
use lockgate_edge::conversation::Ties;
use lockgate_edge::front::refusal::Refusals;
use lockgate_edge::link::DataPort;
use lockgate_edge::link::directory::Directory;
use lockgate_edge::link::server::LinkServer;
use lockgate_edge::link::uplink::{self, Uplink};
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ResolvesServerCertUsingSni;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Control, FakeData, PATIENCE, soon, until};

pub struct ClientEdge {
    pub data: Arc<FakeData>,
    pub refusals: Arc<Refusals>,
    pub directory: Arc<Directory>,
    pub control: Control,
    _directory_path: tempfile::TempDir,
}

impl ClientEdge {
    /// With a service that has been greeted.
    pub async fn start() -> Self {
        Self::start_with(PATIENCE).await
    }

    pub async fn start_with(dial_time: Duration) -> Self {
        let data = Arc::new(FakeData::default());
        Self::start_on(dial_time, data.clone(), |_| data).await
    }

    /// With the data thread that `start` makes; `fake` sees nothing of it.
    pub async fn start_on(
        dial_time: Duration,
        fake: Arc<FakeData>,
        start: impl FnOnce(Uplink) -> Arc<dyn DataPort>,
    ) -> Self {
        let directory_path = tempfile::tempdir().unwrap();
        let link_socket = directory_path.path().join("link");
        let refusals = Arc::new(Refusals::default());
        let directory = Arc::new(Directory::new(QUEUE_BYTES, refusals.clone()));
        let (uplink, outgoing) = uplink::channel(refusals.clone());
        let data = start(uplink.clone());
        let ties = Ties {
            directory: directory.clone(),
            uplink,
            data: data.clone(),
            refusals: refusals.clone(),
        };
        let link = LinkServer {
            listener: UnixListener::bind(&link_socket).unwrap(),
            control_uid: rustix::process::getuid().as_raw(),
            edge: 7,
            directory: directory.clone(),
            data: data.clone(),
            client: Some(Arc::new(Client::new(ties, dial_time))),
            outgoing,
            refusals: refusals.clone(),
        };
        tokio::spawn(link.run());
        Self {
            control: greeted(&link_socket).await,
            data: fake,
            refusals,
            directory,
            _directory_path: directory_path,
        }
    }

    /// Dials over a new TCP connection.
    pub async fn dial(&mut self, address: SocketAddr, dial: Dial) {
        let socket = std::net::TcpStream::connect(address).unwrap();
        let message = ToEdge::Dial(Box::new(dial));
        self.control.send_with(&message, &[socket.as_fd()]).await;
    }

    pub async fn dialed(&mut self) -> Dialed {
        match self.answer().await {
            FromEdge::Dialed(dialed) => *dialed,
            other => panic!("{other:?}"),
        }
    }

    pub async fn failed(&mut self) -> Failed {
        failed(self.answer().await)
    }

    /// What becomes of a dial; earlier connections may end meanwhile.
    async fn answer(&mut self) -> FromEdge {
        loop {
            match self.control.next().await {
                FromEdge::ConnClosed { .. } => {}
                other => return other,
            }
        }
    }

    /// The link is closed for what was sent on it.
    pub async fn refused(mut self) {
        while let Some(message) = self.control.try_next().await {
            assert!(!matches!(message, FromEdge::Dialed(_)), "{message:?}");
        }
        until(|| self.directory.is_empty()).await;
    }

    pub fn orders(&self) -> Vec<String> {
        self.data.orders.lock().unwrap().clone()
    }
}

/// A service on the link at `path`.
pub async fn greeted(path: &Path) -> Control {
    let mut control = Control::connect(path).await;
    control.send(&ToEdge::Hello { version: VERSION }).await;
    assert!(matches!(control.next().await, FromEdge::Hello { .. }));
    control
}

/// A `dial_failed`.
#[derive(Debug)]
pub struct Failed {
    pub conn: u64,
    pub cause: DialFailure,
    pub detail: String,
    pub certificates: Vec<serde_bytes::ByteBuf>,
    pub pin: Vec<u8>,
}

pub fn failed(message: FromEdge) -> Failed {
    match message {
        FromEdge::DialFailed {
            conn,
            cause,
            detail,
            certificates,
            pin,
        } => Failed {
            conn,
            cause,
            detail,
            certificates,
            pin,
        },
        other => panic!("{other:?}"),
    }
}

/// A certificate authority.
pub struct Authority(Issuer<'static, KeyPair>, CertificateDer<'static>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self(Issuer::new(params, key), certificate)
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        &self.1
    }

    /// A certificate for `name`, with `change`.
    pub fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity::new(certificate.der().clone(), &key)
    }
}

/// What a gateway shows.
pub struct Identity {
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
    /// SHA-256 of the public key.
    pub pin: Vec<u8>,
}

impl Identity {
    fn new(certificate: CertificateDer<'static>, key: &KeyPair) -> Self {
        Self {
            certificate,
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            pin: digest(&SHA256, &key.subject_public_key_info())
                .as_ref()
                .to_vec(),
        }
    }

    pub fn self_signed(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        Self::new(made.cert.der().clone(), &made.signing_key)
    }

    pub fn config(&self) -> ServerConfig {
        ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .unwrap()
    }

    /// Shows the certificate and signs with the key of `other`.
    pub fn config_with_key_of(
        &self,
        other: &Self,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> ServerConfig {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = provider
            .key_provider
            .load_private_key(other.key.clone_key())
            .unwrap();
        #[derive(Debug)]
        struct Always(Arc<rustls::sign::CertifiedKey>);
        impl rustls::server::ResolvesServerCert for Always {
            fn resolve(
                &self,
                _: rustls::server::ClientHello<'_>,
            ) -> Option<Arc<rustls::sign::CertifiedKey>> {
                Some(self.0.clone())
            }
        }
        let key = rustls::sign::CertifiedKey::new(vec![self.certificate.clone()], key);
        ServerConfig::builder_with_protocol_versions(&[version])
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Always(Arc::new(key))))
    }
}

/// A gateway's TCP and TLS; the rest is the test's.
pub struct Gateway {
    pub address: SocketAddr,
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Gateway {
    pub async fn new(config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            listener,
            tls: TlsAcceptor::from(Arc::new(config)),
        }
    }

    /// Without any certificate: for tests that speak no TLS.
    pub async fn plain() -> Self {
        let resolver = Arc::new(ResolvesServerCertUsingSni::new());
        Self::new(
            ServerConfig::builder()
                .with_no_client_auth()
                .with_cert_resolver(resolver),
        )
        .await
    }

    pub async fn tcp(&self) -> TcpStream {
        soon(self.listener.accept()).await.unwrap().0
    }

    pub async fn tls(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = self.tcp().await;
        soon(self.tls.accept(stream)).await
    }
}

/// Trusts `roots` and `pin`, for `gw.test`.
pub fn dial(conn: u64, roots: &[&CertificateDer<'static>], pin: &[u8]) -> Dial {
    Dial {
        conn,
        server_name: "gw.test".to_owned(),
        roots: roots
            .iter()
            .map(|root| serde_bytes::ByteBuf::from(root.to_vec()))
            .collect(),
        pin: pin.to_vec(),
        host: "gw.test".to_owned(),
        path: "/team".to_owned(),
        user_agent: "Lockgate/1".to_owned(),
    }
}
