#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
//! The gate as a table of packets, and against a slow judge.

use super::*;
use crate::packets::{self, Ipv4, Ipv6, Tcp, icmp, udp};
use proptest::prelude::*;

/// `allow|deny NETWORK [PROTOCOL [PORT|LOW-HIGH]] [reserved]`
pub(crate) fn rule(text: &str) -> Rule {
    let mut words = text.split_whitespace().peekable();
    let allow = words.next().unwrap() == "allow";
    let network: Network = words.next().unwrap().parse().unwrap();
    let address = match network.address() {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    let protocol = words
        .next_if(|word| word.parse::<u8>().is_ok())
        .map(|word| word.parse().unwrap());
    let (port_low, port_high) = match words.next_if(|word| *word != "reserved") {
        Some(range) => {
            let (low, high) = range.split_once('-').unwrap_or((range, range));
            (low.parse().unwrap(), high.parse().unwrap())
        }
        None => (0, u16::MAX),
    };
    let reserved = words.next() == Some("reserved");
    Rule {
        allow,
        protocol,
        address,
        prefix: network.prefix(),
        port_low,
        port_high,
        reserved,
    }
}

/// Rule sets over few addresses, protocols and ports, so that they meet the packets.
pub(crate) fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    let networks = prop::sample::select(
        &[
            "10.0.0.0/8",
            "10.0.0.0/24",
            "10.0.0.0/25",
            "10.0.0.7/32",
            "0.0.0.0/0",
            "::/0",
            "fd00::/16",
            "fd00::7/128",
        ][..],
    );
    let protocols = prop::sample::select(
        &[
            "",
            "6",
            "17",
            "1",
            "58",
            "6 80",
            "17 53",
            "6 0-1023",
            "17 100-65535",
        ][..],
    );
    let one = (any::<bool>(), networks, protocols, any::<bool>()).prop_map(
        |(allow, network, protocol, reserved)| {
            let allow = if allow { "allow" } else { "deny" };
            rule(&format!(
                "{allow} {network} {protocol} {}",
                if reserved { "reserved" } else { "" }
            ))
        },
    );
    proptest::collection::vec(one, 0..20)
}

const OWN4: &str = "10.88.0.10";
const OWN6: &str = "fd88::10";

fn gate(rules: &[&str]) -> Gate {
    let rules: Vec<_> = rules.iter().map(|text| rule(text)).collect();
    let reserved: Arc<[Network]> = ["10.88.0.0/16", "fd88::/64", "10.0.0.1/32"]
        .map(|n| n.parse().unwrap())
        .into();
    Gate::new(
        Some(OWN4.parse().unwrap()),
        Some(OWN6.parse().unwrap()),
        reserved,
        1,
        &rules,
    )
    .unwrap()
}

fn intranet() -> Gate {
    gate(&[
        "deny 10.0.0.13/32",
        "allow 10.0.0.0/16",
        "allow 172.16.0.0/12 6 443",
        "allow fd00::/16 17 53",
        "allow 10.88.0.20/32 6 22 reserved",
    ])
}

