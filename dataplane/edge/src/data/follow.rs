//! Which way packets go to a client, from the gateway's side: ESP while it is proven, TLS otherwise.
//!
//! The client leads and the gateway follows what it hears: ESP may be used when a valid packet came
//! over it within twice the fallback interval, and the newest packet that the client could have sent
//! over ESP did not come over TLS. A client of ours says so when it leaves ESP; then nothing but its
//! word brings ESP back, since the probes with which it searches may reach us while our answers do
//! not reach it. Every new generation starts on TLS.

/// Fallback interval of a client that was told none, in seconds.
const DEFAULT_FALLBACK: u32 = 60;

/// What was heard from one client, over what.
#[derive(Debug)]
pub(super) struct Follow {
    /// ESP counts as dead after this long without a valid packet, in ms.
    silence: u64,
    /// When the last valid ESP packet came, in ms.
    heard: Option<u64>,
    /// The client has left ESP: a newer packet came over TLS.
    left: bool,
    /// The client has said that it left ESP, over the connection it has now.
    said: bool,
}

impl Follow {
    /// `fallback`: seconds as told to the client; 0 is its default of 60.
    pub(super) fn new(fallback: u32) -> Self {
        let fallback = if fallback == 0 {
            DEFAULT_FALLBACK
        } else {
            fallback
        };
        Self {
            silence: 2000 * u64::from(fallback),
            heard: None,
            left: false,
            said: false,
        }
    }

    /// A valid packet came over ESP: data or probe.
    pub(super) fn heard_esp(&mut self, now: u64) {
        self.heard = Some(now);
        self.left = false;
    }

    /// A data packet came over TLS that could have come over ESP.
    pub(super) fn heard_tls(&mut self) {
        self.left = true;
    }

    /// The client says whether it uses ESP.
    pub(super) fn told(&mut self, uses_esp: bool) {
        self.said = !uses_esp;
    }

    /// The connection over which the client would say something is gone, and with it its word.
    pub(super) fn forget_word(&mut self) {
        self.said = false;
    }

    /// Whether ESP to the client works, as far as can be told.
    pub(super) fn esp_alive(&self, now: u64) -> bool {
        !self.left
            && !self.said
            && self
                .heard
                .is_some_and(|heard| now.saturating_sub(heard) <= self.silence)
    }

    /// The moment at which ESP counts as dead unless something is heard before.
    pub(super) fn silent_at(&self) -> Option<u64> {
        self.heard
            .filter(|_| !self.left && !self.said)
            .map(|heard| heard.saturating_add(self.silence).saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_client() {
        let mut path = Follow::new(15);
        assert!(!path.esp_alive(0), "a new generation is on TLS");
        path.heard_tls();
        assert!(!path.esp_alive(1));
        path.heard_esp(1000);
        assert!(path.esp_alive(1000));
        path.heard_tls();
        assert!(!path.esp_alive(1002), "the client gave ESP up");
        path.heard_esp(1003);
        assert!(path.esp_alive(1003));
    }

    #[test]
    fn a_client_that_says_so_has_left_until_it_says_otherwise() {
        let mut path = Follow::new(15);
        path.heard_esp(1000);
        path.told(false);
        assert!(!path.esp_alive(1001));
        path.heard_esp(1002);
        assert!(!path.esp_alive(1002), "it only searches");
        assert_eq!(path.silent_at(), None);
        path.told(true);
        assert!(path.esp_alive(1003));
        path.told(false);
        path.forget_word();
        assert!(
            path.esp_alive(1004),
            "without a connection there is no other way"
        );
    }

    #[test]
    fn silence_means_tls() {
        let mut path = Follow::new(15);
        path.heard_esp(1000);
        assert!(path.esp_alive(31_000));
        assert_eq!(path.silent_at(), Some(31_001));
        assert!(!path.esp_alive(31_001));
        let mut told_none = Follow::new(0);
        told_none.heard_esp(0);
        assert!(told_none.esp_alive(120_000) && !told_none.esp_alive(120_001));
    }
}
