//! The command line. Secrets are never on it: the password comes from a file descriptor.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::prelude::*;

pub const HELP: &str = "\
lockgate-load: many clients of a Lockgate gateway in one process, for tests and benchmarks.

  lockgate-load COMMAND --server ADDR:PORT (--ca FILE | --pin PIN) [options] <password

Commands
  signin   --count N --parallel P   whole sign-ins, each followed by a logout
  resume   --count N --parallel P   sign in P users once, then come back by cookie N times
  hold     --sessions N --seconds S open N sessions, print \"holding N\", keep them until the time is
           [--ping ADDR]            over or SIGTERM; with --ping each sends an echo now and then.
           [--every MS]             Time between the echoes of a session (default 1000)
           [--quiet MS]             Print \"quiet N T\" when session N had no answer for so long (the last one
                                    at T, seconds of the monotonic clock), \"again N T\" when it has again
  flood    --connections N --seconds S [--after tcp|tls|upgrade]
                                    connections that go so far and never speak again
  garbage  --count N [--seed X]     random bytes at every step of the protocol, then one sign-in
  replay   --count N                send one accepted ESP packet N times more, count the answers

Options
  --server ADDR:PORT     the gateway
  --name NAME            its name in certificate and Host header (default: the address)
  --ca FILE              PEM file of CA certificates to trust
  --pin pin-sha256:B64   trust this public key instead
  --source ADDR          local address to bind; repeat to use several in turn
  --user-template T      user names; {} becomes a number from 0 on (default u{})
  --users N              how many names there are (default: as many as connections)
  --password-fd FD       descriptor with the password of every user, one line (default 0)
  --parallel P           connections being opened at the same time (default 16)
  --esp                  answer ESP keys and probe over UDP (default: a client without ESP)
  --timeout S            longest wait of one step (default 10)
  --json                 print the result as JSON on the last line

Exit status: 0 all went well, 1 something failed, 2 the command line is wrong.
";

/// Limits that keep a slip of the finger from filling the machine.
const MAX_COUNT: usize = 1_000_000;
const MAX_CONNECTIONS: usize = 60_000;
const MAX_PARALLEL: usize = 4096;
const MAX_SECONDS: u64 = 24 * 3600;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    Tcp,
    Tls,
    Upgrade,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    SignIn {
        count: usize,
    },
    Resume {
        count: usize,
    },
    Hold {
        sessions: usize,
        seconds: u64,
        pings: Option<Pings>,
    },
    Flood {
        connections: usize,
        seconds: u64,
        after: Depth,
    },
    Garbage {
        count: usize,
        seed: u64,
    },
    Replay {
        count: usize,
    },
}

/// Echoes of a session that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pings {
    pub to: IpAddr,
    pub every: Duration,
    /// Longest time without an answer that is nothing to talk about.
    pub quiet: Option<Duration>,
}

