//! Whole sign-ins, each followed by a logout.

use std::sync::Arc;

use super::{Run, Turns, together};
use crate::conversation::Step;
use crate::report::Tally;
use crate::session::StepError;

pub async fn run(run: Arc<Run>, count: usize) -> Tally {
    let turns = Turns::new(count);
    let workers = run.parallel.min(count);
    together((0..workers).map(|_| worker(Arc::clone(&run), Arc::clone(&turns)))).await
}

async fn worker(run: Arc<Run>, turns: Arc<Turns>) -> Tally {
    let mut tally = Tally::default();
    while let Some(turn) = turns.take() {
        let session = match run.target.open(turn, &run.who(turn), run.esp).await {
            Ok(session) => session,
            Err(error) => {
                tally.failure(&error);
                continue;
            }
        };
        let timing = session.timing;
        match session.logout().await {
            Ok(()) => {
                tally.succeeded += 1;
                tally.took("tls", timing.secured);
                tally.took("signed in", timing.signed_in);
                tally.took("tunnel up", timing.up);
            }
            Err(error) => tally.failure(&StepError::new(Step::Tunnel, format!("logout: {error}"))),
        }
    }
    tally
}
