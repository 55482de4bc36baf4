//! What a confined process cannot do, shown by processes that try.
//!
//! `tried` is no test of its own: the other tests run it in a child, with a word in the
//! environment for what to try, because nobody can take confinement off again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use lockgate_edge::confine;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketType, recvmsg, sendmsg,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lockgate-edge");
const TRY: &str = "LOCKGATE_TEST_TRY";
const CLIENT: &str = "LOCKGATE_TEST_CLIENT";

/// Exit codes of a child that tried.
const DENIED: i32 = 42;
const ALLOWED: i32 = 43;

#[test]
fn tried() {
    let Ok(what) = std::env::var(TRY) else { return };
    let parent = rustix::process::getppid().unwrap();
    let before = Before::new();
    if std::env::var(CLIENT).is_ok() {
        confine::client().unwrap();
    } else {
        confine::edge(Path::new("/tmp/http")).unwrap();
    }
    let allowed = match what.as_str() {
        "nothing" => true,
        "read" => std::fs::read("/etc/passwd").is_ok(),
        "list" => std::fs::read_dir("/").is_ok(),
        "write" => std::fs::write("/tmp/lockgate-test-edge", "x").is_ok(),
        "tcp" => TcpListener::bind("127.0.0.1:0").is_ok(),
        "udp" => UdpSocket::bind("127.0.0.1:0").is_ok(),
        "unix" => UnixStream::pair().is_ok(),
        "unix-socket" => rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).is_ok(),
        "connect" => before.udp.connect("127.0.0.1:9").is_ok(),
        "accept" => before.listener.accept().is_ok(),
        "receive" => before.receive(),
        "thread" => std::thread::Builder::new()
            .spawn(|| 1)
            .is_ok_and(|thread| thread.join().is_ok()),
        "exec" => Command::new("/bin/true").status().is_ok(),
        "priority" => rustix::process::setpriority_process(None, 5).is_ok(),
        "kill" => rustix::process::kill_process(parent, rustix::process::Signal::CONT).is_ok(),
        "chroot" => rustix::process::chroot("/").is_ok(),
        "ptrace" => ptrace(),
        "mount" => {
            rustix::mount::mount_change("/", rustix::mount::MountPropagationFlags::PRIVATE).is_ok()
        }
        "panic" => std::panic::catch_unwind(|| panic!("as planned")).is_err(),
        "abort" => std::process::abort(),
        other => panic!("{other}"),
    };
    std::process::exit(if allowed { ALLOWED } else { DENIED });
}

/// What a process has before it is confined.
struct Before {
    udp: UdpSocket,
    listener: UnixListener,
    /// Holds a message with a TCP socket.
    link: UnixStream,
    _others: Vec<OwnedFd>,
}

impl Before {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("link");
        let listener = UnixListener::bind(&path).unwrap();
        let waiting = UnixStream::connect(&path).unwrap();
        let (link, sender) = UnixStream::pair().unwrap();
        let gateway = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(gateway.local_addr().unwrap()).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [tcp.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let slices = [IoSlice::new(b"x")];
        sendmsg(&sender, &slices, &mut control, SendFlags::empty()).unwrap();
        Self {
            udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
            listener,
            link,
            _others: vec![waiting.into(), sender.into(), gateway.into(), tcp.into()],
        }
    }

    /// Takes the socket from the message and does with it what the data thread does.
    fn receive(&self) -> bool {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut slices = [IoSliceMut::new(&mut byte)];
        recvmsg(
            &self.link,
            &mut slices,
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .unwrap();
        let Some(RecvAncillaryMessage::ScmRights(mut received)) = control.drain().next() else {
            return false;
        };
        let socket = TcpStream::from(received.next().unwrap());
        socket.set_nonblocking(true).is_ok()
            && socket.set_nodelay(true).is_ok()
            && rustix::net::sockopt::set_socket_keepalive(&socket, true).is_ok()
            && socket.peer_addr().is_ok()
    }
}

/// Asks to be traced by the parent: the form of ptrace that needs no right.
fn ptrace() -> bool {
    // SAFETY: PTRACE_TRACEME takes no pointer and changes no memory of this process.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
    result == 0
}

fn try_in_child(what: &str) -> Output {
    attempt(what).output().unwrap()
}

/// As the edge of an endpoint.
fn try_as_client(what: &str) -> Output {
    attempt(what).env(CLIENT, "1").output().unwrap()
}

fn attempt(what: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "tried", "--nocapture", "--test-threads=1"])
        .env(TRY, what);
    command
}

