//! Everything a stranger can make grow has a number here; the bootstrap document may replace each.

use std::time::Duration;

use serde::Deserialize;

use crate::bootstrap::Role;

/// Limits of the front; times in seconds, sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections between accept and the end of their first HTTP head. One costs about 30 KiB
    /// (TLS handshake state, socket buffers), 4096 of them 120 MiB. When full the oldest goes.
    pub half_open_total: usize,
    /// The same for one address (IPv6: one /64). An office behind one address rarely has more
    /// than 256 people connecting in the same second.
    pub half_open_per_address: usize,
    /// New connections a second from one address, and how many may come at once.
    pub new_per_second: u32,
    pub new_burst: u32,
    /// From accept to the end of the TLS handshake.
    pub tls_seconds: u64,
    /// From there to the end of the first HTTP head.
    pub head_seconds: u64,
    /// Largest HTTP head; hyper takes no buffer below 8 KiB.
    pub head_bytes: usize,
    /// Most header lines in a head.
    pub head_lines: usize,
    /// IF-T connections not yet attached to a session, in total and for one address.
    pub sign_in_total: usize,
    pub sign_in_per_address: usize,
    /// From upgrade to attach: people type passwords and look for tokens.
    pub sign_in_seconds: u64,
    /// Frames and bytes in each direction before attach: a long conversation with a second
    /// factor, a new password and a session choice takes about 30 frames.
    pub sign_in_frames: u32,
    pub sign_in_bytes: usize,
    /// Frames queued for one client that does not read.
    pub queue_bytes: usize,
    /// Seconds a write to a client may make no progress.
    pub write_seconds: u64,
    /// Connections that carry HTTP for the control plane, in total and for one address.
    pub http_total: usize,
    pub http_per_address: usize,
    /// Silence between two requests on one connection, or within a request body.
    pub http_idle_seconds: u64,
    /// Largest request body: on the gateway's listeners logs that clients hand in, on the
    /// administration's whole configurations and packages. Bodies are passed on as they come.
    pub body_bytes: u64,
    pub admin_body_bytes: u64,
    /// Longest wait for the head of an answer of the control plane; long polls end before. Begins
    /// anew while a request body makes progress.
    pub answer_seconds: u64,
    /// How long an upgrade request waits for a control plane that is starting.
    pub upgrade_wait_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            half_open_total: 4096,
            half_open_per_address: 256,
            new_per_second: 100,
            new_burst: 400,
            tls_seconds: 10,
            head_seconds: 10,
            head_bytes: 16 * 1024,
            head_lines: 64,
            sign_in_total: 4096,
            sign_in_per_address: 256,
            sign_in_seconds: 180,
            sign_in_frames: 64,
            sign_in_bytes: 64 * 1024,
            queue_bytes: 1024 * 1024,
            write_seconds: 30,
            http_total: 4096,
            http_per_address: 64,
            http_idle_seconds: 30,
            body_bytes: 64 * 1024 * 1024,
            admin_body_bytes: 256 * 1024 * 1024,
            answer_seconds: 150,
            upgrade_wait_seconds: 10,
        }
    }
}

impl Limits {
    /// Names the first value that could not work, with what is allowed.
    pub fn check(&self) -> Result<(), String> {
        if !(8 * 1024..=256 * 1024).contains(&self.head_bytes) {
            return Err(format!(
                "limits.head_bytes is {}: allowed are 8192 to 262144",
                self.head_bytes
            ));
        }
        if !(1..=1024).contains(&self.head_lines) {
            return Err(format!(
                "limits.head_lines is {}: allowed are 1 to 1024",
                self.head_lines
            ));
        }
        let positive = [
            ("half_open_total", self.half_open_total as u64),
            ("half_open_per_address", self.half_open_per_address as u64),
            ("new_per_second", u64::from(self.new_per_second)),
            ("new_burst", u64::from(self.new_burst)),
            ("tls_seconds", self.tls_seconds),
            ("head_seconds", self.head_seconds),
            ("sign_in_total", self.sign_in_total as u64),
            ("sign_in_per_address", self.sign_in_per_address as u64),
            ("sign_in_seconds", self.sign_in_seconds),
            ("sign_in_frames", u64::from(self.sign_in_frames)),
            ("sign_in_bytes", self.sign_in_bytes as u64),
            ("queue_bytes", self.queue_bytes as u64),
            ("write_seconds", self.write_seconds),
            ("http_total", self.http_total as u64),
            ("http_per_address", self.http_per_address as u64),
            ("http_idle_seconds", self.http_idle_seconds),
            ("answer_seconds", self.answer_seconds),
        ];
        match positive.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(format!("limits.{name} is 0: it must be at least 1")),
            None => Ok(()),
        }
    }

    pub(crate) fn tls_time(&self) -> Duration {
        Duration::from_secs(self.tls_seconds)
    }

    pub(crate) fn head_time(&self) -> Duration {
        Duration::from_secs(self.head_seconds)
    }

    pub(crate) fn sign_in_time(&self) -> Duration {
        Duration::from_secs(self.sign_in_seconds)
    }

    pub(crate) fn write_time(&self) -> Duration {
        Duration::from_secs(self.write_seconds)
    }

    pub(crate) fn http_idle_time(&self) -> Duration {
        Duration::from_secs(self.http_idle_seconds)
    }

    pub(crate) fn answer_time(&self) -> Duration {
        Duration::from_secs(self.answer_seconds)
    }

    pub(crate) fn body_bytes_at(&self, role: Role) -> u64 {
        match role {
            Role::Gateway => self.body_bytes,
            Role::Admin => self.admin_body_bytes,
        }
    }

    pub(crate) fn upgrade_wait(&self) -> Duration {
        Duration::from_secs(self.upgrade_wait_seconds)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn missing_limits_have_defaults_and_unknown_ones_are_refused() {
        let limits: Limits = serde_json::from_str(r#"{"new_burst": 9}"#).unwrap();
        assert_eq!(
            limits,
            Limits {
                new_burst: 9,
                ..Limits::default()
            }
        );
        limits.check().unwrap();
        assert!(serde_json::from_str::<Limits>(r#"{"new_brust": 9}"#).is_err());
    }

    #[test]
    fn limits_that_cannot_work_are_named() {
        let small = Limits {
            head_bytes: 100,
            ..Limits::default()
        };
        assert!(small.check().unwrap_err().contains("limits.head_bytes"));
        let zero = Limits {
            sign_in_frames: 0,
            ..Limits::default()
        };
        assert!(zero.check().unwrap_err().contains("limits.sign_in_frames"));
    }
}
