//! Random bytes at every step of the protocol; afterwards an honest client must still get in.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{Run, Turns, together};
use crate::conversation::{KIND_DATA, Step};
use crate::report::Tally;
use crate::session::{Session, StepError};
use crate::wire::{AUTH_TYPE, HEADER, VENDOR_A4C, VENDOR_TCG};

/// Most random bytes in one piece.
const MOST: u64 = 2048;
/// Default UDP port of ESP, for the datagrams sent without a sign-in.
const ESP_PORT: u16 = 4500;

/// Where the honest part ends.
const STEPS: [Step; 7] = [
    Step::Tls,
    Step::Upgrade,
    Step::Version,
    Step::Challenge,
    Step::Questions,
    Step::Configuration,
    Step::Tunnel,
];

/// How the random bytes are dressed once frames are spoken.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Nothing but random bytes.
    Raw,
    /// A frame of right length with a random type and content.
    Framed,
    /// An authentication or data frame with random content.
    Plausible,
    /// A header that declares far more than will come.
    Giant,
}

const SHAPES: [Shape; 4] = [Shape::Raw, Shape::Framed, Shape::Plausible, Shape::Giant];

/// A small repeatable generator (splitmix64): a finding can be sent again.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = 1 + self.word() % MOST;
        (0..length).map(|_| (self.word() >> 56) as u8).collect()
    }
}

pub async fn run(run: Arc<Run>, count: usize, seed: u64) -> Tally {
    let turns = Turns::new(count);
    let workers = run.parallel.min(count);
    let mut tally =
        together((0..workers).map(|_| worker(Arc::clone(&run), Arc::clone(&turns), seed))).await;
    if let Err(error) = datagrams(&run, seed).await {
        tally.failure(&StepError::new(Step::Tunnel, format!("udp: {error}")));
    }
    match run.target.open(0, &run.who(0), run.esp).await {
        Ok(session) => {
            tally.count("honest sign-in afterwards", 1);
            let _ = session.logout().await;
        }
        Err(error) => tally.failure(&StepError::new(
            error.step,
            format!("honest sign-in afterwards: {}", error.cause),
        )),
    }
    tally
}

async fn worker(run: Arc<Run>, turns: Arc<Turns>, seed: u64) -> Tally {
    let mut tally = Tally::default();
    while let Some(turn) = turns.take() {
        let mut random = Random(seed.wrapping_add((turn as u64) << 20));
        let step = STEPS.get(turn % STEPS.len()).copied().unwrap_or(Step::Tls);
        let shape = SHAPES
            .get(turn / STEPS.len() % SHAPES.len())
            .copied()
            .unwrap_or(Shape::Raw);
        match attempt(&run, turn, step, shape, &mut random).await {
            Ok(closed) => {
                tally.succeeded += 1;
                let outcome = if closed {
                    "closed by the gateway"
                } else {
                    "left open"
                };
                tally.count(format!("{}, {outcome}", step.name()), 1);
            }
            Err(error) => tally.failure(&error),
        }
    }
    tally
}

/// Goes honestly to `step`, sends garbage; true when the gateway closed the connection.
async fn attempt(
    run: &Run,
    turn: usize,
    step: Step,
    shape: Shape,
    random: &mut Random,
) -> Result<bool, StepError> {
    let target = &run.target;
    // Enough to see a close that follows the garbage; waiting for the gateway's own time-outs is
    // what `flood` is for.
    let patience = Duration::from_millis(500);
    if step <= Step::Upgrade {
        let mut tcp = target.tcp(turn).await?;
        if step == Step::Tls {
            let _ = tcp.write_all(&random.bytes()).await;
            return Ok(timeout(patience, closed(&mut tcp)).await.is_ok());
        }
        let mut stream = target.tls(tcp).await?;
        let _ = stream.write_all(&random.bytes()).await;
        let _ = stream.flush().await;
        return Ok(timeout(patience, closed(&mut stream)).await.is_ok());
    }
    let mut session = target.begin(turn, &run.who(turn), false).await?;
    target.advance(&mut session, step).await?;
    let bytes = dress(shape, step, &mut session, random);
    // A gateway that has closed already is an outcome, not a failure.
    let _ = session.flush().await;
    let _ = session.write_raw(&bytes).await;
    let outcome = timeout(patience, async {
        while session.hear().await.is_ok() {
            if session.take_event().await.is_err() {
                break;
            }
        }
    });
    let gone = outcome.await.is_ok();
    if !gone && step == Step::Tunnel {
        let _ = session.logout().await;
    }
    Ok(gone)
}

/// Queues honest framing where the shape wants it; returns what is sent as it is.
fn dress(shape: Shape, step: Step, session: &mut Session, random: &mut Random) -> Vec<u8> {
    let bytes = random.bytes();
    match shape {
        Shape::Raw => bytes,
        Shape::Framed => {
            let vendor = if random.word().is_multiple_of(2) {
                VENDOR_TCG
            } else {
                VENDOR_A4C
            };
            session
                .talk
                .send(vendor, (random.word() % 0x100) as u32, &bytes);
            Vec::new()
        }
        Shape::Plausible => {
            if step >= Step::Configuration {
                session.talk.send(VENDOR_A4C, KIND_DATA, &bytes);
            } else {
                session
                    .talk
                    .send(VENDOR_TCG, 6, &[&AUTH_TYPE, bytes.as_slice()].concat());
            }
            Vec::new()
        }
        Shape::Giant => {
            let mut header = Vec::with_capacity(HEADER);
            for word in [VENDOR_A4C, KIND_DATA, 0x7fff_ffff, 0] {
                header.extend_from_slice(&word.to_be_bytes());
            }
            header
        }
    }
}

async fn closed(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut bytes = [0; 256];
    while matches!(stream.read(&mut bytes).await, Ok(1..)) {}
}

/// Random datagrams to the ESP port; none may be answered.
async fn datagrams(run: &Run, seed: u64) -> std::io::Result<()> {
    let mut random = Random(seed ^ 0xe5);
    let any: std::net::SocketAddr = if run.target.address.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect((run.target.address.ip(), ESP_PORT)).await?;
    for _ in 0..256 {
        // A closed port answers with ICMP, which surfaces here: nothing to do about it.
        let _ = socket.send(&random.bytes()).await;
    }
    let mut answer = [0; 64];
    match timeout(Duration::from_millis(200), socket.recv(&mut answer)).await {
        Ok(Ok(_)) => Err(std::io::Error::other("a random datagram was answered")),
        _ => Ok(()),
    }
}
