//! The process of an endpoint: start, confinement, service over the link, and its own end.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

use common::client::{Gateway, Identity, dial, greeted};
use common::{Control, assert_confined, frame, read_head, read_record, say, status};
use lockgate_dataplane::link::{FlowAudit, FromEdge, ToEdge, VERSION};
use rustix::process::{Pid, Signal, kill_process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lockgate-edge");

/// Starts an edge and tells its process id. On a line of input waits for it and tells its exit
/// code; ends before it at the end of input. `setpriv` has the kernel signal the edge at that
/// moment, unless the edge does not want it.
const SHELL: &str = "setpriv --pdeathsig TERM \"$0\" client < \"$1\" & echo $!; \
                     read line && { wait $!; echo $?; }";

/// An edge whose parent is a shell.
struct Running {
    shell: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    edge: Pid,
    log: BufReader<ChildStderr>,
    directory: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.shell.wait();
        let _ = kill_process(self.edge, Signal::KILL);
    }
}

impl Running {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let link = OwnedFd::from(UnixListener::bind(directory.path().join("link")).unwrap());
        rustix::io::fcntl_setfd(&link, rustix::io::FdFlags::empty()).unwrap();
        let document = serde_json::json!({"link_fd": link.as_raw_fd(), "control_uid": null});
        let bootstrap = directory.path().join("bootstrap");
        std::fs::write(&bootstrap, document.to_string()).unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", SHELL, PROGRAM])
            .arg(&bootstrap)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        Self {
            input: shell.stdin.take(),
            output,
            log: BufReader::new(shell.stderr.take().unwrap()),
            edge: Pid::from_raw(line.trim().parse().unwrap()).unwrap(),
            shell,
            directory,
        }
    }

    /// Reads the log up to the line with this event.
    fn log_line(&mut self, event: &str) -> serde_json::Value {
        loop {
            let mut line = String::new();
            let length = self.log.read_line(&mut line).unwrap();
            assert_ne!(length, 0, "no {event} in the log");
            let value: serde_json::Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            if value["event"] == event {
                return value;
            }
            assert_ne!(value["level"], "error", "{line}");
        }
    }

    fn link(&self) -> PathBuf {
        self.directory.path().join("link")
    }

    /// Ends the parent.
    fn orphan(&mut self) {
        drop(self.input.take());
        self.shell.wait().unwrap();
    }

    /// Waits for the edge, of which the parent tells the exit code.
    fn exit_code(&mut self) -> String {
        self.input.take().unwrap().write_all(b"\n").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }
}

fn open_session() -> ToEdge {
    ToEdge::OpenSession {
        session: 9,
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
    }
}

/// Whether the next service finds the session.
async fn finds_a_session(edge: &Running) -> (Control, bool) {
    let mut control = Control::connect(&edge.link()).await;
    control.send(&ToEdge::Hello { version: VERSION }).await;
    match control.next().await {
        FromEdge::Hello { sessions, .. } => (control, sessions.len() == 1),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_edge_of_an_endpoint_works_without_rights_and_outlives_its_parent() {
    let mut edge = Running::start();
    let confined = edge.log_line("confined");
    assert_eq!(confined["profile"], "client");
    edge.log_line("started");
    let mut control = greeted(&edge.link()).await;

    // A dial with a socket of ours, and a word each way.
    let identity = Identity::self_signed("gw.test");
    let gateway = Gateway::new(identity.config()).await;
    let socket = std::net::TcpStream::connect(gateway.address).unwrap();
    let message = ToEdge::Dial(Box::new(dial(5, &[], &identity.pin)));
    control.send_with(&message, &[socket.as_fd()]).await;
    drop(socket);
    let mut stream = gateway.tls().await.unwrap();
    read_head(&mut stream).await;
    say(&mut stream, b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await;
    assert!(matches!(control.next().await, FromEdge::Dialed(_)));
    let down = ToEdge::Frame {
        conn: 5,
        vendor: 1,
        kind: 2,
        body: b"down".to_vec(),
    };
    control.send(&down).await;
    assert_eq!(read_record(&mut stream).await, frame(1, 2, 0, b"down"));
    say(&mut stream, &frame(1, 3, 0, b"up")).await;
    assert!(matches!(
        control.next().await,
        FromEdge::Frame {
            conn: 5,
            kind: 3,
            ..
        }
    ));

    // A session, a port, the connection is handed over.
    control.send(&open_session()).await;
    let (near, far) = (
        UdpSocket::bind("127.0.0.1:0"),
        UdpSocket::bind("127.0.0.1:0"),
    );
    let near = near.unwrap();
    near.connect(far.unwrap().local_addr().unwrap()).unwrap();
    let message = ToEdge::SetPort { session: 9 };
    control.send_with(&message, &[near.as_fd()]).await;
    let attach = ToEdge::Attach {
        conn: 5,
        session: 9,
    };
    control.send(&attach).await;
    say(&mut stream, &frame(0xa4c, 1, 1, b"attached")).await;
    loop {
        match control.next().await {
            FromEdge::Frame { kind: 1, body, .. } => break assert_eq!(body, b"attached"),
            FromEdge::TransportChanged { .. } | FromEdge::Stats { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    // Every thread is confined.
    let process = PathBuf::from(format!("/proc/{}", edge.edge.as_raw_nonzero()));
    for task in std::fs::read_dir(process.join("task")).unwrap() {
        assert_confined(&status(&task.unwrap().path().join("status")));
    }

    // The service dies, its edge does not; the next one finds the session.
    drop(control);
    edge.orphan();
    let (control, found) = finds_a_session(&edge).await;
    assert!(found);
    drop(control);

    kill_process(edge.edge, Signal::TERM).unwrap();
    assert_eq!(edge.log_line("stopping")["reason"], "SIGTERM");
    edge.log_line("stopped");
}

#[tokio::test]
async fn an_edge_that_nobody_needs_ends_by_itself() {
    let mut edge = Running::start();
    edge.log_line("started");
    let (mut control, found) = finds_a_session(&edge).await;
    assert!(!found);
    control.send(&open_session()).await;
    let close = ToEdge::CloseSession {
        session: 9,
        fatal: None,
    };
    control.send(&close).await;
    drop(control);
    assert_eq!(edge.log_line("stopping")["reason"], "nobody to serve");
    edge.log_line("stopped");
    assert_eq!(edge.exit_code(), "0\n");
}

#[test]
fn bootstrap_mistakes_end_the_start_with_a_reason() {
    for (document, wanted) in [
        ("", "not JSON"),
        ("{}", "missing field `link_fd`"),
        (r#"{"link_fd": 99}"#, "not handed over"),
    ] {
        let mut child = Command::new(PROGRAM)
            .arg("client")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(document.as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let line: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(line["event"], "cannot-start");
        assert!(line["reason"].as_str().unwrap().contains(wanted), "{line}");
    }
}
