//! One session: addresses, gate, keys, limits and what was counted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lockgate_dataplane::discard::Discard;
use lockgate_dataplane::gate::{FlowRecord, Gate, Room, RuleError};
use lockgate_dataplane::link::{
    EndCause, FlowAudit, Framing, Rule, SessionState, Traffic, Transport,
};

use lockgate_dataplane::probe::Probe;
use lockgate_dataplane::rate::TokenBucket;
use lockgate_dataplane::segment::Segments;
use lockgate_dataplane::throttle::Throttle;

use super::Side;
use super::esp::Esp;
use super::path::{Path, Role};
use super::port::Peer;

/// How long to hold a change of transport or peer back after the last one was told, in ms: a
/// client that flaps must not flood the control plane.
const QUIET_AFTER_NEWS: u64 = 200;

/// Senders of packets that do not fit are told so this often a second, and this often at once. One
/// message serves a connection for ten minutes, so that a page full of them needs a few dozen.
const COMPLAINTS_PER_SECOND: u32 = 20;
const COMPLAINTS_AT_ONCE: u32 = 50;

/// Smallest MTU that a client may ask for: what every host must take (RFC 791), with IPv6 what
/// every link must carry (RFC 8200 section 5).
const LEAST_MTU4: u16 = 576;
const LEAST_MTU6: u16 = 1280;

/// Time limits in ms on the thread's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) expires: u64,
    /// Longest time without user data; `None`: no limit.
    pub(super) idle: Option<u64>,
}

impl Limits {
    /// From seconds as the control plane gives them; an idle time of 0 is none.
    pub(super) fn new(remaining: u64, idle: u64, now: u64) -> Self {
        let idle = Some(idle)
            .filter(|idle| *idle > 0)
            .map(|idle| idle.saturating_mul(1000));
        Self {
            expires: now.saturating_add(remaining.saturating_mul(1000)),
            idle,
        }
    }
}

/// The way to the other end that a packet takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Esp,
    /// A connection by slot.
    Tls(usize),
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) generation: u32,
    pub(super) address4: Option<Ipv4Addr>,
    pub(super) address6: Option<Ipv6Addr>,
    side: Side,
    /// Largest inner packet in bytes.
    pub(super) mtu: u16,
    /// Largest inner packet that the path to the other end carries, as far as is known.
    pub(super) path_mtu: u16,
    /// Permits for telling senders that their packets are too big.
    pub(super) complaints: TokenBucket,
    gate: Gate,
    /// The connection the control plane attached, or 0.
    pub(super) attached: u64,
    /// That connection once it is ours: its slot, and where it comes from.
    pub(super) conn: Option<(usize, SocketAddr)>,
    /// How messages stand on it.
    pub(super) framing: Framing,
    /// An order to replace this session has been refused: the connection attached next was meant
    /// for it, and must not carry this session.
    pub(super) refused_attach: bool,
    pub(super) esp: Esp,
    pub(super) path: Path,
    pub(super) limits: Limits,
    /// What may still come from the other end and go to it; `None`: as much as it likes.
    throttle_in: Option<Throttle>,
    throttle_out: Option<Throttle>,
    /// When user data last passed, in ms.
    pub(super) active: u64,
    pub(super) traffic: Traffic,
    /// Listed for the next report.
    pub(super) listed: bool,
    /// What the control plane was told last, and when.
    told: (Transport, Option<SocketAddr>),
    told_at: Option<u64>,
    /// The booking in the timers that counts.
    pub(super) booked: u64,
}

/// What a new session or generation starts with.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) side: Side,
    pub(super) id: u64,
    pub(super) generation: u32,
    pub(super) address4: Option<Ipv4Addr>,
    pub(super) address6: Option<Ipv6Addr>,
    pub(super) mtu: u16,
    pub(super) gate: Gate,
    pub(super) path: Path,
    pub(super) limits: Limits,
}

impl Session {
    pub(super) fn new(opening: Opening, now: u64) -> Self {
        let Opening {
            side,
            id,
            generation,
            address4,
            address6,
            mtu,
            gate,
            path,
            limits,
        } = opening;
        Self {
            id,
            generation,
            address4,
            address6,
            side,
            mtu,
            path_mtu: mtu,
            complaints: TokenBucket::new(COMPLAINTS_PER_SECOND, COMPLAINTS_AT_ONCE, now),
            gate,
            attached: 0,
            conn: None,
            framing: Framing::default(),
            refused_attach: false,
            esp: Esp::default(),
            path,
            limits,
            throttle_in: None,
            throttle_out: None,
            active: now,
            traffic: Traffic::default(),
            listed: false,
            told: (Transport::None, None),
            told_at: None,
            booked: u64::MAX,
        }
    }

