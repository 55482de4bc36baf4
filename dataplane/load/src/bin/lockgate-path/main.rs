//! `lockgate-path`: what the benchmark needs of a network path and no stock program offers.
//!
//! A [`relay`] holds packets back and loses some, [`datagrams`] are sent at a rate at one end and
//! counted at the other. Each is one process with one thread; the cores belong to what is measured.
#![forbid(unsafe_code)]

mod datagrams;
mod loss;
mod relay;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use loss::Loss;

const HELP: &str = "\
lockgate-path: a long or lossy path, and datagrams counted at both ends, for the benchmark.

  lockgate-path relay MILLISECONDS PERCENT      standard input is a TUN device with virtio-net headers: every
                                                packet read from it is written back after so long, less this
                                                share of all packets
  lockgate-path send ADDR:PORT SIZE RATE COUNT  so many datagrams of SIZE bytes, RATE a second
  lockgate-path count ADDR:PORT COUNT           wait for so many datagrams, or for the end of them

send and count print one line of JSON at the end; relay and count print \"ready\" first.
";

/// The largest numbers taken, against slips of the finger.
const MAX_COUNT: u64 = 100_000_000;
const MAX_MILLISECONDS: u64 = 10_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage) => {
            eprint!("{HELP}");
            ExitCode::from(2)
        }
        Err(Failure::Io(error)) => {
            eprintln!("lockgate-path: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Failure {
    Usage,
    Io(std::io::Error),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

fn run(words: &[&str]) -> Result<(), Failure> {
    match *words {
        ["relay", delay, percent] => {
            let delay = number(delay, 0..=MAX_MILLISECONDS)?;
            let percent: f64 = parse(percent)?;
            let loss = Loss::new(percent / 100.0).ok_or(Failure::Usage)?;
            Ok(relay::run(
                std::io::stdin(),
                Duration::from_millis(delay),
                loss,
            )?)
        }
        ["send", to, size, rate, count] => {
            let to: SocketAddr = parse(to)?;
            let size = number(size, 0..=65_000)? as usize; // below 65,507, the most UDP carries
            let rate = number(rate, 1..=MAX_COUNT)?;
            println!(
                "{}",
                datagrams::send(to, size, rate, number(count, 1..=MAX_COUNT)?)?
            );
            Ok(())
        }
        ["count", at, count] => {
            let at: SocketAddr = parse(at)?;
            println!("{}", datagrams::count(at, number(count, 1..=MAX_COUNT)?)?);
            Ok(())
        }
        _ => Err(Failure::Usage),
    }
}

fn parse<T: FromStr>(word: &str) -> Result<T, Failure> {
    word.parse().map_err(|_| Failure::Usage)
}

fn number(word: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, Failure> {
    let value = parse(word)?;
    range
        .contains(&value)
        .then_some(value)
        .ok_or(Failure::Usage)
}
