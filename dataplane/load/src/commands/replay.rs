//! One accepted ESP packet sent again and again: none of the copies may be answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockgate_dataplane::esp::{IPV4, PROBE};
use tokio::time::timeout;

use super::Run;
use crate::conversation::Step;
use crate::esp_path::{EspPath, Heard};
use crate::report::Tally;
use crate::session::StepError;

/// How long to listen for answers to copies.
const LISTEN: Duration = Duration::from_secs(1);

pub async fn run(run: Arc<Run>, count: usize) -> Tally {
    let mut tally = Tally::default();
    if let Err(error) = attempt(&run, count, &mut tally).await {
        tally.failure(&error);
    }
    tally
}

async fn attempt(run: &Run, count: usize, tally: &mut Tally) -> Result<(), StepError> {
    let failed = |cause: &dyn std::fmt::Display| StepError::new(Step::Tunnel, cause);
    let mut session = run.target.open(0, &run.who(0), true).await?;
    let Some(mut esp) = session.esp.take() else {
        return Err(failed(&"the gateway offers no ESP"));
    };
    // The first probe may overtake the keys' answer, so several are sent, each a new packet.
    let deadline = Instant::now() + run.target.patience;
    let original = loop {
        let datagram = esp.seal(PROBE, IPV4).map_err(|error| failed(&error))?;
        esp.send(&datagram).await.map_err(|error| failed(&error))?;
        if answers(&mut esp, Duration::from_millis(200)).await > 0 {
            break datagram;
        }
        if Instant::now() > deadline {
            return Err(failed(&"no answer to an ESP probe"));
        }
    };
    // Late answers to earlier probes are not answers to copies.
    answers(&mut esp, LISTEN).await;
    for _ in 0..count {
        esp.send(&original).await.map_err(|error| failed(&error))?;
    }
    let answered = answers(&mut esp, LISTEN).await;
    tally.count("copies sent", count as u64);
    tally.count("copies answered", answered);
    let fresh = esp.seal(PROBE, IPV4).map_err(|error| failed(&error))?;
    esp.send(&fresh).await.map_err(|error| failed(&error))?;
    if answers(&mut esp, LISTEN).await == 0 {
        return Err(failed(&"a new packet is not answered after the copies"));
    }
    let _ = session.logout().await;
    if answered > 0 {
        return Err(failed(&"a replayed packet was answered"));
    }
    tally.succeeded += 1;
    Ok(())
}

/// Authentic datagrams heard until it is quiet for `wait`.
async fn answers(esp: &mut EspPath, wait: Duration) -> u64 {
    let mut heard = 0;
    while let Ok(Ok(datagram)) = timeout(wait, esp.receive()).await {
        heard += u64::from(!matches!(datagram, Heard::Refused(_)));
    }
    heard
}
