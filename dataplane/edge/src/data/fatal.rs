//! Text of the message that tells a client why its session ends (IF-T a4c/0x93).

/// Longest text in bytes before encoding: a message for a dialog, not a document.
const MAX_TEXT: usize = 512;

/// `errorType=CODE errorString=TEXT` and a newline, which the client cuts off.
///
/// The client decodes percent signs and takes `+` for a blank, so everything but letters, digits
/// and `-._~` is encoded; a text longer than 512 bytes is cut.
pub(super) fn body(code: u32, text: &str) -> Vec<u8> {
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