    /// Takes over from the generation before: what was counted, told and used goes on.
    pub(super) fn follow(&mut self, former: &Self) {
        self.traffic = former.traffic;
        self.told = former.told;
        self.told_at = former.told_at;
        self.throttle_in = former.throttle_in;
        self.throttle_out = former.throttle_out;
    }

    /// Replaces both rates, in bits per second; 0 is no limit.
    pub(super) fn set_rates(&mut self, rate_in: u64, rate_out: u64, now: u64) {
        self.throttle_in = Throttle::following(self.throttle_in, rate_in, now);
        self.throttle_out = Throttle::following(self.throttle_out, rate_out, now);
    }

    /// Books a packet of `length` bytes that the tunnel has brought; an error when it is too much.
    #[inline]
    pub(super) fn books_leaving(&mut self, length: usize, now: u64) -> Result<(), Discard> {
        match &mut self.throttle_in {
            Some(throttle) => match throttle.passes(length, now) {
                true => Ok(()),
                false => Err(Discard::Rate),
            },
            None => Ok(()),
        }
    }

    /// Books the packets of one read for the way into the tunnel; returns how many of them, from the
    /// first on, may go.
    #[inline]
    pub(super) fn books_entering(&mut self, segments: &Segments<'_>, now: u64) -> usize {
        match &mut self.throttle_out {
            None => segments.count(),
            Some(throttle) => (0..segments.count())
                .take_while(|at| throttle.passes(segments.len_of(*at), now))
                .count(),
        }
    }

