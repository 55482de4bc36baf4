//! `lockgate-edge run`: from the bootstrap document to the last connection.
//!
//! The order matters: descriptors are taken before anything else is opened, and every right is
//! dropped while there is one thread, because threads inherit what their creator has given up.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

use crate::bootstrap::Bootstrap;
use crate::confine;
use crate::data::{self, DataConfig, DataHandle, Monotonic, Side, ToData};
use crate::front::admission::Admission;
use crate::front::refusal::Refusals;
use crate::front::{Front, listener};
use crate::link::directory::Directory;
use crate::link::server::LinkServer;
use crate::link::uplink;
use crate::log;

/// Threads of the front. TLS handshakes are its only heavy work; packets have their own thread.
const FRONT_THREADS: usize = 2;
/// For the data thread to end after it was asked to.
pub(crate) const STOP: Duration = Duration::from_secs(2);

/// Serves until SIGTERM or SIGINT. Exit codes: 0 stopped, 1 cannot start, 70 failed later.
pub fn run() -> ExitCode {
    let bootstrap = match Bootstrap::read(std::io::stdin().lock()) {
        Ok(bootstrap) => bootstrap,
        Err(problem) => return cannot_start(&problem.to_string()),
    };
    raise_descriptor_limit();
    match confine::edge(&bootstrap.http_socket) {
        Ok(state) => log::last_line(log::Level::Info, "confined", state.facts()),
        Err(problem) => return cannot_start(&problem.to_string()),
    }
    exit_when_the_data_thread_panics();
    if let Err(problem) = log::start() {
        return cannot_start(&format!("log thread: {problem}"));
    }
    match serve(bootstrap) {
        Ok(code) => code,
        Err(problem) => cannot_start(&problem.to_string()),
    }
}

pub(crate) fn cannot_start(reason: &str) -> ExitCode {
    log::last_line(
        log::Level::Error,
        "cannot-start",
        serde_json::json!({"reason": reason}),
    );
    ExitCode::from(1)
}

fn serve(bootstrap: Bootstrap) -> std::io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(FRONT_THREADS)
        .max_blocking_threads(1)
        .thread_name("front")
        .enable_all()
        .build()?;
    let refusals = Arc::new(Refusals::default());
    let (uplink, outgoing) = uplink::channel(refusals.clone());
    let up = uplink.clone();
    let config = DataConfig {
        side: Side::Gateway,
        tun: Some(bootstrap.tun),
        tun_takes_udp: bootstrap.tun_takes_udp,
        udp: bootstrap.udp,
        reserved: bootstrap.reserved.into(),
        clock: Box::new(Monotonic::start()),
    };
    let (data, thread) = data::spawn(config, move |message| up.send(message))?;
    let directory = Arc::new(Directory::new(
        bootstrap.limits.queue_bytes,
        refusals.clone(),
    ));
    let (edge, seed) = (u64::from_ne_bytes(random()?), random()?);
    let link = LinkServer {
        // Made nonblocking by `Bootstrap`, as the runtime wants it.
        listener: runtime.block_on(async { UnixListener::from_std(bootstrap.link) })?,
        control_uid: bootstrap.control_uid,
        edge,
        directory: directory.clone(),
        data: Arc::new(data.clone()),
        client: None,
        outgoing,
        refusals: refusals.clone(),
    };
    let front = Arc::new(Front {
        admission: Admission::new(&bootstrap.limits, refusals.clone(), seed),
        limits: bootstrap.limits,
        tls: bootstrap.tls,
        http_socket: bootstrap.http_socket,
        directory,
        uplink,
        data: Arc::new(data.clone()),
        refusals,
    });
    let code = runtime.block_on(async {
        let mut listening = Vec::new();
        for (socket, role) in bootstrap.listeners {
            let local = socket.local_addr()?;
            listening.push(serde_json::json!({"address": local.to_string(), "role": role.name()}));
            let socket = TcpListener::from_std(socket)?;
            tokio::spawn(listener::run(front.clone(), socket, local, role));
        }
        tokio::spawn(link.run());
        log::info(
            "started",
            serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "edge": format!("{edge:016x}"), "listeners": listening}),
        );
        until_the_end(&data, thread, std::future::pending()).await
    })?;
    // Connections of the front simply close; clients come back with their cookie.
    runtime.shutdown_timeout(STOP);
    Ok(code)
}

/// Waits for a signal, for the end of the data thread, without which nothing works, or for
/// `useless`, which ends when there is nothing more to do. Then ends the data thread.
pub(crate) async fn until_the_end(
    data: &DataHandle,
    thread: JoinHandle<std::io::Result<()>>,
    useless: impl Future<Output = ()>,
) -> std::io::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut ended = tokio::task::spawn_blocking(move || thread.join());
    let reason = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = useless => "nobody to serve",
        result = &mut ended => {
            let reason = match result {
                Ok(Ok(Err(problem))) => problem.to_string(),
                Ok(Ok(Ok(()))) => "it ended by itself".to_owned(),
                _ => "it panicked".to_owned(),
            };
            log::last_line(log::Level::Error, "data-thread-ended", serde_json::json!({"reason": reason}));
            return Ok(ExitCode::from(70));
        }
    };
    log::info("stopping", serde_json::json!({"reason": reason}));
    data.send(ToData::Shutdown);
    if tokio::time::timeout(STOP, ended).await.is_err() {
        log::last_line(
            log::Level::Error,
            "data-thread-stuck",
            serde_json::json!({}),
        );
        return Ok(ExitCode::from(70));
    }
    log::last_line(log::Level::Info, "stopped", serde_json::json!({}));
    Ok(ExitCode::SUCCESS)
}

/// Random bytes from the library that also makes our keys.
pub(crate) fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| std::io::Error::other("no randomness"))?;
    Ok(bytes)
}

/// As many descriptors as the process may have: every connection is one.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let found = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: found.maximum,
            maximum: found.maximum,
        },
    );
}

/// A panic in a task of the front costs that connection. The data thread is different: sessions
/// it left half changed must not live on, so the process ends and the supervisor starts anew.
pub(crate) fn exit_when_the_data_thread_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed").to_owned();
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        // The message is left out: it may quote what was being handled.
        let facts = serde_json::json!({"thread": name, "place": place});
        log::last_line(log::Level::Error, "panic", facts);
        if name == "data" {
            std::process::abort();
        }
    }));
}
