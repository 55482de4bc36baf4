//! `lockgate-edge self-check`: what this kernel offers for speed and confinement.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::confine;

/// Prints one fact a line, or one JSON object. Exit code 1 when something required is missing.
pub fn run(as_json: bool) -> ExitCode {
    let facts = facts();
    if as_json {
        println!("{facts}");
    } else if let Value::Object(map) = &facts {
        for (name, value) in map {
            println!("{name}: {value}");
        }
    }
    let usable = facts.get("seccomp") == Some(&Value::Bool(true));
    ExitCode::from(u8::from(!usable))
}

fn facts() -> Value {
    let (gso, gro) = udp_segments();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": rustix::system::uname().release().to_string_lossy(),
        "landlock_abi": confine::landlock_abi(),
        "seccomp": Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        "tun": Path::new("/dev/net/tun").exists(),
        "user_namespaces": user_namespaces(),
        "udp_gso_segments": gso,
        "udp_gro_segments": gro,
    })
}

/// Most datagrams one system call sends or receives on one UDP socket; 1 is no offload.
fn udp_segments() -> (usize, usize) {
    let state = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| quinn_udp::UdpSocketState::new((&socket).into()));
    match state {
        Ok(state) => (state.max_gso_segments(), state.gro_segments()),
        Err(_) => (1, 1),
    }
}

/// Whether an ordinary user may make a user namespace, as far as settings tell.
fn user_namespaces() -> bool {
    let setting = |path: &str| std::fs::read_to_string(path).ok();
    let most = setting("/proc/sys/user/max_user_namespaces").is_some_and(|text| text.trim() != "0");
    let denied = setting("/proc/sys/kernel/unprivileged_userns_clone")
        .is_some_and(|text| text.trim() == "0");
    most && !denied
}
