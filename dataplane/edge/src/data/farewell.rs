//! What a client is told when its session ends.

use lockgate_dataplane::link::{EndCause, Fatal};

/// Longest text in bytes before encoding: a message for a dialog, not a document.
const MAX_TEXT: usize = 512;

/// `errorType` of a session that was ended by an administrator or a fault of ours.
const TERMINATED: u32 = 7;
/// `errorType` of a session that ran out of time.
const TIMED_OUT: u32 = 8;

/// Reasons in the record with which Network Connect ends a session; clients show others as numbers.
const NCP_EXPIRED: u8 = 1;
const NCP_IDLE: u8 = 8;

/// Why a session ends, in the words of both protocols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    code: u32,
    text: String,
    reason: u8,
}

impl Farewell {
    /// For an end of our own; `None` where the client knows.
    pub(super) fn of(cause: EndCause) -> Option<Self> {
        let (code, reason, text) = match cause {
            EndCause::Idle => (
                TIMED_OUT,
                NCP_IDLE,
                "The session ended because it was not used.",
            ),
            EndCause::Expired => (
                TIMED_OUT,
                NCP_EXPIRED,
                "The session reached its time limit.",
            ),
            EndCause::Orphaned => (
                TERMINATED,
                TERMINATED as u8,
                "The gateway cannot manage this session any more.",
            ),
            EndCause::Logout => return None,
        };
        Some(Self {
            code,
            text: text.to_owned(),
            reason,
        })
    }

    /// Body of the IF-T message a4c/0x93.
    pub(crate) fn if_t(&self) -> Vec<u8> {
        body(self.code, &self.text)
    }

    /// Reason in the last record of Network Connect.
    pub(crate) fn ncp(&self) -> u8 {
        self.reason
    }
}

impl From<&Fatal> for Farewell {
    /// The control plane says only that time ran out, not which; that it was not used, the edge knows first.
    fn from(fatal: &Fatal) -> Self {
        Self {
            code: fatal.code,
            text: fatal.text.clone(),
            reason: match fatal.code {
                TIMED_OUT => NCP_EXPIRED,
                code => code as u8,
            },
        }
    }
}

/// `errorType=CODE errorString=TEXT` and a newline, which the client cuts off.
///
/// The client decodes percent signs and takes `+` for a blank, so everything but letters, digits
/// and `-._~` is encoded; a text longer than 512 bytes is cut.
fn body(code: u32, text: &str) -> Vec<u8> {
    let mut body = format!("errorType={code} errorString=").into_bytes();
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    for byte in text.bytes().take(end) {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            body.push(byte);
        } else {
            body.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    body.push(b'\n');
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_the_decoding_of_the_client() {
        assert_eq!(
            body(8, "Idle 100%+"),
            b"errorType=8 errorString=Idle%20100%25%2B\n"
        );
        assert_eq!(body(7, "a\nb"), b"errorType=7 errorString=a%0Ab\n");
        assert_eq!(body(7, ""), b"errorType=7 errorString=\n");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = format!("x{}", "é".repeat(400));
        assert_eq!(
            body(7, &text).len(),
            "errorType=7 errorString=".len() + 1 + 255 * 6 + 1
        );
    }
}
