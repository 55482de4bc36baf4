//! Coming back by cookie: each worker keeps one session and reconnects to it again and again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Run, Turns, together};
use crate::report::Tally;
use crate::session::Session;

/// Returns the tally and how long the resumptions alone took.
pub async fn run(run: Arc<Run>, count: usize) -> (Tally, Duration) {
    let mut opened: JoinSet<_> = (0..run.parallel)
        .map(|turn| {
            let run = Arc::clone(&run);
            async move { (turn, run.target.open(turn, &run.who(turn), run.esp).await) }
        })
        .collect();
    let mut tally = Tally::default();
    let mut sessions = Vec::new();
    while let Some(done) = opened.join_next().await {
        match done {
            Ok((turn, Ok(session))) => sessions.push((turn, session)),
            Ok((_, Err(error))) => tally.failure(&error),
            Err(error) => {
                tally.failed += 1;
                *tally.errors.entry(format!("worker: {error}")).or_default() += 1;
            }
        }
    }
    let turns = Turns::new(count);
    let started = Instant::now();
    let workers = sessions
        .into_iter()
        .map(|(turn, session)| worker(Arc::clone(&run), Arc::clone(&turns), turn, session));
    tally.merge(together(workers).await);
    (tally, started.elapsed())
}

async fn worker(run: Arc<Run>, turns: Arc<Turns>, user: usize, mut session: Session) -> Tally {
    let mut tally = Tally::default();
    let mut who = run.who(user);
    let addresses = (session.settings.address4, session.settings.address6);
    while turns.take().is_some() {
        who.cookie = session.cookie.clone();
        session.abandon().await;
        session = match run.target.open(user, &who, run.esp).await {
            Ok(session) => session,
            Err(error) => {
                // Without a session there is no cookie to go on with.
                tally.failure(&error);
                return tally;
            }
        };
        if (session.settings.address4, session.settings.address6) == addresses {
            tally.succeeded += 1;
        } else {
            tally.failed += 1;
            *tally
                .errors
                .entry("configuration: other addresses than before".to_owned())
                .or_default() += 1;
        }
        tally.took("tls", session.timing.secured);
        tally.took("tunnel up", session.timing.up);
    }
    // Not part of what is measured: the session's end may fail without spoiling the count.
    let _ = session.logout().await;
    tally
}