impl Command {
    pub fn needs_password(&self) -> bool {
        !matches!(self, Command::Flood { .. })
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Trust {
    Ca(PathBuf),
    Pin(String),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Args {
    pub command: Command,
    pub server: SocketAddr,
    pub name: String,
    pub trust: Trust,
    pub sources: Vec<IpAddr>,
    pub user_template: String,
    pub users: Option<usize>,
    pub password_fd: u32,
    pub parallel: usize,
    pub esp: bool,
    pub timeout: u64,
    pub json: bool,
}

/// Parses the arguments after the program's name; `None` asks for the help text.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Option<Args>, String> {
    let mut parser = lexopt::Parser::from_args(args);
    let (mut word, mut server, mut name, mut trust) = (None, None, None, None);
    let (mut sources, mut user_template, mut users) = (Vec::new(), "u{}".to_owned(), None);
    let (mut count, mut seconds, mut ping, mut after, mut seed) = (None, None, None, Depth::Tcp, 1);
    let (mut every, mut quiet) = (1000, None);
    let (mut password_fd, mut parallel, mut timeout, mut esp, mut json) = (0, 16, 10, false, false);
    while let Some(arg) = parser.next().map_err(|error| error.to_string())? {
        let long = match &arg {
            Short('h') | Long("help") => return Ok(None),
            Value(value) if word.is_none() => {
                word = Some(value.to_string_lossy().into_owned());
                continue;
            }
            Long(name) => (*name).to_owned(),
            other => return Err(other.clone().unexpected().to_string()),
        };
        let mut value = || -> Result<String, String> {
            let value = parser.value().map_err(|error| error.to_string())?;
            value
                .into_string()
                .map_err(|_| format!("--{long}: not text"))
        };
        match long.as_str() {
            "server" => server = Some(number(&long, &value()?)?),
            "name" => name = Some(value()?),
            "ca" => trust = Some(Trust::Ca(value()?.into())),
            "pin" => trust = Some(Trust::Pin(value()?)),
            "source" => sources.push(number(&long, &value()?)?),
            "user-template" => user_template = value()?,
            "users" => users = Some(bounded(&long, &value()?, MAX_COUNT)?),
            "password-fd" => password_fd = number(&long, &value()?)?,
            "parallel" => parallel = bounded(&long, &value()?, MAX_PARALLEL)?,
            "timeout" => timeout = bounded(&long, &value()?, 3600)?,
            "count" => count = Some(bounded(&long, &value()?, MAX_COUNT)?),
            "sessions" | "connections" => count = Some(bounded(&long, &value()?, MAX_CONNECTIONS)?),
            "seconds" => seconds = Some(bounded(&long, &value()?, MAX_SECONDS)?),
            "ping" => ping = Some(number(&long, &value()?)?),
            "every" => every = bounded(&long, &value()?, MAX_SECONDS * 1000)?,
            "quiet" => quiet = Some(bounded(&long, &value()?, MAX_SECONDS * 1000)?),
            "seed" => seed = number(&long, &value()?)?,
            "esp" => esp = true,
            "json" => json = true,
            "after" => {
                after = match value()?.as_str() {
                    "tcp" => Depth::Tcp,
                    "tls" => Depth::Tls,
                    "upgrade" => Depth::Upgrade,
                    _ => return Err("--after: one of tcp, tls, upgrade".to_owned()),
                }
            }
            _ => return Err(format!("unknown option --{long}")),
        }
    }
    let need = |what: &str| format!("{what} is missing");
    let many = |what: &str| count.ok_or_else(|| need(what));
    let command = match word.as_deref() {
        Some("signin") => Command::SignIn {
            count: many("--count")?,
        },
        Some("resume") => Command::Resume {
            count: many("--count")?,
        },
        Some("hold") => Command::Hold {
            sessions: many("--sessions")?,
            seconds: seconds.ok_or_else(|| need("--seconds"))?,
            pings: ping.map(|to| Pings {
                to,
                every: Duration::from_millis(every),
                quiet: quiet.map(Duration::from_millis),
            }),
        },
        Some("flood") => Command::Flood {
            connections: many("--connections")?,
            seconds: seconds.ok_or_else(|| need("--seconds"))?,
            after,
        },
        Some("garbage") => Command::Garbage {
            count: many("--count")?,
            seed,
        },
        Some("replay") => Command::Replay {
            count: many("--count")?,
        },
        Some(other) => return Err(format!("unknown command {other}")),
        None => return Err("a command is missing (see --help)".to_owned()),
    };
    let server: SocketAddr = server.ok_or_else(|| need("--server"))?;
    if sources
        .iter()
        .any(|source: &IpAddr| source.is_ipv4() != server.is_ipv4())
    {
        return Err("--source: not of the same IP version as --server".to_owned());
    }
    Ok(Some(Args {
        command,
        server,
        name: name.unwrap_or_else(|| server.ip().to_string()),
        trust: trust.ok_or_else(|| need("--ca or --pin"))?,
        sources,
        user_template,
        users,
        password_fd,
        parallel,
        esp,
        timeout,
        json,
    }))
}

fn number<T: FromStr>(option: &str, text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error| format!("--{option} {text}: {error}"))
}

fn bounded<T: FromStr + PartialOrd + std::fmt::Display + From<u8>>(
    option: &str,
    text: &str,
    most: T,
) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    let value: T = number(option, text)?;
    if value < T::from(1) || value > most {
        return Err(format!("--{option} {text}: allowed is 1 to {most}"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(line: &str) -> Result<Option<Args>, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_full_line_is_read() {
        let line = "hold --sessions 5 --seconds 9 --ping 10.0.0.1 --every 50 --quiet 900 --server 192.0.2.1:443 --name gw.test --ca c.pem
            --source 192.0.2.7 --source 192.0.2.8 --users 3 --esp --json";
        let args = parsed(line).unwrap().unwrap();
        let pings = Some(Pings {
            to: "10.0.0.1".parse().unwrap(),
            every: Duration::from_millis(50),
            quiet: Some(Duration::from_millis(900)),
        });
        assert_eq!(
            args.command,
            Command::Hold {
                sessions: 5,
                seconds: 9,
                pings
            }
        );
        assert_eq!(
            (args.name.as_str(), args.sources.len(), args.users),
            ("gw.test", 2, Some(3))
        );
        assert_eq!(args.trust, Trust::Ca("c.pem".into()));
        assert!(args.esp && args.json);
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("", "a command is missing (see --help)"),
            ("signin --server 192.0.2.1:443 --ca c", "--count is missing"),
            ("signin --count 0", "--count 0: allowed is 1 to 1000000"),
            (
                "signin --count 1 --server 192.0.2.1:443",
                "--ca or --pin is missing",
            ),
            ("jump --count 1", "unknown command jump"),
            ("signin --count 1 --password x", "unknown option --password"),
            (
                "signin --count 1 --server 192.0.2.1:443 --ca c --source ::1",
                "--source: not of the same IP version as --server",
            ),
        ];
        for (line, text) in table {
            assert_eq!(parsed(line).unwrap_err(), text, "{line}");
        }
    }
}
