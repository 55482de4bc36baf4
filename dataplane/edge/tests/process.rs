//! The program itself: start, confinement as the kernel shows it, service under the filters, stop.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;

use common::{Control, UPGRADE, assert_confined, frame, read_head, read_record, say, soon, status};
use lockgate_dataplane::link::{EndCause, FlowAudit, FromEdge, ToEdge, VERSION};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lockgate-edge");

/// Enough to grow every pool and table; most of the test's time is their handshakes.
const CROWD: usize = 1000;

/// Ends the process when a test fails on the way.
struct Running {
    child: Child,
    errors: std::io::BufReader<ChildStderr>,
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    directory: tempfile::TempDir,
    _tun: OwnedFd,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets a child inherit the descriptor.
fn inherit(descriptor: &OwnedFd) -> i32 {
    rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty()).unwrap();
    descriptor.as_raw_fd()
}

impl Running {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listener = OwnedFd::from(listener);
        let udp = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let link = OwnedFd::from(UnixListener::bind(directory.path().join("link")).unwrap());
        // A socket that keeps packets apart stands for the TUN.
        let (tun, other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let (tun, other) = (OwnedFd::from(tun), OwnedFd::from(other));
        let made = rcgen::generate_simple_self_signed(vec!["gw.test".to_owned()]).unwrap();
        let document = serde_json::json!({
            "listeners": [{"fd": inherit(&listener), "role": "gateway"}],
            "udp": [{"fd": inherit(&udp)}],
            "tun_fd": inherit(&tun),
            "link_fd": inherit(&link),
            "http_socket": directory.path().join("http"),
            "certificates": [{
                "names": ["gw.test"], "chain": made.cert.pem(), "key": made.signing_key.serialize_pem(),
            }],
            "reserved": ["10.88.0.0/16"],
            "limits": {"new_per_second": 100_000, "new_burst": 100_000, "half_open_per_address": 2000,
                       "sign_in_per_address": 2000},
        });
        let mut child = Command::new(PROGRAM)
            .arg("run")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .env("RUST_BACKTRACE", "1")
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(document.to_string().as_bytes())
            .unwrap();
        let errors = std::io::BufReader::new(child.stderr.take().unwrap());
        let certificate = made.cert.der().clone();
        Self {
            child,
            errors,
            address,
            certificate,
            directory,
            _tun: other,
        }
    }

    /// Reads the log up to the line with this event.
    fn log_line(&mut self, event: &str) -> serde_json::Value {
        loop {
            let mut line = String::new();
            assert_ne!(
                std::io::BufRead::read_line(&mut self.errors, &mut line).unwrap(),
                0,
                "no {event} in the log"
            );
            let value: serde_json::Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            if value["event"] == event {
                return value;
            }
            assert_ne!(value["level"], "error", "{line}");
        }
    }

    async fn control(&self) -> Control {
        let mut control = Control::connect(&self.directory.path().join("link")).await;
        control.send(&ToEdge::Hello { version: VERSION }).await;
        assert!(matches!(
            control.next().await,
            FromEdge::Hello {
                version: VERSION,
                ..
            }
        ));
        control
    }

    async fn tls(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("gw.test").unwrap();
        soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .unwrap();
    }
}

#[tokio::test]
async fn the_edge_serves_a_crowd_with_no_rights_left() {
    let mut edge = Running::start();
    let confined = edge.log_line("confined");
    assert_eq!(confined["seccomp"], "filter");
    edge.log_line("started");
    let mut control = edge.control().await;

    // Many tunnels at once, each says something and hears something.
    let mut clients = Vec::new();
    for _ in 0..CROWD {
        control.send(&ToEdge::Keepalive {}).await;
        let mut client = edge.tls().await.unwrap();
        say(&mut client, UPGRADE.as_bytes()).await;
        clients.push(client);
    }
    for client in &mut clients {
        assert!(read_head(client).await.starts_with("HTTP/1.1 101 "));
        say(client, &frame(0x5597, 1, 0, &[0, 1, 2, 2])).await;
    }
    let mut heard = 0;
    while heard < CROWD {
        if let FromEdge::Frame { conn, .. } = control.next().await {
            heard += 1;
            control
                .send(&ToEdge::Frame {
                    conn,
                    vendor: 0x5597,
                    kind: 2,
                    body: vec![0, 0, 0, 2],
                })
                .await;
        }
    }
    for client in &mut clients {
        assert_eq!(
            read_record(client).await,
            frame(0x5597, 2, 0x1f4, &[0, 0, 0, 2])
        );
    }

    // Every thread is confined, also those started later.
    let tasks = format!("/proc/{}/task", edge.child.id());
    let mut threads = 0;
    for task in std::fs::read_dir(tasks).unwrap() {
        assert_confined(&status(&task.unwrap().path().join("status")));
        threads += 1;
    }
    assert!(threads >= 5, "{threads} threads");
    assert_eq!(
        status(Path::new(&format!("/proc/{}/status", edge.child.id())))["CoreDumping"],
        "0"
    );
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", edge.child.id())).unwrap();
    assert!(limits.lines().any(|line| {
        line.split_whitespace()
            .collect::<Vec<_>>()
            .starts_with(&["Max", "core", "file", "size", "0", "0"])
    }));

    edge.signal(rustix::process::Signal::TERM);
    let stopped = edge.child.wait().unwrap();
    assert_eq!(stopped.code(), Some(0), "{stopped}");
    edge.log_line("stopping");
    edge.log_line("stopped");
}