#[test]
fn the_edge_may_do_what_it_needs_and_nothing_else() {
    for (what, wanted) in [
        ("nothing", ALLOWED),
        ("unix", ALLOWED),
        ("thread", ALLOWED),
        ("panic", ALLOWED),
        ("read", DENIED),
        ("list", DENIED),
        ("write", DENIED),
        ("tcp", DENIED),
        ("udp", DENIED),
        ("priority", DENIED),
        ("kill", DENIED),
    ] {
        let output = try_in_child(what);
        assert_eq!(output.status.code(), Some(wanted), "{what}: {output:?}");
    }
}

#[test]
fn the_edge_of_an_endpoint_makes_no_socket_and_takes_what_it_is_given() {
    for (what, wanted) in [
        ("nothing", ALLOWED),
        ("receive", ALLOWED),
        ("accept", ALLOWED),
        ("thread", ALLOWED),
        ("panic", ALLOWED),
        ("unix", DENIED),
        ("unix-socket", DENIED),
        ("connect", DENIED),
        ("read", DENIED),
        ("list", DENIED),
        ("write", DENIED),
        ("tcp", DENIED),
        ("udp", DENIED),
        ("exec", DENIED),
        ("priority", DENIED),
        ("kill", DENIED),
    ] {
        let output = try_as_client(what);
        assert_eq!(output.status.code(), Some(wanted), "{what}: {output:?}");
    }
}

#[test]
fn what_only_an_intruder_tries_ends_the_edge() {
    for what in ["ptrace", "mount", "chroot"] {
        for output in [try_in_child(what), try_as_client(what)] {
            assert_eq!(
                output.status.signal(),
                Some(libc::SIGSYS),
                "{what}: {output:?}"
            );
        }
    }
    // Starting a program begins with a new process, which fails already.
    assert_eq!(try_in_child("exec").status.code(), Some(DENIED));
    // A crash is a crash, not a violation.
    assert_eq!(try_in_child("abort").status.signal(), Some(libc::SIGABRT));
}

/// Python that tells of each socket whether it can be made.
const SOCKETS: &str = "
import socket as s
for family, kind, protocol in [
    (s.AF_UNIX, s.SOCK_STREAM, 0),
    (s.AF_INET, s.SOCK_STREAM, 0),
    (s.AF_INET, s.SOCK_STREAM, s.IPPROTO_TCP),
    (s.AF_INET6, s.SOCK_DGRAM, s.IPPROTO_UDP),
    (s.AF_NETLINK, s.SOCK_RAW, s.NETLINK_ROUTE),
    (s.AF_INET, s.SOCK_DGRAM, s.IPPROTO_ICMP),
    (s.AF_INET6, s.SOCK_STREAM, 262),
    (s.AF_NETLINK, s.SOCK_RAW, 12),
    (s.AF_PACKET, s.SOCK_DGRAM, 0),
    (s.AF_VSOCK, s.SOCK_STREAM, 0),
    (38, s.SOCK_SEQPACKET, 0),
]:
    try:
        s.socket(family, kind, protocol).close()
        print('made', end=' ')
    except PermissionError:
        print('refused', end=' ')
";

#[test]
fn programs_make_sockets_for_the_internet_and_this_machine_only() {
    let directory = tempfile::tempdir().unwrap();
    for profile in ["supervisor", "control"] {
        let output = script(
            profile,
            directory.path(),
            &format!("exec python3 -c \"{SOCKETS}\""),
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            format!("{}{}", "made ".repeat(5), "refused ".repeat(6)).trim(),
            "{profile}: {output:?}"
        );
    }
}

