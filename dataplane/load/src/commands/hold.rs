//! Many sessions that stay: idle, or with an echo now and then.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Run, Turns, together};
use crate::args::Pings;
use crate::conversation::{Event, Step};
use crate::echo::{is_reply, request};
use crate::esp_path::Heard;
use crate::report::Tally;
use crate::session::{Session, StepError};
use crate::silence::{self, Silence, Word};

/// Time between two looks at whether a session has become quiet.
const LOOK: Duration = Duration::from_millis(20);
/// How long the keepers wait at the end for the last echo replies.
const LAST_REPLIES: Duration = Duration::from_millis(500);

/// Shared with every session's keeper.
#[derive(Debug)]
struct Hold {
    pings: Option<Pings>,
    /// Takes the lines about sessions that became quiet.
    tell: fn(&str),
    /// True from the moment everything is to be closed.
    stop: watch::Receiver<bool>,
    /// Sessions whose ESP has been answered.
    esp_up: AtomicU64,
}

/// Opens the sessions, calls `holding` with how many are up (and of these over ESP), keeps them.
pub async fn run(
    run: Arc<Run>,
    sessions: usize,
    time: Duration,
    pings: Option<Pings>,
    holding: impl Fn(usize, u64),
    tell: fn(&str),
) -> std::io::Result<Tally> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);
    let hold = Arc::new(Hold {
        pings,
        tell,
        stop: stopped,
        esp_up: AtomicU64::new(0),
    });
    let mut keepers = JoinSet::new();
    let started = Instant::now();
    let mut tally = Tally::default();
    let work = async {
        let opened = open_all(&run, sessions, &mut keepers, &hold).await;
        let up = opened.succeeded;
        if run.esp {
            let deadline = Instant::now() + run.target.patience;
            while hold.esp_up.load(Ordering::Relaxed) < up as u64 && Instant::now() < deadline {
                sleep(Duration::from_millis(50)).await;
            }
        }
        tally = opened;
        tally.took("all up", started.elapsed());
        holding(up, hold.esp_up.load(Ordering::Relaxed));
        if up > 0 {
            sleep(time).await;
        }
    };
    tokio::select! {
        () = work => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = stop.send(true);
    let mut kept = Tally::default();
    while let Some(done) = keepers.join_next().await {
        match done {
            Ok(part) => kept.merge(part),
            Err(error) => *kept.errors.entry(format!("keeper: {error}")).or_default() += 1,
        }
    }
    tally.count("kept to the end", kept.succeeded as u64);
    tally.count("lost", kept.failed as u64);
    if run.esp {
        tally.count("esp established", hold.esp_up.load(Ordering::Relaxed));
    }
    kept.succeeded = 0;
    tally.merge(kept);
    Ok(tally)
}

/// Opens sessions side by side; each gets its keeper as soon as it is up.
async fn open_all(
    run: &Arc<Run>,
    sessions: usize,
    keepers: &mut JoinSet<Tally>,
    hold: &Arc<Hold>,
) -> Tally {
    let turns = Turns::new(sessions);
    let (up, mut arrivals) = tokio::sync::mpsc::channel(run.parallel);
    let openers = (0..run.parallel.min(sessions)).map(|_| {
        let (run, turns, up) = (Arc::clone(run), Arc::clone(&turns), up.clone());
        async move {
            let mut tally = Tally::default();
            while let Some(turn) = turns.take() {
                match run.target.open(turn, &run.who(turn), run.esp).await {
                    Ok(session) => {
                        tally.succeeded += 1;
                        tally.took("tunnel up", session.timing.up);
                        if up.send((turn, session)).await.is_err() {
                            break;
                        }
                    }
                    Err(error) => tally.failure(&error),
                }
            }
            tally
        }
    });
    let opening = tokio::spawn(together(openers.collect::<Vec<_>>().into_iter()));
    drop(up);
    while let Some((turn, session)) = arrivals.recv().await {
        keepers.spawn(keep(Arc::clone(hold), turn, session));
    }
    opening.await.unwrap_or_default()
}

/// Keeps one session until the end. Succeeds when the gateway never closed it.
async fn keep(hold: Arc<Hold>, turn: usize, mut session: Session) -> Tally {
    let mut tally = Tally::default();
    let mut echoes = Echoes {
        sent: BTreeMap::new(),
        silence: hold.pings.and_then(|pings| pings.quiet).map(Silence::new),
    };
    let lost = serve(&hold, turn, &mut session, &mut echoes, &mut tally).await;
    if hold.pings.is_some() {
        tally.count("echoes sent", echoes.sent.len() as u64);
        tally.count(
            "echoes answered",
            echoes.sent.values().filter(|answered| **answered).count() as u64,
        );
    }
    if lost.is_err() {
        hold.say(turn, echoes.silence.as_mut().and_then(Silence::end));
    }
    match lost {
        Err(error) => tally.failure(&error),
        Ok(()) => {
            tally.succeeded += 1;
            // The gateway may be gone by now; the session then ends by its own time-out.
            let _ = session.logout().await;
        }
    }
    tally
}

