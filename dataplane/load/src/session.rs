//! One client: TCP, TLS, HTTP upgrade, sign-in, and the tunnel after it. The thin shell around
//! [`Conversation`].

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::conversation::{Conversation, Event, Failure, Login, Secret, Step};
use crate::esp_path::{EspPath, Heard, make_keys};
use crate::settings::{Keys, Settings};
use crate::wire::FrameReader;

/// Largest HTTP head taken from the gateway.
const MAX_HEAD: usize = 8192;
/// Bytes read from TLS at once.
const READ: usize = 2048;

/// The gateway and how to reach it.
#[derive(Debug)]
pub struct Target {
    pub address: SocketAddr,
    /// Name in the certificate, in SNI and in the Host header.
    pub name: ServerName<'static>,
    pub tls: Arc<ClientConfig>,
    /// Local addresses to bind, in turn; empty leaves the choice to the system.
    pub sources: Vec<IpAddr>,
    /// Longest wait of one step.
    pub patience: Duration,
}

/// Where a connection failed and why.
#[derive(Debug)]
pub struct StepError {
    pub step: Step,
    pub cause: String,
}

impl StepError {
    pub fn new(step: Step, cause: impl fmt::Display) -> StepError {
        StepError {
            step,
            cause: cause.to_string(),
        }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step.name(), self.cause)
    }
}

impl Target {
    fn local(&self, index: usize) -> SocketAddr {
        let unspecified = if self.address.is_ipv4() {
            IpAddr::from([0; 4])
        } else {
            IpAddr::from([0; 16])
        };
        let turn = index
            .checked_rem(self.sources.len())
            .and_then(|turn| self.sources.get(turn));
        SocketAddr::new(turn.copied().unwrap_or(unspecified), 0)
    }

    async fn within<T>(
        &self,
        step: Step,
        work: impl Future<Output = io::Result<T>>,
    ) -> Result<T, StepError> {
        match timeout(self.patience, work).await {
            Ok(done) => done.map_err(|error| StepError::new(step, error)),
            Err(_) => Err(StepError::new(
                step,
                format!("nothing within {} s", self.patience.as_secs()),
            )),
        }
    }

    /// Opens TCP from the source address whose turn `index` is.
    pub async fn tcp(&self, index: usize) -> Result<TcpStream, StepError> {
        let connect = async {
            let socket = if self.address.is_ipv4() {
                TcpSocket::new_v4()
            } else {
                TcpSocket::new_v6()
            }?;
            socket.set_nodelay(true)?;
            if !self.sources.is_empty() {
                socket.bind(self.local(index))?;
            }
            socket.connect(self.address).await
        };
        self.within(Step::Connect, connect).await
    }

    pub async fn tls(&self, tcp: TcpStream) -> Result<TlsStream<TcpStream>, StepError> {
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        self.within(Step::Tls, connector.connect(self.name.clone(), tcp))
            .await
    }

    /// Asks for IF-T; returns what the gateway sent after its answer.
    pub async fn upgrade(
        &self,
        stream: &mut TlsStream<TcpStream>,
        cookie: Option<&Secret>,
    ) -> Result<Vec<u8>, StepError> {
        let host = self.name.to_str();
        let mut head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Lockgate-load\r\n");
        if let Some(cookie) = cookie {
            head += &format!("Cookie: DSID={}\r\n", cookie.0.as_str());
        }
        head += "Content-Type: EAP\r\nUpgrade: IF-T/TLS 1.0\r\nContent-Length: 0\r\n\r\n";
        let exchange = async {
            stream.write_all(head.as_bytes()).await?;
            stream.flush().await?;
            let mut answer = Vec::new();
            loop {
                if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                    let leftover = answer.split_off(end + 4);
                    return Ok((answer, leftover));
                }
                if answer.len() > MAX_HEAD {
                    return Err(io::Error::other("HTTP answer too long"));
                }
                if stream.read_buf(&mut answer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        };
        let (answer, leftover) = self.within(Step::Upgrade, exchange).await?;
        if answer.starts_with(b"HTTP/1.1 101 ") {
            return Ok(leftover);
        }
        let line = answer
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        Err(StepError::new(
            Step::Upgrade,
            format!("answered {}", String::from_utf8_lossy(line)),
        ))
    }

    /// Connects as far as the IF-T upgrade; the conversation has not begun.
    ///
    /// esp: answer the gateway's ESP keys and open the UDP path; else behave as with ESP disabled.
    pub async fn begin(&self, index: usize, who: &Who, esp: bool) -> Result<Session, StepError> {
        let started = Instant::now();
        let tcp = self.tcp(index).await?;
        let local = tcp
            .local_addr()
            .map_err(|error| StepError::new(Step::Connect, error))?;
        let mut stream = self.tls(tcp).await?;
        let secured = started.elapsed();
        let leftover = self.upgrade(&mut stream, who.cookie.as_ref()).await?;
        let mut reader = FrameReader::default();
        reader.feed(&leftover);
        let login = Login {
            user: who.user.clone(),
            password: who.password.clone(),
            cookie: who.cookie.clone(),
            address: local.ip().to_string(),
        };
        Ok(Session {
            stream,
            reader,
            talk: Conversation::new(login),
            local: local.ip(),
            gateway: self.address,
            settings: Settings::default(),
            cookie: None,
            esp_wanted: esp,
            esp: None,
            started,
            timing: Timing {
                secured,
                signed_in: secured,
                up: secured,
            },
        })
    }

    /// Carries the conversation on until it stands at `goal`.
    pub async fn advance(&self, session: &mut Session, goal: Step) -> Result<(), StepError> {
        while session.talk.step() < goal {
            let step = session.talk.step();
            let Ok(event) = timeout(self.patience, session.next_event(goal)).await else {
                return Err(StepError::new(
                    step,
                    format!("nothing within {} s", self.patience.as_secs()),
                ));
            };
            match event? {
                Some(Event::SignedIn(cookie)) => {
                    session.cookie = Some(cookie);
                    session.timing.signed_in = session.started.elapsed();
                }
                Some(Event::Configured(settings)) => session.settings = settings,
                Some(Event::Up) => session.timing.up = session.started.elapsed(),
                None | Some(Event::EspKeys(_) | Event::Packet(_) | Event::ProbeNow) => {}
            }
        }
        Ok(())
    }

    /// Signs in, or resumes by cookie, up to the end of the configuration.
    pub async fn open(&self, index: usize, who: &Who, esp: bool) -> Result<Session, StepError> {
        let mut session = self.begin(index, who, esp).await?;
        self.advance(&mut session, Step::Tunnel).await?;
        Ok(session)
    }
}

/// One user's way in.
#[derive(Debug)]
pub struct Who {
    pub user: String,
    pub password: Secret,
    pub cookie: Option<Secret>,
}

/// Since the start of the TCP connection.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub secured: Duration,
    pub signed_in: Duration,
    pub up: Duration,
}