/// Runs a shell script under a profile that may read everything and write `directory`.
fn script(profile: &str, directory: &Path, text: &str) -> Output {
    Command::new(PROGRAM)
        .args(["confine", "--profile", profile, "--read", "/", "--write"])
        .arg(directory)
        .args(["--write", "/dev/null", "--", "/bin/sh", "-c", text])
        .output()
        .unwrap()
}

#[test]
fn programs_run_without_capabilities_and_only_in_their_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    for profile in ["supervisor", "control"] {
        let output = script(
            profile,
            directory.path(),
            "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; ulimit -c",
        );
        let text = String::from_utf8(output.stdout).unwrap();
        for line in [
            "CapInh:\t0000000000000000",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapAmb:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(text.contains(line), "{profile}: {line} not in {text}");
        }
        assert!(text.ends_with("\n0\n"), "{text}");
        let log: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(
            (log["event"].as_str(), log["profile"].as_str()),
            (Some("confined"), Some(profile))
        );

        let works = [
            format!("echo x > {path}/{profile} && cat {path}/{profile} && rm {path}/{profile}"),
            "cat /etc/passwd".to_owned(),
            "echo x > /dev/null".to_owned(),
            "(exit 0) & wait".to_owned(),
        ];
        for text in works {
            let output = script(profile, directory.path(), &text);
            assert!(output.status.success(), "{profile}: {text}: {output:?}");
        }
        let fails = [
            "echo x > /tmp/lockgate-test-outside",
            "unshare -m true",
            "unshare -U true",
            "mount -t tmpfs none /mnt",
            "chroot / true",
            "hostname elsewhere",
        ];
        for text in fails {
            let output = script(profile, directory.path(), text);
            assert!(!output.status.success(), "{profile}: {text}: {output:?}");
        }
    }
    // Without --read not even the program itself can be executed.
    let output = Command::new(PROGRAM)
        .args(["confine", "--profile", "control", "--", "/bin/true"])
        .output()
        .unwrap();
    if confine::landlock_abi() > 0 {
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("cannot execute /bin/true"));
    }
}

#[test]
fn a_namespace_with_one_user_is_enough() {
    // Where user namespaces are forbidden there is nothing to show.
    let unshare = |rest: &[&str]| {
        Command::new("unshare")
            .args(["-U", "-r"])
            .args(rest)
            .output()
            .unwrap()
    };
    if !unshare(&["true"]).status.success() {
        return;
    }
    let output = unshare(&[
        PROGRAM,
        "confine",
        "--profile",
        "control",
        "--read",
        "/",
        "--",
        "/bin/grep",
        "CapEff",
        "/proc/self/status",
    ]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "CapEff:\t0000000000000000\n",
        "{output:?}"
    );
}

#[test]
fn root_becomes_the_user_it_is_told() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let output = Command::new(PROGRAM)
        .args([
            "confine",
            "--profile",
            "control",
            "--uid",
            "65534",
            "--gid",
            "65534",
            "--read",
            "/",
            "--",
        ])
        .args(["/bin/sh", "-c", "id -u; id -g; id -G; cat /etc/shadow"])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "65534\n65534\n65534\n"
    );
    assert!(!output.status.success());
    // Somebody without rights cannot become anybody, and keeps working without that.
    let nobody = |rest: &[&str]| {
        Command::new("setpriv")
            .args([
                "--reuid",
                "65534",
                "--regid",
                "65534",
                "--clear-groups",
                "--inh-caps=-all",
            ])
            .arg(PROGRAM)
            .args(["confine", "--profile", "control", "--read", "/"])
            .args(rest)
            .output()
            .unwrap()
    };
    let refused = nobody(&["--uid", "0", "--gid", "0", "--", "/bin/true"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let works = nobody(&["--", "/bin/grep", "CapEff", "/proc/self/status"]);
    assert_eq!(
        String::from_utf8_lossy(&works.stdout),
        "CapEff:\t0000000000000000\n",
        "{works:?}"
    );
}
