//! Records of the edge link: a big-endian `u32` length, then one MessagePack value.

use lockgate_dataplane::link::{MAX_RECORD, ToEdge};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroizing;

/// Why a record could not be read or built.
#[derive(Debug)]
pub enum LinkError {
    Io(std::io::Error),
    /// Declared length above [`MAX_RECORD`] or zero.
    Length(usize),
    /// Not a message of this version.
    Message,
    /// A message of ours does not fit a record.
    TooLarge,
    /// A descriptor is missing, left over or of the wrong kind; which, and of what message.
    Descriptor(&'static str),
}

impl std::fmt::Display for LinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(problem) => write!(f, "{problem}"),
            Self::Length(length) => write!(f, "a record declares {length} bytes"),
            Self::Message => f.write_str("a record is no message of this version"),
            Self::TooLarge => f.write_str("a message does not fit a record"),
            Self::Descriptor(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<std::io::Error> for LinkError {
    fn from(problem: std::io::Error) -> Self {
        Self::Io(problem)
    }
}

/// Decodes exactly one message; bytes after it are an error.
pub fn decode<T: DeserializeOwned>(record: &[u8]) -> Result<T, LinkError> {
    let mut source = rmp_serde::Deserializer::new(std::io::Cursor::new(record));
    // A message nests four deep: message, fields, rules, one rule. Deeper input is no message.
    source.set_max_depth(16);
    let message = T::deserialize(&mut source).map_err(|_| LinkError::Message)?;
    if source.position() == record.len() as u64 {
        Ok(message)
    } else {
        Err(LinkError::Message)
    }
}

/// The record of one message, length word included.
pub fn encode<T: Serialize>(message: &T) -> Result<Zeroizing<Vec<u8>>, LinkError> {
    let mut record = Zeroizing::new(vec![0; 4]);
    rmp_serde::encode::write_named(&mut *record, message).map_err(|_| LinkError::Message)?;
    let length = record.len() - 4;
    if length > MAX_RECORD {
        return Err(LinkError::TooLarge);
    }
    let word = u32::try_from(length)
        .map_err(|_| LinkError::TooLarge)?
        .to_be_bytes();
    if let Some(start) = record.first_chunk_mut::<4>() {
        *start = word;
    }
    Ok(record)
}

/// The next message of the control plane; `None` when it closed the link between two records.
///
/// Not safe to cancel: a record that was half read is lost.
pub async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<ToEdge>, LinkError> {
    let mut word = [0; 4];
    match stream.read_exact(&mut word).await {
        Ok(_) => {}
        Err(problem) if problem.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(problem) => return Err(problem.into()),
    }
    let length = u32::from_be_bytes(word) as usize;
    if length == 0 || length > MAX_RECORD {
        return Err(LinkError::Length(length));
    }
    // Keys pass through this buffer.
    let mut record = Zeroizing::new(vec![0; length]);
    stream.read_exact(&mut record).await?;
    decode(&record).map(Some)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use lockgate_dataplane::link::{FromEdge, Secret};

    fn frame() -> ToEdge {
        ToEdge::Frame {
            conn: 7,
            vendor: 0xa4c,
            kind: 1,
            body: vec![1, 2, 3],
        }
    }

    #[tokio::test]
    async fn records_are_read_however_the_stream_is_cut() {
        let mut wire = encode(&frame()).unwrap().to_vec();
        wire.extend_from_slice(&encode(&ToEdge::Keepalive {}).unwrap());
        let (mut near, mut far) = tokio::io::duplex(3);
        let writer = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut far, &wire)
                .await
                .unwrap();
        });
        assert_eq!(read_message(&mut near).await.unwrap(), Some(frame()));
        assert_eq!(
            read_message(&mut near).await.unwrap(),
            Some(ToEdge::Keepalive {})
        );
        assert_eq!(read_message(&mut near).await.unwrap(), None);
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_record_is_refused_before_memory_is_taken() {
        let long = u32::try_from(MAX_RECORD + 1).unwrap();
        for (wire, wanted) in [
            (
                long.to_be_bytes().to_vec(),
                &*format!("declares {long} bytes"),
            ),
            (vec![0xff, 0xff, 0xff, 0xff], "declares 4294967295 bytes"),
            (vec![0, 0, 0, 0], "declares 0 bytes"),
            (vec![0, 0, 0, 1, 0xc0], "no message"),
            (vec![0, 0, 0, 2, 0x81, 0xa1], "no message"),
        ] {
            let text = read_message(&mut &wire[..]).await.unwrap_err().to_string();
            assert!(text.contains(wanted), "{text}");
        }
    }

    #[test]
    fn unknown_names_fields_and_trailing_bytes_are_refused() {
        let good = encode(&frame()).unwrap();
        assert!(decode::<ToEdge>(&good[4..]).is_ok());
        let mut trailing = good[4..].to_vec();
        trailing.push(0xc0);
        assert!(decode::<ToEdge>(&trailing).is_err());
        for text in [
            r#"{"frames": {}}"#,
            r#"{"keepalive": {"x": 1}}"#,
            r#"{"hello": {"version": 1, "more": 2}}"#,
            r#"{"hello": {}}"#,
            r#"{"hello": {"version": 1}, "keepalive": {}}"#,
        ] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert!(
                decode::<ToEdge>(&rmp_serde::to_vec_named(&value).unwrap()).is_err(),
                "{text}"
            );
        }
        let deep = vec![0x91; 100_000];
        assert!(decode::<ToEdge>(&deep).is_err());
    }

    #[test]
    fn a_message_above_the_record_size_is_not_sent() {
        let message = FromEdge::Frame {
            conn: 1,
            vendor: 0,
            kind: 0,
            body: vec![0; MAX_RECORD],
        };
        assert!(matches!(encode(&message), Err(LinkError::TooLarge)));
        assert!(!format!("{:?}", Secret(vec![1, 2])).contains('1'));
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_refused_and_what_is_taken_is_written_the_same(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            at in 0_usize..400,
        ) {
            let _ = decode::<ToEdge>(&bytes);
            // One wrong byte in a real message: refused, or another message that is whole.
            let mut near = encode(&frame()).unwrap().split_off(4);
            if let (Some(slot), Some(byte)) = (near.get_mut(at), bytes.first()) {
                *slot = *byte;
            }
            if let Ok(message) = decode::<ToEdge>(&near) {
                let again = encode(&message).unwrap();
                proptest::prop_assert_eq!(decode::<ToEdge>(&again[4..]).unwrap(), message);
            }
        }
    }
}
