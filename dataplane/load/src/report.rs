//! What a run came to: counts, rates, latencies and errors by step.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::session::StepError;

/// Durations of one kind, in milliseconds.
#[derive(Debug, PartialEq, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Percentiles {
    /// Nearest-rank percentiles, or `None` without samples.
    pub fn of(samples: &mut [Duration]) -> Option<Percentiles> {
        samples.sort_unstable();
        let rank = |percent: usize| {
            let at = (samples.len() * percent).div_ceil(100).saturating_sub(1);
            samples
                .get(at)
                .map(|duration| (duration.as_secs_f64() * 1e6).round() / 1e3)
        };
        Some(Percentiles {
            p50: rank(50)?,
            p90: rank(90)?,
            p99: rank(99)?,
            max: rank(100)?,
        })
    }
}

/// What workers count; merged at the end.
#[derive(Debug, Default)]
pub struct Tally {
    pub succeeded: usize,
    pub failed: usize,
    pub latency: BTreeMap<&'static str, Vec<Duration>>,
    pub errors: BTreeMap<String, usize>,
    pub counts: BTreeMap<String, u64>,
}

impl Tally {
    pub fn failure(&mut self, error: &StepError) {
        self.failed += 1;
        *self.errors.entry(error.to_string()).or_default() += 1;
    }

    pub fn took(&mut self, name: &'static str, duration: Duration) {
        self.latency.entry(name).or_default().push(duration);
    }

    pub fn count(&mut self, name: impl Into<String>, more: u64) {
        *self.counts.entry(name.into()).or_default() += more;
    }

    pub fn merge(&mut self, other: Tally) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        for (name, samples) in other.latency {
            self.latency.entry(name).or_default().extend(samples);
        }
        for (cause, count) in other.errors {
            *self.errors.entry(cause).or_default() += count;
        }
        for (name, count) in other.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }
}

/// The result printed at the end.
#[derive(Debug, Serialize)]
pub struct Report {
    pub command: &'static str,
    pub succeeded: usize,
    pub failed: usize,
    /// Wall time of the measured part.
    pub seconds: f64,
    pub per_second: f64,
    pub latency_ms: BTreeMap<&'static str, Percentiles>,
    /// Failures by "step: cause".
    pub errors: BTreeMap<String, usize>,
    pub counts: BTreeMap<String, u64>,
}

impl Report {
    pub fn new(command: &'static str, elapsed: Duration, tally: Tally) -> Report {
        let seconds = elapsed.as_secs_f64();
        let rate = if seconds > 0.0 {
            tally.succeeded as f64 / seconds
        } else {
            0.0
        };
        let latency_ms = tally
            .latency
            .into_iter()
            .filter_map(|(name, mut samples)| {
                Percentiles::of(&mut samples).map(|found| (name, found))
            })
            .collect();
        Report {
            command,
            succeeded: tally.succeeded,
            failed: tally.failed,
            seconds: (seconds * 1e3).round() / 1e3,
            per_second: (rate * 100.0).round() / 100.0,
            latency_ms,
            errors: tally.errors,
            counts: tally.counts,
        }
    }

    /// Lines for people.
    pub fn text(&self) -> String {
        let mut lines = vec![format!(
            "{}: {} ok, {} failed in {:.1} s, {:.1}/s",
            self.command, self.succeeded, self.failed, self.seconds, self.per_second
        )];
        for (name, found) in &self.latency_ms {
            lines.push(format!(
                "  {name:<10} ms  p50 {:.1}  p90 {:.1}  p99 {:.1}  max {:.1}",
                found.p50, found.p90, found.p99, found.max
            ));
        }
        lines.extend(
            self.counts
                .iter()
                .map(|(name, count)| format!("  {name}: {count}")),
        );
        lines.extend(
            self.errors
                .iter()
                .map(|(cause, count)| format!("  error, {count} times: {cause}")),
        );
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::conversation::Step;

    #[test]
    fn percentiles_are_nearest_rank() {
        let mut samples: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let found = Percentiles::of(&mut samples).unwrap();
        assert_eq!(
            found,
            Percentiles {
                p50: 100.0,
                p90: 180.0,
                p99: 198.0,
                max: 200.0
            }
        );
        assert_eq!(Percentiles::of(&mut []), None);
    }

    #[test]
    fn merged_tallies_add_up_and_errors_name_the_step() {
        let mut whole = Tally::default();
        for _ in 0..2 {
            let mut part = Tally {
                succeeded: 3,
                ..Tally::default()
            };
            part.failure(&StepError::new(Step::Tls, "reset"));
            whole.merge(part);
        }
        let report = Report::new("signin", Duration::from_secs(2), whole);
        assert_eq!(
            (report.succeeded, report.failed, report.per_second),
            (6, 2, 3.0)
        );
        assert_eq!(report.errors.get("tls handshake: reset"), Some(&2));
    }
}