#[test]
fn from_the_client() {
    let tcp = |from: &str, to: &str| Tcp::default().build(from, to);
    for (packet, verdict) in [
        (tcp("10.88.0.10:5000", "10.0.5.5:80"), Ok(())),
        (tcp("10.88.0.10:5000", "10.0.0.13:80"), Err(Discard::Denied)),
        (tcp("10.88.0.10:5000", "172.16.1.1:443"), Ok(())),
        (tcp("10.88.0.10:443", "172.16.1.1:80"), Err(Discard::Denied)),
        (tcp("10.88.0.10:5000", "8.8.8.8:80"), Err(Discard::Denied)),
        (
            tcp("10.88.0.11:5000", "10.0.5.5:80"),
            Err(Discard::SpoofedSource),
        ),
        (
            tcp("10.88.0.10:5000", "10.88.0.10:80"),
            Err(Discard::Martian),
        ),
        (tcp("10.88.0.10:5000", "10.88.0.20:22"), Ok(())),
        (
            tcp("10.88.0.10:5000", "10.88.0.21:22"),
            Err(Discard::Denied),
        ),
        (tcp("10.88.0.10:5000", "10.0.0.1:22"), Err(Discard::Denied)), // reserved inside an allowed network
        (
            udp("10.88.0.10:5000", "224.0.0.251:5353", b""),
            Err(Discard::Martian),
        ),
        (
            udp("10.88.0.10:5000", "127.0.0.1:80", b""),
            Err(Discard::Martian),
        ),
        (udp("[fd88::10]:5000", "[fd00::53]:53", b"?"), Ok(())),
        (
            udp("[fd88::10]:5000", "[fd00::53]:54", b"?"),
            Err(Discard::Denied),
        ),
        (
            udp("[fd88::11]:5000", "[fd00::53]:53", b"?"),
            Err(Discard::SpoofedSource),
        ),
        (
            udp("[fe80::1]:5000", "[fd00::53]:53", b"?"),
            Err(Discard::SpoofedSource),
        ),
        (
            udp("[fd88::10]:5000", "[::ffff:10.0.5.5]:53", b"?"),
            Err(Discard::Martian),
        ),
        (icmp(OWN4, "10.0.5.5", 8, b"ping"), Ok(())),
        (icmp(OWN4, "8.8.8.8", 8, b"ping"), Err(Discard::Denied)),
        (
            Ipv4::new(OWN4, "10.0.5.5", ip::TCP).build(&[0; 3]),
            Err(Discard::TooShort),
        ),
        (Ipv4::new(OWN4, "10.0.5.5", 50).build(&[]), Ok(())),
        (
            Ipv4 {
                options: &[131, 3, 4, 0],
                ..Ipv4::new(OWN4, "10.0.5.5", 50)
            }
            .build(&[]),
            Err(Discard::SourceRoute),
        ),
        (
            Ipv6::new(OWN6, "fd00::53", 17).build_with(&[(43, &[0; 6])], &[0; 8]),
            Err(Discard::SourceRoute),
        ),
        (vec![], Err(Discard::TooShort)),
        (b"GET / HTTP/1.1\r\n".to_vec(), Err(Discard::TooShort)),
        (vec![0xff; 40], Err(Discard::NotIp)),
    ] {
        assert_eq!(
            intranet().outbound(&packet, 0).map(|_| ()),
            verdict,
            "{packet:02x?}"
        );
    }
}

#[test]
fn to_the_client() {
    let tcp = |from: &str, to: &str| Tcp::default().build(from, to);
    for (packet, verdict) in [
        (tcp("10.0.5.5:80", "10.88.0.10:5000"), Ok(())),
        (tcp("172.16.1.1:443", "10.88.0.10:5000"), Ok(())),
        (tcp("172.16.1.1:80", "10.88.0.10:443"), Err(Discard::Denied)),
        (
            tcp("10.0.5.5:80", "10.88.0.11:5000"),
            Err(Discard::WrongDestination),
        ),
        (
            tcp("127.0.0.1:80", "10.88.0.10:5000"),
            Err(Discard::Martian),
        ),
        (tcp("10.88.0.20:22", "10.88.0.10:5000"), Ok(())),
        (
            tcp("10.88.0.20:23", "10.88.0.10:5000"),
            Err(Discard::Denied),
        ),
        (udp("[fd00::53]:53", "[fd88::10]:5000", b"!"), Ok(())),
    ] {
        assert_eq!(
            intranet().inbound(&packet, 0).map(|_| ()),
            verdict,
            "{packet:02x?}"
        );
    }
}

#[test]
fn what_is_behind_the_packet_is_cut_off() {
    let mut packet = udp("10.88.0.10:5000", "10.0.5.5:80", b"data");
    let length = packet.len();
    packet.extend(b"smuggled");
    assert_eq!(intranet().outbound(&packet, 0), Ok(length));
    assert_eq!(
        intranet().outbound(&packet[..length - 1], 0),
        Err(Discard::BadLength)
    );
    let mut without6 = Gate::new(
        Some(OWN4.parse().unwrap()),
        None,
        Arc::from([]),
        1,
        &[rule("allow ::/0")],
    )
    .unwrap();
    assert_eq!(
        without6.outbound(&udp("[fd88::10]:1", "[fd00::1]:1", b""), 0),
        Err(Discard::SpoofedSource)
    );
}

