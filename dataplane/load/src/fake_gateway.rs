//! A gateway for tests: enough of the server side for the commands to run against, on loopback.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use lockgate_dataplane::esp::{self, OpenKey, SealKey};
use lockgate_dataplane::link::{Sa, Secret as LinkSecret, Suite};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use crate::commands::Run;
use crate::conversation::Secret;
use crate::session::Target;
use crate::settings::tests::{keys_body, main_body};
use crate::settings::{Keys, SECRET};
use crate::trust;
use crate::wire::{
    AUTH_TYPE, AVP_COOKIE, AVP_EAP, EAP_REQUEST, FrameReader, FrameWriter, SUB_AVPS, SUB_PASSWORD,
    VENDOR_A4C, VENDOR_TCG, eap_expanded, push_avp,
};

pub const PASSWORD: &str = "right";
const SUITE: Suite = Suite::Aes256CbcSha256;

/// What the gateway saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub sign_ins: usize,
    pub resumptions: usize,
    pub logouts: usize,
    pub cookies: BTreeSet<String>,
}

#[derive(Debug)]
pub struct FakeGateway {
    pub address: SocketAddr,
    pin: String,
    pub seen: Arc<Mutex<Seen>>,
}

impl FakeGateway {
    /// Listens on a free port of 127.0.0.1; ESP on a free UDP port of its own per connection.
    pub async fn start() -> FakeGateway {
        let made = rcgen::generate_simple_self_signed(vec!["gw.test".to_owned()]).unwrap();
        let key = made.signing_key.serialize_der();
        let pin = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &spki(&made.signing_key));
        let config = ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            PrivateKeyDer::try_from(key).unwrap(),
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), tcp, Arc::clone(&shared)));
            }
        });
        FakeGateway {
            address,
            pin: format!("pin-sha256:{}", STANDARD.encode(pin.as_ref())),
            seen,
        }
    }

    /// A run of four workers against this gateway.
    pub fn run(&self, password: &str, esp: bool) -> Arc<Run> {
        Arc::new(Run {
            target: Target {
                address: self.address,
                name: ServerName::try_from("gw.test").unwrap(),
                tls: Arc::new(trust::by_pin(&self.pin).unwrap()),
                sources: vec!["127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap()],
                patience: Duration::from_secs(5),
            },
            user_template: "u{}".to_owned(),
            users: 10,
            password: Secret(Zeroizing::new(password.to_owned())),
            parallel: 4,
            esp,
        })
    }
}

fn spki(key: &rcgen::KeyPair) -> Vec<u8> {
    use rcgen::PublicKeyData;
    key.subject_public_key_info()
}

fn request(id: u8, code: u32, data: &[u8]) -> Vec<u8> {
    let mut avps = Vec::new();
    push_avp(&mut avps, code, data);
    [
        &AUTH_TYPE,
        eap_expanded(EAP_REQUEST, id, SUB_AVPS, &avps).as_slice(),
    ]
    .concat()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|part| part == needle)
}

