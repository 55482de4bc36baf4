//! Log lines: one JSON object per line on standard error.
//!
//! Lines go through a bounded queue to a thread of their own, so that a reader who has stopped
//! reading standard error costs lines and not packets; lines lost that way are counted in the
//! next one. No line may carry headers, cookies, frame bodies or keys: fields are facts about
//! sizes, addresses, states and reasons.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

/// Lines waiting for the writer; at about 200 bytes a line this is 200 KiB.
const QUEUE: usize = 1024;

/// How long the end of the process waits for lines still in the queue.
const PATIENCE: Duration = Duration::from_millis(500);

enum Job {
    Write(String),
    /// Answered when everything before has been written.
    Mark(SyncSender<()>),
}

static LINES: OnceLock<SyncSender<Job>> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warning,
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Starts the writing thread; lines before that are written directly.
pub fn start() -> std::io::Result<()> {
    let (sender, jobs) = sync_channel(QUEUE);
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || {
            for job in jobs {
                match job {
                    Job::Write(line) => write(&line),
                    Job::Mark(reached) => {
                        let _ = reached.send(());
                    }
                }
            }
        })?;
    // A second call keeps the first writer: there is one standard error.
    let _ = LINES.set(sender);
    Ok(())
}

/// Logs `event`, a fixed name that never changes, with its facts.
pub fn line(level: Level, event: &'static str, facts: Value) {
    let text = render(
        level,
        event,
        facts,
        SystemTime::now(),
        LOST.swap(0, Ordering::Relaxed),
    );
    match LINES.get() {
        None => write(&text),
        Some(lines) => {
            if let Err(TrySendError::Full(_)) = lines.try_send(Job::Write(text)) {
                LOST.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Writes past the queue, and waits a moment for what is in it: for what is said right before the
/// process ends.
pub fn last_line(level: Level, event: &'static str, facts: Value) {
    if let Some(lines) = LINES.get() {
        let (reached, mark) = sync_channel(1);
        if lines.try_send(Job::Mark(reached)).is_ok() {
            let _ = mark.recv_timeout(PATIENCE);
        }
    }
    write(&render(level, event, facts, SystemTime::now(), 0));
}

pub fn info(event: &'static str, facts: Value) {
    line(Level::Info, event, facts);
}

pub fn warning(event: &'static str, facts: Value) {
    line(Level::Warning, event, facts);
}

pub fn error(event: &'static str, facts: Value) {
    line(Level::Error, event, facts);
}

/// One line at most every `every` for something a stranger can repeat; says how many were held
/// back since.
#[derive(Debug)]
pub struct Seldom {
    every: Duration,
    last: std::sync::Mutex<(Option<std::time::Instant>, u64)>,
}

impl Seldom {
    pub const fn new(every: Duration) -> Self {
        Self {
            every,
            last: std::sync::Mutex::new((None, 0)),
        }
    }

    pub fn warning(&self, event: &'static str, facts: Value) {
        let now = std::time::Instant::now();
        let mut last = crate::lock(&self.last);
        if last.0.is_some_and(|at| now.duration_since(at) < self.every) {
            last.1 += 1;
            return;
        }
        let held_back = last.1;
        *last = (Some(now), 0);
        drop(last);
        let mut facts = facts;
        if let (Value::Object(map), true) = (&mut facts, held_back > 0) {
            map.insert("held_back".to_owned(), held_back.into());
        }
        warning(event, facts);
    }
}

fn write(text: &str) {
    // Nobody can be told when standard error is gone.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn render(level: Level, event: &str, facts: Value, now: SystemTime, lost: u64) -> String {
    let mut map = Map::new();
    map.insert("time".to_owned(), timestamp(now).into());
    map.insert("level".to_owned(), level.name().into());
    map.insert("source".to_owned(), "edge".into());
    map.insert("event".to_owned(), event.into());
    if let Value::Object(facts) = facts {
        map.extend(facts);
    }
    if lost > 0 {
        map.insert("lines_lost".to_owned(), lost.into());
    }
    let mut text = Value::Object(map).to_string();
    text.push('\n');
    text
}

/// UTC as in RFC 3339 with milliseconds; days to dates by the civil calendar algorithm.
fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years are counted from 1 March, so that the leap day is the last day of a year; 719,468
    // days lie between 0000-03-01 and 1970-01-01, 146,097 in 400 years.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!(
        "{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        era * 400 + year + carry,
        rest / 3_600,
        rest % 3_600 / 60,
        rest % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn timestamps_are_utc_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_164_799, "2024-02-28T23:59:59.000Z"),
            (1_795_305_600, "2026-11-22T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_line_is_one_json_object() {
        let facts = serde_json::json!({"text": "a\nb"});
        let text = render(Level::Warning, "try", facts, UNIX_EPOCH, 3);
        assert_eq!(text.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["level"], "warning");
        assert_eq!(value["text"], "a\nb");
        assert_eq!(value["lines_lost"], 3);
    }
}