#[test]
fn icmp_errors_follow_what_they_quote() {
    let sent = Tcp::default().build("10.88.0.10:5000", "172.16.1.1:443");
    let refused = Tcp::default().build("10.88.0.10:5000", "172.16.1.1:80");
    let foreign = Tcp::default().build("10.88.0.99:5000", "172.16.1.1:443");
    let received = Tcp::default().build("172.16.1.1:443", "10.88.0.10:5000");
    let sent6 = udp("[fd88::10]:9", "[fd00::53]:53", b"?");
    let router = "203.0.113.1"; // no rule names it
    for (packet, verdict) in [
        (icmp(router, OWN4, 11, &sent[..28]), Ok(())),
        (icmp(router, OWN4, 3, &sent), Ok(())),
        (icmp(router, OWN4, 12, &sent), Ok(())),
        (icmp("10.0.0.1", OWN4, 3, &sent), Ok(())), // the gateway itself
        (icmp(router, OWN4, 5, &sent), Err(Discard::Denied)), // a redirect is no error
        (icmp(router, OWN4, 11, &refused), Err(Discard::Denied)),
        (icmp(router, OWN4, 11, &foreign), Err(Discard::BadQuote)),
        (icmp(router, OWN4, 11, &received), Err(Discard::BadQuote)),
        (icmp(router, OWN4, 11, &sent[..23]), Err(Discard::BadQuote)), // no ports
        (
            icmp(router, OWN4, 11, &icmp(OWN4, router, 11, &sent)),
            Err(Discard::BadQuote),
        ),
        (
            icmp(router, OWN4, 11, &icmp(OWN4, "10.0.5.5", 8, b"")),
            Ok(()),
        ),
        (icmp(router, OWN4, 11, b""), Err(Discard::BadQuote)),
        (icmp("2001:db8::1", OWN6, 2, &sent6[..48]), Ok(())),
        (
            icmp("2001:db8::1", OWN6, 2, &sent[..28]),
            Err(Discard::BadQuote),
        ), // the other family
        (icmp("2001:db8::1", OWN6, 128, &sent6), Err(Discard::Denied)),
    ] {
        assert_eq!(
            intranet().inbound(&packet, 0).map(|_| ()),
            verdict,
            "{packet:02x?}"
        );
    }
    for (packet, verdict) in [
        (icmp(OWN4, "172.16.1.1", 3, &received[..28]), Ok(())),
        (
            icmp(OWN4, router, 3, &received[..28]),
            Err(Discard::BadQuote),
        ), // not to its sender
        (icmp(OWN4, "172.16.1.1", 3, &sent), Err(Discard::BadQuote)),
    ] {
        assert_eq!(
            intranet().outbound(&packet, 0).map(|_| ()),
            verdict,
            "{packet:02x?}"
        );
    }
}

#[test]
fn fragments_follow_the_first() {
    let part = |to: &str, id, place, payload: &[u8]| {
        Ipv4 {
            id,
            place,
            ..Ipv4::new(OWN4, to, ip::TCP)
        }
        .build(payload)
    };
    let ports = |port: u16| [[0x13, 0x88], port.to_be_bytes(), [0, 0], [0, 0]].concat();
    let mut gate = intranet();
    let https = part("172.16.1.1", 1, 0x2000, &ports(443));
    let web = part("172.16.1.1", 2, 0x2000, &ports(80));
    let rest = |id| part("172.16.1.1", id, 0x0001, b"rest");
    assert_eq!(
        gate.outbound(&rest(1), 0),
        Err(Discard::BadFragment),
        "the ports would decide"
    );
    assert!(gate.outbound(&https, 0).is_ok());
    assert!(gate.outbound(&rest(1), 29_999).is_ok());
    assert_eq!(gate.outbound(&rest(1), 30_000), Err(Discard::BadFragment));
    assert_eq!(gate.outbound(&web, 0), Err(Discard::Denied));
    assert_eq!(gate.outbound(&rest(2), 0), Err(Discard::Denied));
    assert!(
        gate.outbound(&part("10.0.5.5", 3, 0x0001, b"rest"), 0)
            .is_ok(),
        "every port is allowed there"
    );
    assert_eq!(
        gate.outbound(&part("8.8.8.8", 3, 0x0001, b"rest"), 0),
        Err(Discard::BadFragment)
    );
    let tiny = Ipv4 {
        place: 0x2000,
        ..Ipv4::new(OWN4, "10.0.5.5", ip::TCP)
    }
    .build(&[]);
    assert_eq!(gate.outbound(&tiny, 0), Err(Discard::BadFragment));
    // A second first fragment is judged by itself, and the latest verdict counts.
    let other_port = part("172.16.1.1", 1, 0x2000, &ports(22));
    assert_eq!(gate.outbound(&other_port, 1), Err(Discard::Denied));
    assert_eq!(gate.outbound(&rest(1), 2), Err(Discard::Denied));
    // New rules: the old verdict is gone.
    assert!(gate.outbound(&https, 3).is_ok());
    gate.set_rules(2, 0, &[]).unwrap();
    assert_eq!(gate.outbound(&rest(1), 4), Err(Discard::BadFragment));
}

