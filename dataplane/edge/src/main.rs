//! The program `lockgate-edge`.

use std::process::ExitCode;

use lockgate_edge::{client, confine, run, self_check};

const USAGE: &str = "\
usage: lockgate-edge run < BOOTSTRAP
       lockgate-edge client < BOOTSTRAP
       lockgate-edge confine --profile supervisor|control [--uid U --gid G]
                             [--read PATH]... [--write PATH]... -- PROGRAM [ARGS...]
       lockgate-edge self-check [--json]
       lockgate-edge --version

run         serves connections; started by `lockgate server run`, which hands over
            open sockets and writes one JSON document to standard input
client      carries the tunnel of an endpoint; started by `lockgate client run`, which
            sends it open sockets and the TUN device over its link
confine     gives up rights, then becomes PROGRAM
self-check  says what this kernel offers for speed and confinement
";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = arguments
        .iter()
        .map(|word| word.to_str().unwrap_or_default())
        .collect();
    match words.as_slice() {
        ["run"] => run::run(),
        ["client"] => client::run::run(),
        ["confine", ..] => confine::command::run(arguments.get(1..).unwrap_or_default()),
        ["self-check"] => self_check::run(false),
        ["self-check", "--json"] => self_check::run(true),
        ["--version"] => {
            println!("lockgate-edge {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["--help" | "-h"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
