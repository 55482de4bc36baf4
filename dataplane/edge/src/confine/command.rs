//! `lockgate-edge confine`: gives up rights, then becomes another program.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use super::{Identity, Paths, Profile, program};
use crate::log;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    profile: Profile,
    identity: Option<Identity>,
    paths: Paths,
    program: Vec<OsString>,
}

/// Does not return when it works. Exit codes: 2 for a wrong command line, 1 when rights cannot be
/// dropped or the program cannot be executed.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let request = match parse(arguments) {
        Ok(request) => request,
        Err(reason) => {
            eprintln!("lockgate-edge confine: {reason}");
            return ExitCode::from(2);
        }
    };
    let Some((name, rest)) = request.program.split_first() else {
        return ExitCode::from(2);
    };
    match program(request.profile, request.identity, &request.paths) {
        Ok(achieved) => log::last_line(log::Level::Info, "confined", achieved.facts()),
        Err(problem) => {
            log::last_line(
                log::Level::Error,
                "cannot-start",
                serde_json::json!({"reason": problem.to_string()}),
            );
            return ExitCode::from(1);
        }
    }
    let problem = Command::new(name).args(rest).exec();
    let reason = format!("cannot execute {}: {problem}", name.display());
    log::last_line(
        log::Level::Error,
        "cannot-start",
        serde_json::json!({"reason": reason}),
    );
    ExitCode::from(1)
}

fn parse(arguments: &[OsString]) -> Result<Request, String> {
    let mut words = arguments.iter();
    let (mut profile, mut uid, mut gid) = (None, None, None);
    let mut paths = Paths::default();
    loop {
        let Some(option) = words.next() else {
            return Err("`--` and a program are missing".to_owned());
        };
        let option = option.to_str().unwrap_or_default();
        if option == "--" {
            break;
        }
        let mut value = || {
            words
                .next()
                .ok_or_else(|| format!("{option} needs a value"))
        };
        match option {
            "--profile" => {
                profile = Some(match value()?.to_str() {
                    Some("supervisor") => Profile::Supervisor,
                    Some("control") => Profile::Control,
                    _ => return Err("--profile is one of: supervisor, control".to_owned()),
                });
            }
            "--uid" => uid = Some(number(option, value()?)?),
            "--gid" => gid = Some(number(option, value()?)?),
            "--read" => paths.read.push(PathBuf::from(value()?)),
            "--write" => paths.write.push(PathBuf::from(value()?)),
            "--connect" => paths.connect.push(PathBuf::from(value()?)),
            other => return Err(format!("unknown option {other:?}")),
        }
    }
    let identity = match (uid, gid) {
        (Some(uid), Some(gid)) => Some(Identity { uid, gid }),
        (None, None) => None,
        _ => return Err("--uid and --gid go together".to_owned()),
    };
    let program: Vec<_> = words.cloned().collect();
    if program.is_empty() {
        return Err("a program must follow `--`".to_owned());
    }
    let profile = profile.ok_or("--profile is missing: supervisor or control")?;
    Ok(Request {
        profile,
        identity,
        paths,
        program,
    })
}

fn number(option: &str, value: &OsString) -> Result<u32, String> {
    value
        .to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("{option} needs a number, not {value:?}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(line: &str) -> Result<Request, String> {
        parse(
            &line
                .split_whitespace()
                .map(OsString::from)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_whole_command_line_is_understood() {
        let line = "--profile control --uid 5 --gid 6 --read /usr --read /etc --write /d --connect /s -- /bin/x --uid 9";
        let wanted = Request {
            profile: Profile::Control,
            identity: Some(Identity { uid: 5, gid: 6 }),
            paths: Paths {
                read: vec!["/usr".into(), "/etc".into()],
                write: vec!["/d".into()],
                connect: vec!["/s".into()],
            },
            program: vec!["/bin/x".into(), "--uid".into(), "9".into()],
        };
        assert_eq!(read(line).unwrap(), wanted);
    }

    #[test]
    fn mistakes_are_explained() {
        for (line, wanted) in [
            ("", "are missing"),
            ("--profile control", "are missing"),
            ("--profile control --", "a program must follow"),
            ("--profile edge -- x", "one of: supervisor, control"),
            ("-- x", "--profile is missing"),
            ("--profile control --uid 5 -- x", "go together"),
            (
                "--profile control --uid root --gid 5 -- x",
                "needs a number",
            ),
            (
                "--profile control --reed /x -- x",
                "unknown option \"--reed\"",
            ),
            ("--profile", "--profile needs a value"),
        ] {
            let text = read(line).unwrap_err();
            assert!(text.contains(wanted), "{line}: {text}");
        }
    }
}
