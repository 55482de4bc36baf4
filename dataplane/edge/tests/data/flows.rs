//! Records of flows, from packets in the tunnel and in the TUN to what the control plane is told.

use lockgate_dataplane::link::{Flow, FlowAudit, FlowCause, FromEdge, Rule, ToEdge};
use lockgate_edge::data::ToData;

use crate::gateway::{Edge, Gateway, RULE_SET, SESSION, Settings, allow};
use crate::packets::{CLIENT4, HOST4, super_packet_between, udp};

/// More than an interval, and than records wait for each other.
const LATER: u64 = 75_000;
const DENIED4: &str = "10.99.0.1:53";

/// All that is allowed but one network.
fn settings(flows: FlowAudit) -> Settings {
    let denied = Rule {
        allow: false,
        address: vec![10, 99, 0, 0],
        prefix: 16,
        ..allow(&[0; 4])
    };
    Settings {
        rules: vec![denied, allow(&[0; 4])],
        flows,
        ..Settings::default()
    }
}

/// The number and the records of the next message about flows.
fn told(edge: &Edge) -> (u64, Vec<Flow>) {
    match edge.wait_for(|news| matches!(news, FromEdge::Flows { .. })) {
        FromEdge::Flows { number, flows, .. } => (number, flows),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_passed_and_what_was_denied_is_told_with_the_rule_that_decided() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_tls(settings(FlowAudit::All));
    client.send_packet(&udp(CLIENT4, HOST4, &[7; 72]));
    assert_eq!(gateway.take().1.len(), 100);
    let (header, packet, _) = super_packet_between(HOST4, CLIENT4, 20, 1000);
    gateway.put_super(header, &packet);
    (0..20).for_each(|_| assert_eq!(client.frame().body.len(), 1040));
    for _ in 0..3 {
        client.send_packet(&udp(CLIENT4, DENIED4, &[7; 12]));
    }
    gateway.wait_counter("denied", 3);
    gateway.advance(LATER);
    gateway.advance(LATER);
    let (number, mut flows) = told(&gateway);
    assert_eq!(number, 0);
    flows.sort_by_key(|flow| (flow.allowed, flow.protocol));
    let [denied, down, up] = &flows[..] else {
        panic!("{flows:?}")
    };
    let both = 2 * LATER;
    let wanted = Flow {
        session: SESSION,
        allowed: false,
        rule_set: RULE_SET,
        rule: Some(0),
        protocol: 17,
        remote: vec![10, 99, 0, 1],
        port: Some(53),
        outbound: true,
        first: both,
        last: both,
        packets_in: 3,
        bytes_in: 120,
        packets_out: 0,
        bytes_out: 0,
        cause: FlowCause::Interval,
    };
    assert_eq!(*denied, wanted);
    let wanted = Flow {
        allowed: true,
        rule: Some(1),
        remote: vec![10, 77, 0, 1],
        port: Some(7),
        packets_in: 1,
        bytes_in: 100,
        cause: FlowCause::Idle,
        ..wanted
    };
    assert_eq!(*up, wanted);
    let wanted = Flow {
        protocol: 6,
        outbound: false,
        packets_in: 0,
        bytes_in: 0,
        packets_out: 20,
        bytes_out: 20 * 1040,
        ..wanted
    };
    assert_eq!(*down, wanted);
}

#[test]
fn records_are_made_when_rules_change_and_when_the_session_ends_as_long_as_they_are_wanted() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_tls(settings(FlowAudit::Denied));
    let mut send = |to: &str, count: u64| {
        let before = gateway.counter("denied");
        client.send_packet(&udp(CLIENT4, HOST4, b"passes"));
        (0..count).for_each(|_| client.send_packet(&udp(CLIENT4, to, b"does not")));
        gateway.wait_counter("denied", before + count);
    };
    let set_limits = |flows| {
        gateway.order(ToEdge::SetLimits {
            session: SESSION,
            rate_in: 0,
            rate_out: 0,
            flows,
        });
    };
    send(DENIED4, 1);
    gateway.order(ToEdge::SetRules {
        session: SESSION,
        revision: 2,
        rule_set: RULE_SET + 1,
        rules: settings(FlowAudit::Denied).rules,
    });
    send(DENIED4, 2);
    set_limits(FlowAudit::None);
    send(DENIED4, 4);
    set_limits(FlowAudit::Denied);
    send("10.99.0.2:53", 1);
    gateway.order(ToEdge::CloseSession {
        session: SESSION,
        fatal: None,
    });
    gateway.advance(LATER);
    let (_, flows) = told(&gateway);
    let facts: Vec<_> = flows
        .iter()
        .map(|flow| (flow.rule_set, flow.packets_in, flow.cause))
        .collect();
    assert_eq!(
        facts,
        [
            (RULE_SET, 1, FlowCause::Changed),
            (RULE_SET + 1, 2, FlowCause::Changed),
            (RULE_SET + 1, 1, FlowCause::Session)
        ]
    );
}

#[test]
fn records_wait_for_a_control_plane() {
    let mut gateway = Gateway::start();
    let (mut client, _) = gateway.on_tls(settings(FlowAudit::Denied));
    gateway.handle.send(ToData::LinkDown);
    client.send_packet(&udp(CLIENT4, DENIED4, b"x"));
    while gateway.session().traffic.dropped == 0 {
        gateway.sync();
    }
    gateway.advance(LATER);
    gateway.advance(LATER);
    let is_flows = |news: &FromEdge| matches!(news, FromEdge::Flows { .. });
    assert!(!gateway.all_news().iter().any(is_flows));
    gateway.handle.send(ToData::LinkUp);
    gateway.advance(1);
    let (number, flows) = told(&gateway);
    assert_eq!((number, flows.len()), (0, 1));
    // The news may be made before the last step of the clock, or after it.
    let age = flows[0].last;
    assert!((2 * LATER..=2 * LATER + 1).contains(&age), "{age} ms old");
}
