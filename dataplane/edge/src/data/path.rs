//! Which way packets go to a client: ESP while it is proven, TLS otherwise.
//!
//! The client never announces a switch, so the server follows what it hears: ESP may be used when
//! a valid packet came over it within twice the fallback interval, and the newest packet that the
//! client could have sent over ESP did not come over TLS. Every new generation starts on TLS.

/// Fallback interval of a client that was told none, in seconds.
const DEFAULT_FALLBACK: u32 = 60;

/// What was heard from one client, over what.
#[derive(Debug)]
pub(super) struct Path {
    /// ESP counts as dead after this long without a valid packet, in ms.
    silence: u64,
    /// ESP may carry the inner IP version that differs from the outer one.
    cross_family: bool,
    /// When the last valid ESP packet came, in ms.
    heard: Option<u64>,
    /// The client has left ESP: a newer packet came over TLS.
    left: bool,
}

impl Path {
    /// `fallback`: seconds as told to the client; 0 is its default of 60.
    pub(super) fn new(fallback: u32, cross_family: bool) -> Self {
        let fallback = if fallback == 0 {
            DEFAULT_FALLBACK
        } else {
            fallback
        };
        Self {
            silence: 2000 * u64::from(fallback),
            cross_family,
            heard: None,
            left: false,
        }
    }

    /// A valid packet came over ESP: data or probe.
    pub(super) fn heard_esp(&mut self, now: u64) {
        self.heard = Some(now);
        self.left = false;
    }

    /// A data packet came over TLS. The inner version that never travels in ESP says nothing.
    pub(super) fn heard_tls(&mut self, inner_v6: bool, outer_v6: bool) {
        if self.carries(inner_v6, outer_v6) {
            self.left = true;
        }
    }

    /// Whether ESP to the client works, as far as can be told.
    pub(super) fn esp_alive(&self, now: u64) -> bool {
        !self.left
            && self
                .heard
                .is_some_and(|heard| now.saturating_sub(heard) <= self.silence)
    }

    /// Whether this inner IP version may travel in ESP over that outer one.
    pub(super) fn carries(&self, inner_v6: bool, outer_v6: bool) -> bool {
        self.cross_family || inner_v6 == outer_v6
    }

    /// The moment at which ESP counts as dead unless something is heard before.
    pub(super) fn silent_at(&self) -> Option<u64> {
        self.heard
            .filter(|_| !self.left)
            .map(|heard| heard.saturating_add(self.silence).saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: bool = false;
    const V6: bool = true;

    #[test]
    fn follows_the_client() {
        let mut path = Path::new(15, false);
        assert!(!path.esp_alive(0), "a new generation is on TLS");
        path.heard_tls(V4, V4);
        assert!(!path.esp_alive(1));
        path.heard_esp(1000);
        assert!(path.esp_alive(1000));
        path.heard_tls(V6, V4);
        assert!(
            path.esp_alive(1001),
            "the other version always comes over TLS"
        );
        path.heard_tls(V4, V4);
        assert!(!path.esp_alive(1002), "the client gave ESP up");
        path.heard_esp(1003);
        assert!(path.esp_alive(1003));
    }

    #[test]
    fn silence_means_tls() {
        let mut path = Path::new(15, false);
        path.heard_esp(1000);
        assert!(path.esp_alive(31_000));
        assert_eq!(path.silent_at(), Some(31_001));
        assert!(!path.esp_alive(31_001));
        let mut told_none = Path::new(0, false);
        told_none.heard_esp(0);
        assert!(told_none.esp_alive(120_000) && !told_none.esp_alive(120_001));
    }

    #[test]
    fn versions_cross_only_when_agreed() {
        for (cross, inner, outer, carries) in [
            (false, V4, V4, true),
            (false, V6, V4, false),
            (false, V4, V6, false),
            (true, V6, V4, true),
        ] {
            assert_eq!(Path::new(15, cross).carries(inner, outer), carries);
        }
        let mut path = Path::new(15, true);
        path.heard_esp(0);
        path.heard_tls(V6, V4);
        assert!(
            !path.esp_alive(1),
            "with both versions in ESP, either over TLS means that ESP is given up"
        );
    }
}