/// One connection, from TLS to the close. Ends by returning `None` when the client breaks off.
async fn serve(acceptor: TlsAcceptor, tcp: TcpStream, seen: Arc<Mutex<Seen>>) -> Option<()> {
    let mut stream = acceptor.accept(tcp).await.ok()?;
    let mut head = Vec::new();
    while !contains(&head, b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    if !contains(&head, b"Upgrade: IF-T/TLS 1.0\r\n") {
        return None;
    }
    stream
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: IF-T/TLS 1.0\r\n\r\n")
        .await
        .ok()?;
    let (mut reader, mut writer) = (FrameReader::default(), FrameWriter::default());
    let (keys_out, keys_in) = mpsc::channel(1);
    let mut keys_in = Some(keys_in);
    let mut gateways = Keys {
        spi: 0x0102_0304,
        secret: [0; SECRET],
    };
    aws_lc_rs::rand::fill(&mut gateways.secret).unwrap();
    let mut identified = false;
    loop {
        let frame = loop {
            if let Some(frame) = reader.next_frame().ok()? {
                break frame;
            }
            let mut part = Vec::with_capacity(4096);
            if stream.read_buf(&mut part).await.ok()? == 0 {
                return None;
            }
            reader.feed(&part);
        };
        let mut out: Vec<(u32, u32, Vec<u8>)> = Vec::new();
        match (frame.vendor, frame.kind) {
            (VENDOR_TCG, 1) => out.push((VENDOR_TCG, 2, vec![0, 0, 0, 2])),
            (VENDOR_A4C, 0x88) => out.push((VENDOR_TCG, 5, AUTH_TYPE.to_vec())),
            (VENDOR_TCG, 6) if !identified => {
                identified = true;
                out.push((VENDOR_TCG, 5, request(2, 0xd49, &[0, 0, 0, 4])));
            }
            (VENDOR_TCG, 6) if contains(&frame.body, b"\0\0\x0d\x70") => {
                // The agent, and perhaps a cookie: its 32 digits follow the AVP's 12-byte header.
                let at = frame
                    .body
                    .windows(4)
                    .position(|word| word == b"\0\0\x0d\x53");
                let cookie = at
                    .map(|at| String::from_utf8_lossy(&frame.body[at + 12..at + 44]).into_owned());
                let known = cookie.filter(|cookie| seen.lock().unwrap().cookies.contains(cookie));
                let question = eap_expanded(EAP_REQUEST, 1, SUB_PASSWORD, &[1]);
                let body = match known {
                    Some(cookie) => {
                        seen.lock().unwrap().resumptions += 1;
                        request(3, AVP_COOKIE, cookie.as_bytes())
                    }
                    None => request(3, AVP_EAP, &question),
                };
                out.push((VENDOR_TCG, 5, body));
            }
            (VENDOR_TCG, 6) if contains(&frame.body, b"\0\0\x0d\x6d") => {
                if contains(&frame.body, PASSWORD.as_bytes()) {
                    let mut seen = seen.lock().unwrap();
                    seen.sign_ins += 1;
                    let cookie = format!("{:032x}", seen.sign_ins);
                    out.push((VENDOR_TCG, 5, request(4, AVP_COOKIE, cookie.as_bytes())));
                    seen.cookies.insert(cookie);
                } else {
                    let again = eap_expanded(EAP_REQUEST, 2, SUB_PASSWORD, &[0x81]);
                    out.push((VENDOR_TCG, 5, request(4, AVP_EAP, &again)));
                }
            }
            (VENDOR_TCG, 6) => {
                let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                let port = udp.local_addr().unwrap().port().to_be_bytes();
                tokio::spawn(answer_esp(udp, gateways.clone(), keys_in.take()?));
                let attributes: [(u16, &[u8]); 6] = [
                    (1, &[10, 88, 0, 1]),
                    (0x4005, &[0, 0, 5, 0x78]),
                    (0x4010, &[0, 5]),
                    (0x4011, &[0, 3]),
                    (0x4016, &port),
                    (0x4017, &[0, 0, 0, 1]),
                ];
                out.push((VENDOR_TCG, 7, [&AUTH_TYPE, &[3u8, 4, 0, 4][..]].concat()));
                out.push((VENDOR_A4C, 1, main_body(&attributes)));
                out.push((VENDOR_A4C, 1, keys_body(&gateways)));
                out.push((VENDOR_A4C, 0x8f, vec![0; 4]));
            }
            (VENDOR_A4C, 1) => {
                let body = &frame.body;
                let spi = u32::from_le_bytes(body[0x24..0x28].try_into().unwrap());
                keys_out
                    .send(Keys {
                        spi,
                        secret: body[0x2a..0x6a].try_into().unwrap(),
                    })
                    .await
                    .ok()?;
                out.push((VENDOR_A4C, 0x96, b"maxUsers=2\n\0".to_vec()));
            }
            (VENDOR_A4C, 5) => {}
            // Data comes back as it is, with an echo request turned into its reply.
            (VENDOR_A4C, 4) => out.push((VENDOR_A4C, 4, replied(&frame.body))),
            (VENDOR_A4C, 0x89) => {
                seen.lock().unwrap().logouts += 1;
                return Some(());
            }
            _ => return None,
        }
        for (vendor, kind, body) in out {
            stream
                .write_all(&writer.encode(vendor, kind, &body))
                .await
                .ok()?;
        }
        stream.flush().await.ok()?;
    }
}

fn replied(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if let Some(kind) = packet.get_mut(20) {
        *kind = 0;
    }
    packet
}

/// Answers probes and echoes, as a gateway does: only authentic packets, and each only once.
async fn answer_esp(udp: UdpSocket, gateways: Keys, mut keys: mpsc::Receiver<Keys>) -> Option<()> {
    let client = keys.recv().await?;
    let sa = |keys: &Keys| Sa {
        spi: keys.spi,
        suite: SUITE,
        esn: false,
        secret: LinkSecret(keys.secret.to_vec()),
    };
    let mut open = OpenKey::new(&sa(&gateways)).ok()?;
    let mut seal = SealKey::new(&sa(&client), [3; 32]).ok()?;
    let mut datagram = vec![0; 2048];
    loop {
        let (length, from) = udp.recv_from(&mut datagram).await.ok()?;
        let Ok(opened) = open.open(&mut datagram[..length]) else {
            continue;
        };
        let payload = &datagram[opened.range];
        let payload = if payload == esp::PROBE {
            payload.to_vec()
        } else {
            replied(payload)
        };
        let mut answer = vec![0; seal.sealed_len(payload.len())];
        let start = seal.headroom();
        answer[start..start + payload.len()].copy_from_slice(&payload);
        let sealed = seal.seal(&mut answer, payload.len(), esp::IPV4).ok()?;
        udp.send_to(&answer[..sealed], from).await.ok()?;
    }
}

mod tests {
    use super::*;
    use crate::args::Depth;
    use crate::args::Pings;
    use crate::commands::{flood, garbage, hold, replay, resume, signin};
    use crate::report::Tally;

    fn clean(tally: &Tally) {
        assert!(
            tally.errors.is_empty() && tally.failed == 0,
            "{:?}",
            tally.errors
        );
    }

    #[tokio::test]
    async fn sign_ins_are_counted_and_logged_out() {
        let gateway = FakeGateway::start().await;
        let tally = signin::run(gateway.run(PASSWORD, false), 20).await;
        clean(&tally);
        assert_eq!(
            (tally.succeeded, tally.latency["tunnel up"].len()),
            (20, 20)
        );
        assert_eq!(gateway.seen.lock().unwrap().sign_ins, 20);
    }

    #[tokio::test]
    async fn a_wrong_password_is_an_error_that_names_the_step() {
        let gateway = FakeGateway::start().await;
        let tally = signin::run(gateway.run("wrong", false), 3).await;
        assert_eq!(
            tally.errors["sign-in questions: wrong user name or password"],
            3
        );
    }

    #[tokio::test]
    async fn resumptions_use_the_cookie_and_no_password() {
        let gateway = FakeGateway::start().await;
        let (tally, _) = resume::run(gateway.run(PASSWORD, true), 30).await;
        clean(&tally);
        assert_eq!(tally.succeeded, 30);
        let seen = gateway.seen.lock().unwrap();
        assert_eq!((seen.sign_ins, seen.resumptions), (4, 30));
    }

    #[tokio::test]
    async fn held_sessions_bring_esp_up_and_echo() {
        let gateway = FakeGateway::start().await;
        for esp in [false, true] {
            let run = gateway.run(PASSWORD, esp);
            let held = std::sync::Mutex::new((0, 0));
            let pings = Some(Pings {
                to: "10.77.0.1".parse().unwrap(),
                every: Duration::from_millis(300),
                quiet: Some(Duration::from_secs(30)),
            });
            let time = Duration::from_millis(1500);
            let tally = hold::run(
                run,
                6,
                time,
                pings,
                |up, over| *held.lock().unwrap() = (up, over),
                |line| assert_eq!(line, "", "nobody was quiet"),
            )
            .await
            .unwrap();
            clean(&tally);
            assert_eq!(*held.lock().unwrap(), (6, if esp { 6 } else { 0 }));
            assert_eq!(tally.counts["kept to the end"], 6);
            assert!(tally.counts["echoes sent"] >= 6);
            assert_eq!(tally.counts["echoes sent"], tally.counts["echoes answered"]);
            assert_eq!(
                tally
                    .counts
                    .get("packets over esp")
                    .is_some_and(|count| *count > 0),
                esp
            );
        }
    }

    #[tokio::test]
    async fn a_gateway_that_goes_away_is_noticed() {
        let gateway = FakeGateway::start().await;
        let tally = flood::run(
            gateway.run("", false),
            20,
            Duration::from_millis(50),
            Depth::Upgrade,
            |_| {},
        )
        .await;
        clean(&tally);
        assert_eq!(tally.counts["open to the end"], 20);
        let nobody = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let gone = FakeGateway {
            address: nobody,
            pin: gateway.pin.clone(),
            seen: Arc::default(),
        };
        let tally = signin::run(gone.run(PASSWORD, false), 2).await;
        assert_eq!(tally.failed, 2);
        assert!(
            tally
                .errors
                .keys()
                .all(|cause| cause.starts_with("tcp connect: ")),
            "{:?}",
            tally.errors
        );
    }

    #[tokio::test]
    async fn garbage_reaches_every_step_and_ends_with_an_honest_sign_in() {
        let gateway = FakeGateway::start().await;
        let tally = garbage::run(gateway.run(PASSWORD, false), 28, 7).await;
        clean(&tally);
        assert_eq!(
            (tally.succeeded, tally.counts["honest sign-in afterwards"]),
            (28, 1)
        );
        assert!(tally.counts.keys().any(|name| name.starts_with("tunnel, ")));
    }

    #[tokio::test]
    async fn copies_of_a_packet_are_not_answered() {
        let gateway = FakeGateway::start().await;
        let tally = replay::run(gateway.run(PASSWORD, true), 50).await;
        clean(&tally);
        assert_eq!(
            (tally.counts["copies sent"], tally.counts["copies answered"]),
            (50, 0)
        );
    }

    #[tokio::test]
    async fn another_key_is_refused_by_the_pin() {
        let (gateway, other) = (FakeGateway::start().await, FakeGateway::start().await);
        let mixed = FakeGateway {
            address: gateway.address,
            pin: other.pin,
            seen: Arc::default(),
        };
        let tally = signin::run(mixed.run(PASSWORD, false), 1).await;
        assert!(
            tally
                .errors
                .keys()
                .all(|cause| cause.starts_with("tls handshake: ")),
            "{:?}",
            tally.errors
        );
        assert_eq!(tally.failed, 1);
    }
}
