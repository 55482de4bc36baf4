//! `lockgate-edge client`: the process on an endpoint.
//!
//! The service starts it in a session of its own and may die: tunnels go on, and the next service
//! finds them over the link. The runtime is made first, because making one takes sockets of its
//! own, and still there is one thread when every right is dropped.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};

use super::bootstrap::Bootstrap;
use super::{Client, DIAL_TIME, QUEUE_BYTES, life};
use crate::confine;
use crate::conversation::Ties;
use crate::data::{self, DataConfig, Monotonic, Side};
use crate::front::refusal::Refusals;
use crate::link::directory::Directory;
use crate::link::server::LinkServer;
use crate::link::uplink;
use crate::log;
use crate::run::{STOP, cannot_start, exit_when_the_data_thread_panics, random, until_the_end};

/// Serves until SIGTERM or SIGINT, or until there is nothing to serve. Exit codes: 0 stopped,
/// 1 cannot start, 70 failed later.
pub fn run() -> ExitCode {
    let bootstrap = match Bootstrap::read(std::io::stdin().lock()) {
        Ok(bootstrap) => bootstrap,
        Err(problem) => return cannot_start(&problem.to_string()),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(problem) => return cannot_start(&format!("runtime: {problem}")),
    };
    match confine::client() {
        Ok(state) => log::last_line(log::Level::Info, "confined", state.facts()),
        Err(problem) => return cannot_start(&problem.to_string()),
    }
    exit_when_the_data_thread_panics();
    if let Err(problem) = log::start() {
        return cannot_start(&format!("log thread: {problem}"));
    }
    match serve(bootstrap, runtime) {
        Ok(code) => code,
        Err(problem) => cannot_start(&problem.to_string()),
    }
}

/// Everything but packets in one thread: there is one tunnel.
fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread()
        .max_blocking_threads(1)
        .enable_all()
        .build()
}

fn serve(bootstrap: Bootstrap, runtime: Runtime) -> std::io::Result<ExitCode> {
    let refusals = Arc::new(Refusals::default());
    let (uplink, outgoing) = uplink::channel(refusals.clone());
    let up = uplink.clone();
    let config = DataConfig {
        side: Side::Client,
        tun: None,
        tun_takes_udp: false,
        udp: Vec::new(),
        reserved: Arc::new([]),
        clock: Box::new(Monotonic::start()),
    };
    let (data, thread) = data::spawn(config, move |message| up.send(message))?;
    let directory = Arc::new(Directory::new(QUEUE_BYTES, refusals.clone()));
    let port = Arc::new(data.clone());
    let edge = u64::from_ne_bytes(random()?);
    let ties = Ties {
        directory: directory.clone(),
        uplink,
        data: port.clone(),
        refusals: refusals.clone(),
    };
    let code = runtime.block_on(async {
        let link = LinkServer {
            // Made nonblocking by `Bootstrap`, as the runtime wants it.
            listener: UnixListener::from_std(bootstrap.link)?,
            control_uid: bootstrap.control_uid,
            edge,
            directory: directory.clone(),
            data: port.clone(),
            client: Some(Arc::new(Client::new(ties, DIAL_TIME))),
            outgoing,
            refusals,
        };
        tokio::spawn(link.run());
        log::info(
            "started",
            serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "edge": format!("{edge:016x}")}),
        );
        let useless = life::until_useless(&directory, port.as_ref());
        until_the_end(&data, thread, useless).await
    })?;
    runtime.shutdown_timeout(STOP);
    Ok(code)
}