#[tokio::test]
async fn attached_connections_work_under_the_filters() {
    let mut edge = Running::start();
    edge.log_line("started");
    let mut control = edge.control().await;
    let mut client = edge.tls().await.unwrap();
    say(&mut client, UPGRADE.as_bytes()).await;
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 101 "));
    let conn = control.opened().await.conn;
    control
        .send(&ToEdge::OpenSession {
            session: 1,
            generation: 1,
            address4: vec![10, 88, 0, 2],
            address6: vec![],
            mtu: 1400,
            remaining: 600,
            idle: 0,
            fallback: 5,
            revision: 1,
            rule_set: 0,
            rules: vec![],
            esp_in: None,
            cross_family: false,
            rate_in: 0,
            rate_out: 0,
            flows: FlowAudit::None,
        })
        .await;
    control.send(&ToEdge::Attach { conn, session: 1 }).await;
    control
        .send(&ToEdge::Frame {
            conn,
            vendor: 0xa4c,
            kind: 0x8f,
            body: vec![0; 4],
        })
        .await;
    assert_eq!(
        read_record(&mut client).await,
        frame(0xa4c, 0x8f, 0x1f4, &[0; 4])
    );
    // A message of the client comes up through the data thread now.
    say(&mut client, &frame(0xa4c, 1, 7, b"")).await;
    loop {
        match control.next().await {
            FromEdge::Frame {
                conn: from, kind, ..
            } => {
                assert_eq!((from, kind), (conn, 1));
                break;
            }
            FromEdge::TransportChanged { .. } | FromEdge::Stats { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    // The control plane restarts and finds the session.
    drop(control);
    let mut control = Control::connect(&edge.directory.path().join("link")).await;
    control.send(&ToEdge::Hello { version: VERSION }).await;
    match control.next().await {
        FromEdge::Hello { sessions, .. } => {
            assert_eq!((sessions[0].session, sessions[0].conn), (1, conn))
        }
        other => panic!("{other:?}"),
    }
    // What the client says while there is no control plane is heard by the next one.
    drop(control);
    say(&mut client, &frame(0xa4c, 1, 8, b"keys")).await;
    let mut control = Control::connect(&edge.directory.path().join("link")).await;
    control.send(&ToEdge::Hello { version: VERSION }).await;
    assert!(
        matches!(control.next().await, FromEdge::Hello { sessions, .. } if sessions.len() == 1)
    );
    loop {
        match control.next().await {
            FromEdge::Frame { kind, body, .. } => {
                assert_eq!((kind, body.as_slice()), (1, b"keys".as_slice()));
                break;
            }
            FromEdge::TransportChanged { .. } | FromEdge::Stats { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    // So is a logout, which is done by then.
    drop(control);
    say(&mut client, &frame(0xa4c, 0x89, 9, b"")).await;
    assert_eq!(common::read_all(&mut client).await, "");
    let mut control = Control::connect(&edge.directory.path().join("link")).await;
    control.send(&ToEdge::Hello { version: VERSION }).await;
    assert!(
        matches!(control.next().await, FromEdge::Hello { sessions, .. } if sessions.is_empty())
    );
    loop {
        match control.next().await {
            FromEdge::SessionEnded { session, cause, .. } => {
                assert_eq!((session, cause), (1, EndCause::Logout));
                break;
            }
            FromEdge::ConnClosed { .. } | FromEdge::Stats { .. } => {}
            FromEdge::TransportChanged { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn bootstrap_mistakes_end_the_start_with_a_reason() {
    for (document, wanted) in [
        ("", "not JSON"),
        ("{}", "missing field `listeners`"),
        ("[1]", "wrong kind"),
    ] {
        let mut child = Command::new(PROGRAM)
            .arg("run")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(document.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let line: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(line["event"], "cannot-start");
        assert!(line["reason"].as_str().unwrap().contains(wanted), "{line}");
    }
}

#[test]
fn facts_about_the_machine_and_usage() {
    let run = |arguments: &[&str]| Command::new(PROGRAM).args(arguments).output().unwrap();
    let check = run(&["self-check", "--json"]);
    let facts: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    assert!(
        facts["landlock_abi"].is_u64() && facts["udp_gso_segments"].is_u64(),
        "{facts}"
    );
    assert!(run(&["--version"]).stdout.starts_with(b"lockgate-edge "));
    assert_eq!(run(&["dance"]).status.code(), Some(2));
    assert_eq!(
        run(&["confine", "--profile", "edge", "--", "x"])
            .status
            .code(),
        Some(2)
    );
}