#[test]
fn ipv6_fragments_do_not_vouch_for_their_protocol() {
    let ip = Ipv6::new(OWN6, "fd00::53", ip::UDP);
    let first = ip.build_with(&[(44, &[0, 1, 0, 0, 0, 9])], &[0, 9, 0, 53, 0, 8, 0, 0]);
    let later = |next| {
        Ipv6 {
            protocol: next,
            ..ip.clone()
        }
        .build_with(&[(44, &[0, 8, 0, 0, 0, 9])], b"rest")
    };
    let mut gate = intranet();
    assert_eq!(gate.outbound(&later(ip::UDP), 0), Err(Discard::BadFragment));
    assert!(gate.outbound(&first, 0).is_ok());
    assert!(gate.outbound(&later(ip::UDP), 0).is_ok());
    assert!(
        gate.outbound(&later(ip::TCP), 0).is_ok(),
        "the receiver believes the first fragment, so do we"
    );
    // Rules that decide by protocol say nothing about a lone later fragment, whatever it claims.
    let mut by_protocol = self::gate(&["allow fd00::/16 17", "deny ::/0"]);
    assert_eq!(
        by_protocol.outbound(&later(ip::UDP), 0),
        Err(Discard::BadFragment)
    );
    let mut everything = self::gate(&["allow fd00::/16"]);
    assert!(everything.outbound(&later(ip::UDP), 0).is_ok());
}

#[test]
fn refused_rules_leave_nothing_open() {
    let mut gate = intranet();
    let packet = udp("10.88.0.10:5000", "10.0.5.5:80", b"");
    assert!(gate.outbound(&packet, 0).is_ok());
    let broken = Rule {
        prefix: 99,
        ..rule("allow 10.0.0.0/16")
    };
    assert!(
        gate.set_rules(2, 0, &[rule("allow 10.0.0.0/16"), broken])
            .is_err()
    );
    assert_eq!(gate.outbound(&packet, 0), Err(Discard::Denied));
    gate.set_rules(2, 0, &[rule("allow 10.0.0.0/16")]).unwrap();
    assert!(
        gate.outbound(&packet, 0).is_ok(),
        "also under a revision number seen before"
    );
}

#[test]
fn an_idle_gate_is_small() {
    let own = size_of::<Gate>();
    assert!(own < 512, "{own}");
}

/// The obvious way to decide, for whole packets without ICMP errors.
fn slow_judge(
    own: IpAddr,
    rules: &[Rule],
    reserved: &[Network],
    packet: &[u8],
    outbound: bool,
) -> bool {
    let header = ip::parse(packet).unwrap();
    let (near, far) = if outbound {
        (header.source, header.destination)
    } else {
        (header.destination, header.source)
    };
    let port = ip::has_ports(header.protocol).then(|| {
        let at = header.payload + if outbound { 2 } else { 0 };
        u16::from_be_bytes([packet[at], packet[at + 1]])
    });
    let hidden = reserved.iter().any(|network| network.contains(far));
    near == own
        && rules
            .iter()
            .find(|rule| {
                Network::from_bytes(&rule.address, rule.prefix)
                    .unwrap()
                    .contains(far)
                    && (!hidden || rule.reserved)
                    && rule
                        .protocol
                        .is_none_or(|protocol| protocol == header.protocol)
                    && port.map_or((rule.port_low, rule.port_high) == (0, 65535), |port| {
                        rule.port_low <= port && port <= rule.port_high
                    })
            })
            .is_some_and(|rule| rule.allow)
}

proptest! {
    #[test]
    fn remembered_decisions_are_the_slow_ones(
        first in any_rules(), second in any_rules(),
        packets in proptest::collection::vec((0u8..4, any::<bool>(), any::<bool>(), prop::sample::select(&[53u16, 80, 99, 100, 1023, 5000][..]), any::<bool>()), 1..80),
    ) {
        let reserved: Vec<Network> = vec!["10.0.0.4/32".parse().unwrap(), "fd00::4/128".parse().unwrap()];
        let mut gate = Gate::new(Some(OWN4.parse().unwrap()), Some(OWN6.parse().unwrap()), reserved.clone().into(), 1, &first).unwrap();
        for (rules, revision) in [(&first, 1), (&second, 2)] {
            if revision == 2 {
                gate.set_rules(2, 0, rules).unwrap();
            }
            for (last, outbound, tcp, port, v6) in packets.iter().copied() {
                let (own, near, far) = if v6 {
                    (OWN6, format!("[{OWN6}]:5000"), format!("[fd00::{}]:{port}", last * 3 + 1))
                } else {
                    (OWN4, format!("{OWN4}:5000"), format!("10.0.0.{}:{port}", last * 3 + 1))
                };
                let (from, to) = if outbound { (&near, &far) } else { (&far, &near) };
                let packet = if tcp { Tcp::default().build(from, to) } else { udp(from, to, b"") };
                let fast = if outbound { gate.outbound(&packet, 0) } else { gate.inbound(&packet, 0) };
                let slow = slow_judge(own.parse().unwrap(), rules, &reserved, &packet, outbound);
                prop_assert_eq!(fast.is_ok(), slow, "{} to {}", from, to);
            }
        }
    }

    #[test]
    fn any_bytes_are_taken_calmly(packet in packets::any_bytes()) {
        crate::fuzz::inner_packet(&packet);
    }
}
