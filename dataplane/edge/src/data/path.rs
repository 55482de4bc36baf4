//! The way to the other end: the gateway follows its client, the client leads.

use super::Side;
use super::follow::Follow;
use super::lead::Lead;

/// What decides between ESP and TLS.
#[derive(Debug)]
pub(super) enum Role {
    Follow(Follow),
    Lead(Box<Lead>),
}

#[derive(Debug)]
pub(super) struct Path {
    pub(super) role: Role,
    /// ESP may carry the inner IP version that differs from the outer one.
    cross_family: bool,
}

impl Path {
    /// `fallback`: seconds as the gateway tells its client; 0 is none. `mtu`: as configured.
    pub(super) fn new(side: Side, fallback: u32, cross_family: bool, mtu: u16) -> Self {
        let role = match side {
            Side::Gateway => Role::Follow(Follow::new(fallback)),
            Side::Client => Role::Lead(Box::new(Lead::new(fallback, mtu))),
        };
        Self { role, cross_family }
    }

    /// Whether ESP to the other end works, as far as can be told.
    #[inline]
    pub(super) fn esp_alive(&self, now: u64) -> bool {
        match &self.role {
            Role::Follow(follow) => follow.esp_alive(now),
            Role::Lead(lead) => lead.esp_alive(),
        }
    }

    /// Whether this inner IP version may travel in ESP over that outer one.
    #[inline]
    pub(super) fn carries(&self, inner_v6: bool, outer_v6: bool) -> bool {
        self.cross_family || inner_v6 == outer_v6
    }

    /// A data packet came over TLS. The inner version that never travels in ESP says nothing.
    pub(super) fn heard_tls(&mut self, inner_v6: bool, outer_v6: bool) {
        let could_be_esp = self.carries(inner_v6, outer_v6);
        if let Role::Follow(follow) = &mut self.role
            && could_be_esp
        {
            follow.heard_tls();
        }
    }

    /// The client says whether it uses ESP.
    pub(super) fn told(&mut self, uses_esp: bool) {
        if let Role::Follow(follow) = &mut self.role {
            follow.told(uses_esp);
        }
    }

    /// The connection is gone or another one, and with it what the client has said.
    pub(super) fn forget_word(&mut self) {
        if let Role::Follow(follow) = &mut self.role {
            follow.forget_word();
        }
    }

    /// What there is to lead; `None` for a gateway.
    #[inline]
    pub(super) fn lead(&mut self) -> Option<&mut Lead> {
        match &mut self.role {
            Role::Follow(_) => None,
            Role::Lead(lead) => Some(lead),
        }
    }

    /// When the path must be looked at again, unless something happens before.
    pub(super) fn next_look(&self, now: u64) -> Option<u64> {
        match &self.role {
            Role::Follow(follow) => follow.silent_at().filter(|at| *at > now),
            Role::Lead(lead) => lead.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: bool = false;
    const V6: bool = true;

    #[test]
    fn versions_cross_only_when_agreed() {
        for (cross, inner, outer, carries) in [
            (false, V4, V4, true),
            (false, V6, V4, false),
            (false, V4, V6, false),
            (true, V6, V4, true),
            (true, V4, V6, true),
        ] {
            for side in [Side::Gateway, Side::Client] {
                assert_eq!(
                    Path::new(side, 15, cross, 1400).carries(inner, outer),
                    carries
                );
            }
        }
    }

    #[test]
    fn the_version_that_always_comes_over_tls_says_nothing() {
        for (cross, alive) in [(false, true), (true, false)] {
            let mut path = Path::new(Side::Gateway, 15, cross, 1400);
            if let Role::Follow(follow) = &mut path.role {
                follow.heard_esp(0);
            }
            path.heard_tls(V6, V4);
            assert_eq!(path.esp_alive(1), alive);
        }
    }
}