/// The echoes of one session.
#[derive(Debug)]
struct Echoes {
    /// By sequence number, whether it has been answered.
    sent: BTreeMap<u16, bool>,
    silence: Option<Silence>,
}

impl Hold {
    fn say(&self, turn: usize, word: Option<Word>) {
        if let Some(word) = word {
            (self.tell)(&word.line(turn));
        }
    }
}

/// Answers what the gateway asks, probes ESP and sends echoes until told to stop.
async fn serve(
    hold: &Hold,
    turn: usize,
    session: &mut Session,
    echoes: &mut Echoes,
    tally: &mut Tally,
) -> Result<(), StepError> {
    let ident = u16::try_from(turn & 0xffff).unwrap_or_default();
    let fallback = Duration::from_secs(
        session
            .settings
            .esp
            .map_or(60, |offer| offer.fallback.into()),
    );
    let mut stop = hold.stop.clone();
    let mut echo = interval(hold.pings.map_or(Duration::MAX, |pings| pings.every));
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut dpd = interval(fallback);
    echo.set_missed_tick_behavior(MissedTickBehavior::Skip);
    dpd.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut esp_up, mut quiet, mut sequence, mut stopping) = (false, true, 0u16, false);
    let mut end = Box::pin(sleep(Duration::MAX));
    loop {
        let failed = |error: std::io::Error| StepError::new(Step::Tunnel, error);
        tokio::select! {
            () = stopped(&mut stop), if !stopping => {
                stopping = true;
                let wait = if hold.pings.is_some() { LAST_REPLIES } else { Duration::ZERO };
                end.as_mut().reset(tokio::time::Instant::now() + wait);
            }
            () = &mut end, if stopping => return Ok(()),
            _ = dpd.tick(), if session.esp.is_some() => {
                if quiet && let Some(esp) = &mut session.esp {
                    esp.probe().await.map_err(failed)?;
                    if !esp_up {
                        esp.probe().await.map_err(failed)?;
                    }
                }
                quiet = true;
            }
            _ = echo.tick(), if hold.pings.is_some() && !stopping => {
                let source4 = session.settings.address4.map(IpAddr::from);
                let source6 = session.settings.address6.map(IpAddr::from);
                let packet = hold.pings.and_then(|pings| request([source4, source6], pings.to, ident, sequence));
                if let Some(packet) = packet {
                    echoes.sent.insert(sequence, false);
                    sequence = sequence.wrapping_add(1);
                    match &mut session.esp {
                        Some(esp) if esp_up => esp.send_packet(&packet).await.map_err(failed)?,
                        _ => {
                            session.talk.send_packet(&packet);
                            session.flush().await.map_err(failed)?;
                        }
                    }
                }
            }
            _ = look.tick(), if echoes.silence.is_some() && !stopping => {
                hold.say(turn, echoes.silence.as_mut().and_then(|silence| silence.check(silence::now())));
            }
            heard = session.hear() => {
                let packet = match heard? {
                    None => tls_events(session, esp_up).await?,
                    Some(Heard::Probe) => {
                        quiet = false;
                        if !esp_up {
                            esp_up = true;
                            hold.esp_up.fetch_add(1, Ordering::Relaxed);
                        }
                        None
                    }
                    Some(Heard::Packet(packet)) => {
                        quiet = false;
                        tally.count("packets over esp", 1);
                        Some(vec![packet])
                    }
                    Some(Heard::Refused(why)) => {
                        tally.count(format!("esp refused: {why}"), 1);
                        None
                    }
                };
                for packet in packet.into_iter().flatten() {
                    if let Some(answered) = is_reply(&packet, ident).and_then(|found| echoes.sent.get_mut(&found)) {
                        *answered = true;
                        hold.say(turn, echoes.silence.as_mut().and_then(|silence| silence.heard(silence::now())));
                    }
                }
            }
        }
    }
}

/// Returns when everything is to be closed, or when nobody can say so any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The guard is dropped here: held across an await it would pin the task to its thread.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Handles every whole frame that came over TLS; returns the inner packets among them.
async fn tls_events(
    session: &mut Session,
    esp_up: bool,
) -> Result<Option<Vec<Vec<u8>>>, StepError> {
    let mut packets = Vec::new();
    while let Some(event) = session.take_event().await? {
        match event {
            Event::Packet(packet) => packets.push(packet),
            Event::ProbeNow if !esp_up => {
                if let Some(esp) = &mut session.esp {
                    let sent = esp.probe().await;
                    sent.map_err(|error| StepError::new(Step::Tunnel, error))?;
                }
            }
            _ => {}
        }
    }
    Ok(Some(packets))
}
