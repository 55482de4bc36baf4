//! Both ends of the edge link read and write the same bytes: `tests/vectors/edge_link.json`.
//!
//! The file is written by the Python end; every message is decoded and encoded again here. The
//! name of a vector begins with direction and message: `to_edge/attach`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;

use lockgate_dataplane::link::{FromEdge, ToEdge};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Every message; the compiler asks for new ones in [`name_to`] and [`name_from`], the test for
/// their vectors.
const TO_EDGE: &[&str] = &[
    "hello",
    "keepalive",
    "report_stats",
    "open_session",
    "attach",
    "frame",
    "close_conn",
    "install_esp_in",
    "install_esp_out",
    "set_rules",
    "set_deadline",
    "set_limits",
    "close_session",
    "barrier",
    "dial",
    "set_tun",
    "set_port",
    "start_esp",
];
const FROM_EDGE: &[&str] = &[
    "hello",
    "conn_opened",
    "frame",
    "conn_closed",
    "session_ended",
    "transport_changed",
    "rekey_wanted",
    "barrier_passed",
    "flows",
    "dialed",
    "dial_failed",
    "path_mtu",
    "stats",
];

fn name_to(message: &ToEdge) -> &'static str {
    match message {
        ToEdge::Hello { .. } => "hello",
        ToEdge::Keepalive {} => "keepalive",
        ToEdge::ReportStats {} => "report_stats",
        ToEdge::OpenSession { .. } => "open_session",
        ToEdge::Attach { .. } => "attach",
        ToEdge::Frame { .. } => "frame",
        ToEdge::CloseConn { .. } => "close_conn",
        ToEdge::InstallEspIn { .. } => "install_esp_in",
        ToEdge::InstallEspOut { .. } => "install_esp_out",
        ToEdge::SetRules { .. } => "set_rules",
        ToEdge::SetDeadline { .. } => "set_deadline",
        ToEdge::SetLimits { .. } => "set_limits",
        ToEdge::CloseSession { .. } => "close_session",
        ToEdge::Barrier { .. } => "barrier",
        ToEdge::Dial(_) => "dial",
        ToEdge::SetTun { .. } => "set_tun",
        ToEdge::SetPort { .. } => "set_port",
        ToEdge::StartEsp { .. } => "start_esp",
    }
}

fn name_from(message: &FromEdge) -> &'static str {
    match message {
        FromEdge::Hello { .. } => "hello",
        FromEdge::ConnOpened(_) => "conn_opened",
        FromEdge::Frame { .. } => "frame",
        FromEdge::ConnClosed { .. } => "conn_closed",
        FromEdge::SessionEnded { .. } => "session_ended",
        FromEdge::TransportChanged { .. } => "transport_changed",
        FromEdge::RekeyWanted { .. } => "rekey_wanted",
        FromEdge::BarrierPassed { .. } => "barrier_passed",
        FromEdge::Flows { .. } => "flows",
        FromEdge::Dialed(_) => "dialed",
        FromEdge::DialFailed { .. } => "dial_failed",
        FromEdge::PathMtu { .. } => "path_mtu",
        FromEdge::Stats { .. } => "stats",
    }
}

/// Name and bytes of the vectors of one direction.
fn vectors(direction: &str) -> Vec<(String, Vec<u8>)> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/vectors/edge_link.json"
    );
    let list: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let vectors = list.as_array().unwrap().iter().filter_map(|vector| {
        let name = vector["name"]
            .as_str()
            .unwrap()
            .strip_prefix(direction)?
            .strip_prefix('/')?;
        let hex = vector["hex"].as_str().unwrap();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        Some((
            name.to_owned(),
            (0..hex.len()).step_by(2).map(byte).collect(),
        ))
    });
    vectors.collect()
}

fn check<T: DeserializeOwned + Serialize>(
    direction: &str,
    all: &[&str],
    name_of: fn(&T) -> &'static str,
) {
    let mut seen = BTreeSet::new();
    for (name, bytes) in vectors(direction) {
        let message: T = rmp_serde::from_slice(&bytes)
            .unwrap_or_else(|problem| panic!("{direction}/{name}: {problem}"));
        assert_eq!(
            name.split('/').next(),
            Some(name_of(&message)),
            "{direction}/{name}"
        );
        assert!(
            rmp_serde::to_vec_named(&message).unwrap() == bytes,
            "{direction}/{name} is encoded differently"
        );
        for cut in 0..bytes.len() {
            assert!(
                rmp_serde::from_slice::<T>(&bytes[..cut]).is_err(),
                "{direction}/{name} cut at {cut}"
            );
        }
        seen.insert(name_of(&message));
    }
    assert_eq!(
        seen,
        all.iter().copied().collect(),
        "every message of {direction} needs a vector"
    );
}

#[test]
fn messages_to_the_edge() {
    check("to_edge", TO_EDGE, name_to);
}

#[test]
fn messages_from_the_edge() {
    check("from_edge", FROM_EDGE, name_from);
}