/// A tunnel that is up.
#[derive(Debug)]
pub struct Session {
    stream: TlsStream<TcpStream>,
    reader: FrameReader,
    pub talk: Conversation,
    local: IpAddr,
    gateway: SocketAddr,
    pub settings: Settings,
    pub cookie: Option<Secret>,
    esp_wanted: bool,
    pub esp: Option<EspPath>,
    started: Instant,
    pub timing: Timing,
}

impl Session {
    /// The next event from what was read, or `None` when more is needed. ESP keys are answered (or,
    /// as a client without ESP does, left unanswered) before they are returned, and everything
    /// queued is written.
    pub async fn take_event(&mut self) -> Result<Option<Event>, StepError> {
        let mut event = None;
        while event.is_none() {
            let step = self.talk.step();
            let failed = |cause: &dyn fmt::Display| StepError::new(step, cause);
            let Some(frame) = self.reader.next_frame().map_err(|bad| failed(&bad.0))? else {
                break;
            };
            event = self
                .talk
                .receive(&frame)
                .map_err(|Failure(text)| failed(&text))?;
            if let Some(Event::EspKeys(gateways)) = &event {
                self.answer_keys(gateways)
                    .await
                    .map_err(|error| failed(&error))?;
            }
        }
        let written = self.flush().await;
        written.map_err(|error| StepError::new(self.talk.step(), error))?;
        Ok(event)
    }

    /// Waits for bytes on TLS, to be taken by [`Session::take_event`] (`None`), or for an ESP
    /// datagram. Cancel-safe.
    pub async fn hear(&mut self) -> Result<Option<Heard>, StepError> {
        let step = self.talk.step();
        let mut part = Vec::with_capacity(READ);
        let esp = async {
            match &mut self.esp {
                Some(path) => path.receive().await,
                None => std::future::pending().await,
            }
        };
        let read = tokio::select! {
            read = self.stream.read_buf(&mut part) => read,
            heard = esp => return heard.map(Some).map_err(|error| StepError::new(step, format!("ESP: {error}"))),
        };
        match read {
            Ok(0) => Err(StepError::new(step, "closed by the gateway")),
            Ok(_) => {
                self.reader.feed(&part);
                Ok(None)
            }
            Err(error) => Err(StepError::new(step, error)),
        }
    }

    /// The next event, or `None` as soon as the conversation stands at `goal`.
    async fn next_event(&mut self, goal: Step) -> Result<Option<Event>, StepError> {
        loop {
            let event = self.take_event().await?;
            if event.is_some() || self.talk.step() >= goal {
                return Ok(event);
            }
            self.hear().await?;
        }
    }

    async fn answer_keys(&mut self, gateways: &Keys) -> io::Result<()> {
        let Some(offer) = self.settings.esp.filter(|_| self.esp_wanted) else {
            return Ok(());
        };
        let ours = make_keys()?;
        match &mut self.esp {
            Some(path) => path.rekey(offer.suite, &ours, gateways)?,
            None => {
                let local = SocketAddr::new(self.local, 0);
                let remote = SocketAddr::new(self.gateway.ip(), offer.port);
                self.esp = Some(EspPath::new(local, remote, offer.suite, &ours, gateways).await?);
            }
        }
        self.talk.answer_keys(&ours, gateways);
        Ok(())
    }

    /// Writes queued frames, each in a TLS record of its own.
    pub async fn flush(&mut self) -> io::Result<()> {
        let frames = self.talk.take_output();
        if frames.is_empty() {
            return Ok(());
        }
        for frame in &frames {
            self.stream.write_all(frame).await?;
        }
        self.stream.flush().await
    }

    /// Writes bytes that are no frame.
    pub async fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Ends the session at the gateway and closes.
    pub async fn logout(mut self) -> io::Result<()> {
        self.talk.logout();
        self.flush().await?;
        self.stream.shutdown().await
    }

    /// Closes TCP without logout: the session can be resumed by its cookie.
    pub async fn abandon(mut self) {
        // The gateway may have closed already; either way nothing is left open here.
        let _ = self.stream.shutdown().await;
    }
}