    /// Inner addresses.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.address4
            .map(IpAddr::V4)
            .into_iter()
            .chain(self.address6.map(IpAddr::V6))
    }

    /// Judges a packet on its way into the tunnel; returns its length by its own header.
    #[inline]
    pub(super) fn judge_entering(&mut self, packet: &[u8], now: u64) -> Result<usize, Discard> {
        let verdict = match self.side {
            Side::Gateway => self.gate.inbound(packet, now),
            Side::Client => self.gate.outbound(packet, now),
        };
        self.count(verdict)
    }

    /// The same for a packet that the tunnel has brought.
    #[inline]
    pub(super) fn judge_leaving(&mut self, packet: &[u8], now: u64) -> Result<usize, Discard> {
        let verdict = match self.side {
            Side::Gateway => self.gate.outbound(packet, now),
            Side::Client => self.gate.inbound(packet, now),
        };
        self.count(verdict)
    }

    fn count(&mut self, verdict: Result<usize, Discard>) -> Result<usize, Discard> {
        verdict.inspect_err(|_| self.traffic.dropped += 1)
    }

    /// Replaces the rules of the gate.
    pub(super) fn set_rules(
        &mut self,
        revision: u64,
        rule_set: u32,
        rules: &[Rule],
    ) -> Result<(), RuleError> {
        self.gate.set_rules(revision, rule_set, rules)
    }

    /// Which flows are recorded from now on.
    pub(super) fn record_flows(&mut self, wanted: FlowAudit, room: &Room) {
        self.gate.record_flows(wanted, room);
    }

    /// The packet that [`judge_entering`](Self::judge_entering) has just let pass stands for these.
    #[inline]
    pub(super) fn entered(&mut self, segments: &Segments<'_>, length: usize) {
        let count = segments.count();
        if count > 1 && self.side == Side::Gateway {
            // All but the last are equally long.
            let last = segments.len_of(count - 1);
            let bytes = segments.len_of(0) * (count - 1) + last;
            let more = bytes.saturating_sub(length);
            self.gate.inbound_more(count as u64 - 1, more as u64);
        }
    }

    /// Makes the records of flows that are due.
    pub(super) fn sweep_flows(&mut self, now: u64) {
        self.gate.sweep_flows(now);
    }

    /// Makes the records of all flows: the session is over.
    pub(super) fn end_flows(&mut self) {
        self.gate.end_flows();
    }

    #[inline]
    pub(super) fn has_flow_records(&self) -> bool {
        self.gate.has_flow_records()
    }

    pub(super) fn take_flow_records(&mut self) -> impl Iterator<Item = FlowRecord> + '_ {
        self.gate.take_flow_records()
    }

    /// A valid ESP packet came from `peer`; `probe` if it is one. True when more than the time of
    /// it has changed.
    #[inline]
    pub(super) fn heard_esp(&mut self, peer: &Peer, probe: Option<Probe>, now: u64) -> bool {
        match &mut self.path.role {
            Role::Follow(follow) => {
                let moved = !follow.esp_alive(now) || self.esp.peer.as_ref() != Some(peer);
                follow.heard_esp(now);
                self.esp.peer = Some(*peer);
                if let Some(Probe::Padded { mtu, .. }) = probe {
                    let least = if self.address6.is_some() {
                        LEAST_MTU6
                    } else {
                        LEAST_MTU4
                    };
                    self.path_mtu = mtu.max(least).min(self.mtu);
                }
                moved
            }
            Role::Lead(lead) => lead.heard(probe, now),
        }
    }

    /// How a packet of this IP version goes to the other end now. `oversize`: it is larger than the
    /// path carries whole. A gateway has it sent in fragments; a client's socket may refuse that, so
    /// it prefers TLS.
    #[inline]
    pub(super) fn route(&self, inner_v6: bool, oversize: bool, now: u64) -> Option<Route> {
        let over_tls = oversize && self.side == Side::Client && self.conn.is_some();
        if !over_tls
            && self.path.esp_alive(now)
            && self.esp.outbound.is_some()
            && let Some(peer) = &self.esp.peer
            && self.path.carries(inner_v6, peer.outer_v6())
        {
            return Some(Route::Esp);
        }
        self.conn.map(|(slot, _)| Route::Tls(slot))
    }

    /// What carries packets to the other end, and where they go.
    pub(super) fn transport(&self, now: u64) -> (Transport, Option<SocketAddr>) {
        match (self.esp.peer, self.conn) {
            (Some(peer), _) if self.esp.outbound.is_some() && self.path.esp_alive(now) => {
                (Transport::Esp, Some(peer.address))
            }
            (_, Some((_, peer))) => (Transport::Tls, Some(peer)),
            (_, None) => (Transport::None, None),
        }
    }

    /// The transport if it changed since the control plane was last told and may be told now.
    pub(super) fn takes_news(&mut self, now: u64) -> Option<(Transport, Option<SocketAddr>)> {
        let current = self.transport(now);
        if current == self.told || self.news_at(now) > now {
            return None;
        }
        self.told = current;
        self.told_at = Some(now);
        Some(current)
    }

    /// Whether a change of transport waits to be told.
    pub(super) fn has_news(&self, now: u64) -> bool {
        self.transport(now) != self.told
    }

    fn news_at(&self, now: u64) -> u64 {
        self.told_at
            .map_or(now, |at| at.saturating_add(QUIET_AFTER_NEWS))
    }

    /// Why the session must end now, if it must.
    pub(super) fn over(&self, now: u64) -> Option<EndCause> {
        if now >= self.limits.expires {
            Some(EndCause::Expired)
        } else if self
            .limits
            .idle
            .is_some_and(|idle| now.saturating_sub(self.active) >= idle)
        {
            Some(EndCause::Idle)
        } else {
            None
        }
    }

    /// When something about this session becomes due, unless something happens before.
    pub(super) fn next_look(&self, now: u64) -> u64 {
        let idle = self
            .limits
            .idle
            .map(|idle| self.active.saturating_add(idle));
        let path = self.path.next_look(now);
        let news = self.has_news(now).then(|| self.news_at(now));
        let flows = self.gate.next_sweep();
        [idle, path, news, self.esp.next_expiry(), flows]
            .into_iter()
            .flatten()
            .fold(self.limits.expires, u64::min)
    }

    pub(super) fn state(&self, now: u64) -> SessionState {
        let (transport, peer) = self.transport(now);
        SessionState {
            session: self.id,
            generation: self.generation,
            conn: self.attached,
            address4: self
                .address4
                .map(|a| a.octets().to_vec())
                .unwrap_or_default(),
            address6: self
                .address6
                .map(|a| a.octets().to_vec())
                .unwrap_or_default(),
            remaining: self.limits.expires.saturating_sub(now) / 1000,
            quiet: now.saturating_sub(self.active) / 1000,
            transport,
            peer: peer_text(peer),
            spis: self.esp.spis().collect(),
            traffic: self.traffic,
            framing: self.framing,
        }
    }
}

/// "address:port", mapped addresses as what they are; empty for none.
pub(super) fn peer_text(peer: Option<SocketAddr>) -> String {
    peer.map(|peer| SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string())
        .unwrap_or_default()
}
