//! `lockgate-load`: many clients of a Lockgate gateway in one small process.
//!
//! Nouns: a [`conversation`] is the protocol of one connection without I/O, over [`wire`] and
//! [`settings`]; a [`session`] runs it over TCP and TLS, with an [`esp_path`] beside it; a command
//! is a pattern of many sessions and ends in a [`report`]. One thread: the machine's other core
//! belongs to the gateway under test.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod conversation;
mod echo;
mod esp_path;
#[cfg(test)]
mod fake_gateway;
mod report;
mod session;
mod settings;
mod silence;
mod trust;
mod wire;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use zeroize::Zeroizing;

use args::{Args, Command, HELP, Trust};
use commands::{Run, flood, garbage, hold, replay, resume, signin};
use conversation::Secret;
use report::Report;
use session::Target;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(text) => return usage(&text),
    };
    let run = match prepare(&args) {
        Ok(run) => Arc::new(run),
        Err(text) => return usage(&text),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let report = runtime.and_then(|runtime| runtime.block_on(execute(&args.command, run)));
    let report = match report {
        Ok(report) => report,
        Err(error) => return usage(&error.to_string()),
    };
    if args.json {
        match serde_json::to_string(&report) {
            Ok(text) => say(&text),
            Err(error) => return usage(&error.to_string()),
        }
    } else {
        say(&report.text());
    }
    if report.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn usage(text: &str) -> ExitCode {
    eprintln!("lockgate-load: {text}");
    ExitCode::from(2)
}

/// A line for whoever waits for it: flushed at once, and a closed pipe is no reason to stop.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

fn prepare(args: &Args) -> Result<Run, String> {
    raise_file_limit();
    let tls = match &args.trust {
        Trust::Ca(file) => trust::by_ca(file)?,
        Trust::Pin(pin) => trust::by_pin(pin)?,
    };
    let name =
        ServerName::try_from(args.name.clone()).map_err(|error| format!("--name: {error}"))?;
    let password = if args.command.needs_password() {
        read_password(args.password_fd)?
    } else {
        String::new()
    };
    let most = match args.command {
        Command::SignIn { count } | Command::Garbage { count, .. } => count,
        Command::Hold { sessions, .. } => sessions,
        Command::Resume { .. } => args.parallel,
        Command::Flood { .. } | Command::Replay { .. } => 1,
    };
    Ok(Run {
        target: Target {
            address: args.server,
            name,
            tls: Arc::new(tls),
            sources: args.sources.clone(),
            patience: Duration::from_secs(args.timeout),
        },
        user_template: args.user_template.clone(),
        users: args.users.unwrap_or(most),
        password: Secret(Zeroizing::new(password)),
        parallel: args.parallel,
        esp: args.esp,
    })
}

/// One line from the descriptor, without its end.
fn read_password(fd: u32) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("--password-fd {fd}: {error}");
    let file = File::open(format!("/proc/self/fd/{fd}")).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(file).read_line(&mut line).map_err(failed)?;
    let line = Zeroizing::new(line);
    match line.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("--password-fd {fd}: no password there")),
        password => Ok(password.to_owned()),
    }
}

/// Thousands of connections need as many descriptors; the hard limit is what we may take.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Failing leaves the soft limit: opening a connection then says so.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

async fn execute(command: &Command, run: Arc<Run>) -> std::io::Result<Report> {
    let started = Instant::now();
    Ok(match *command {
        Command::SignIn { count } => {
            let tally = signin::run(run, count).await;
            Report::new("signin", started.elapsed(), tally)
        }
        Command::Resume { count } => {
            let (tally, elapsed) = resume::run(run, count).await;
            Report::new("resume", elapsed, tally)
        }
        Command::Hold {
            sessions,
            seconds,
            pings,
        } => {
            let esp = run.esp;
            let holding = |up, over_esp| {
                say(&format!("holding {up}"));
                if esp {
                    say(&format!("over esp {over_esp}"));
                }
            };
            let tally = hold::run(
                run,
                sessions,
                Duration::from_secs(seconds),
                pings,
                holding,
                say,
            )
            .await?;
            Report::new("hold", started.elapsed(), tally)
        }
        Command::Flood {
            connections,
            seconds,
            after,
        } => {
            let time = Duration::from_secs(seconds);
            let tally = flood::run(run, connections, time, after, |up| {
                say(&format!("holding {up}"))
            })
            .await;
            Report::new("flood", started.elapsed(), tally)
        }
        Command::Garbage { count, seed } => {
            let tally = garbage::run(run, count, seed).await;
            Report::new("garbage", started.elapsed(), tally)
        }
        Command::Replay { count } => {
            let tally = replay::run(run, count).await;
            Report::new("replay", started.elapsed(), tally)
        }
    })
}
