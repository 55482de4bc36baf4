//! What the gateway tells a client after sign-in: main configuration and ESP keys. No I/O.
//!
//! Checks are at least as strict as those of openconnect 9.01, so that a gateway this tool accepts
//! is one that client accepts.

use std::net::{Ipv4Addr, Ipv6Addr};

use lockgate_dataplane::link::Suite;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::wire::{Malformed, Words};

const MAGIC_MAIN: u32 = 0x2c20_f000;
const MAGIC_KEYS: u32 = 0x2120_2400;
/// Bytes of key material in each half of the key exchange: cipher key, HMAC key, filler.
pub const SECRET: usize = 64;

/// Key material of one direction; zeroed when dropped, never formatted.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Keys {
    pub spi: u32,
    pub secret: [u8; SECRET],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys(spi {:#010x})", self.spi)
    }
}

/// How ESP reaches the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EspOffer {
    pub suite: Suite,
    pub port: u16,
    /// Seconds of silence after which a client probes.
    pub fallback: u32,
}

/// The main configuration, as far as a client without routes and resolver needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    pub address4: Option<Ipv4Addr>,
    pub address6: Option<Ipv6Addr>,
    pub mtu: u32,
    pub dns: usize,
    pub routes: usize,
    pub esp: Option<EspOffer>,
}

/// The two bodies of frame type 1.
#[derive(Debug)]
pub enum Type1 {
    Main(Settings),
    /// The gateway's half: packets to it are sealed with these.
    Keys(Keys),
}

/// Reads the body (without the IF-T header) of a frame of vendor a4c, type 1.
pub fn parse_type1(body: &[u8]) -> Result<Type1, Malformed> {
    let head = Malformed("configuration frame with a wrong head");
    let mut words = Words(body);
    let (Some(zeros), Some(magic), Some(0), Some(length)) =
        (words.array::<16>(), words.u32(), words.u32(), words.u32())
    else {
        return Err(head);
    };
    if zeros != [0; 16] || length as usize != body.len() {
        return Err(head);
    }
    match magic {
        MAGIC_MAIN => parse_main(words).map(Type1::Main),
        MAGIC_KEYS => parse_keys(words).map(Type1::Keys),
        _ => Err(Malformed("configuration frame of an unknown kind")),
    }
}

fn parse_main(mut words: Words<'_>) -> Result<Settings, Malformed> {
    let mut settings = Settings {
        routes: parse_routes(&mut words)?,
        ..Settings::default()
    };
    let rest = words.0.len();
    if words.u32().map(|length| length as usize) != Some(rest) || words.u32() != Some(0x0300_0000) {
        return Err(Malformed("attribute block with a wrong length"));
    }
    let (mut cipher, mut hmac, mut port, mut fallback) = (None, None, None, 0);
    while !words.0.is_empty() {
        let (Some(kind), Some(length)) = (words.u16(), words.u16()) else {
            return Err(Malformed("attribute without a length"));
        };
        let Some(value) = words.take(usize::from(length)).map(Words) else {
            return Err(Malformed("attribute longer than its block"));
        };
        let mut value = value;
        let wanted = match kind {
            0x0001 | 0x0002 | 0x0003 | 0x0004 | 0x4005 | 0x400b | 0x4014 | 0x4017 => 4,
            0x0008 | 0x000f | 0x0010 => 17,
            0x000a | 0x401e => 16,
            0x4010 | 0x4011 | 0x4016 => 2,
            _ => usize::from(length),
        };
        if usize::from(length) != wanted {
            return Err(Malformed("attribute with a wrong length"));
        }
        match kind {
            0x0001 => settings.address4 = value.array::<4>().map(Ipv4Addr::from),
            0x0008 => settings.address6 = value.array::<16>().map(Ipv6Addr::from),
            0x0003 | 0x000a => settings.dns += 1,
            0x000f | 0x0010 => settings.routes += 1,
            0x4005 => settings.mtu = value.u32().unwrap_or(0),
            0x4010 => cipher = value.u16(),
            0x4011 => hmac = value.u16(),
            0x4016 => port = value.u16(),
            0x4017 => fallback = value.u32().unwrap_or(0),
            _ => {}
        }
    }
    if settings.mtu == 0 {
        return Err(Malformed("configuration without an MTU"));
    }
    if settings.address4.is_none() && settings.address6.is_none() {
        return Err(Malformed("configuration without an address"));
    }
    if let (Some(suite), Some(port)) = (cipher.zip(hmac).and_then(suite), port) {
        // 60 s is the client's own interval when the gateway names none.
        settings.esp = Some(EspOffer {
            suite,
            port,
            fallback: if fallback == 0 { 60 } else { fallback },
        });
    }
    Ok(settings)
}

/// The IPv4 route block: its number of routes. Every route must be one CIDR block.
fn parse_routes(words: &mut Words<'_>) -> Result<usize, Malformed> {
    let broken = Malformed("route block with a wrong length");
    let (Some(0x2e00), Some(length), Some([count, 0, 0, 0])) =
        (words.u16(), words.u16(), words.array::<4>())
    else {
        return Err(broken);
    };
    if usize::from(length) != 8 + 16 * usize::from(count) {
        return Err(broken);
    }
    for _ in 0..count {
        let (Some([kind, 0, 0, 0x10, 0, 0, 0xff, 0xff]), Some(low), Some(high)) =
            (words.array::<8>(), words.u32(), words.u32())
        else {
            return Err(Malformed("route with unknown fixed bytes"));
        };
        let host_bits = low ^ high;
        if !matches!(kind, 0x07 | 0xf1)
            || host_bits & host_bits.wrapping_add(1) != 0
            || low & host_bits != 0
        {
            return Err(Malformed("route that is not a network"));
        }
    }
    Ok(usize::from(count))
}

fn suite((cipher, hmac): (u16, u16)) -> Option<Suite> {
    match (cipher, hmac) {
        (2, 2) => Some(Suite::Aes128CbcSha1),
        (5, 2) => Some(Suite::Aes256CbcSha1),
        (2, 3) => Some(Suite::Aes128CbcSha256),
        (5, 3) => Some(Suite::Aes256CbcSha256),
        _ => None,
    }
}

fn parse_keys(mut words: Words<'_>) -> Result<Keys, Malformed> {
    let whole = words.0.len();
    if words.u32().map(|length| length as usize) != Some(whole) || words.u32() != Some(0x0100_0000)
    {
        return Err(Malformed("ESP keys with a wrong head"));
    }
    match (
        words.array::<4>(),
        words.u16(),
        words.array::<SECRET>(),
        words.array::<6>(),
    ) {
        // The SPI is little-endian here and big-endian in packets.
        (Some(spi), Some(0x40), Some(secret), Some([0, 0, 0, 0, 0, 0])) if words.0.is_empty() => {
            Ok(Keys {
                spi: u32::from_le_bytes(spi),
                secret,
            })
        }
        _ => Err(Malformed("ESP keys with a wrong length")),
    }
}

/// Body of the client's answer to ESP keys: its own half, then a copy of the gateway's.
pub fn keys_answer(ours: &Keys, gateways: &Keys) -> Vec<u8> {
    let mut body = vec![0; 16];
    for word in [MAGIC_KEYS, 0, 0xb0, 0x94, 0x0100_0000] {
        body.extend_from_slice(&word.to_be_bytes());
    }
    for half in [ours, gateways] {
        body.extend_from_slice(&half.spi.to_le_bytes());
        body.extend_from_slice(&0x40u16.to_be_bytes());
        body.extend_from_slice(&half.secret);
    }
    body.resize(0xb0, 0);
    body
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    /// Body of a main configuration with these attributes and no route.
    pub fn main_body(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut list = 0x0300_0000u32.to_be_bytes().to_vec();
        for (kind, value) in attributes {
            list.extend(kind.to_be_bytes());
            list.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            list.extend(*value);
        }
        let mut body = vec![0; 16];
        body.extend(MAGIC_MAIN.to_be_bytes());
        body.extend([0; 4]);
        body.extend(
            u32::try_from(body.len() + 4 + 8 + 4 + list.len())
                .unwrap()
                .to_be_bytes(),
        );
        body.extend([0x2e, 0, 0, 8, 0, 0, 0, 0]);
        body.extend(u32::try_from(4 + list.len()).unwrap().to_be_bytes());
        body.extend(list);
        body
    }

    /// Body of an ESP keys frame.
    pub fn keys_body(keys: &Keys) -> Vec<u8> {
        let mut body = vec![0; 16];
        for word in [MAGIC_KEYS, 0, 0x70, 0x54, 0x0100_0000] {
            body.extend(word.to_be_bytes());
        }
        body.extend(keys.spi.to_le_bytes());
        body.extend([0, 0x40]);
        body.extend(keys.secret);
        body.extend([0; 6]);
        body
    }

    fn captured_main() -> Vec<u8> {
        let text = "0000000000000000 0000000000000000 2c20f000 00000000 000000f9 2e000028 02000000
            070000100000ffff 0a4d0000 0a4dffff f10000100000ffff 0a4d0900 0a4d09ff 000000b5 03000000
            4000000100 4001000100 401f000100 4020000100 4021000100 4005000400000578 000300040a4d0035
            40060013636f72702e746573742c6c61622e7465737400 000400040a4d0036 400f00020000 401000020005
            401100020003 40120004000004b0 4013000400000000 4014000400000001 4015000400000000 401600021194
            401700040000000f 401800040000003c 401a000100 000100040a58000a 00020004ffffffff 400b00040ac8c8c8";
        let digits: String = text.split_whitespace().collect();
        (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn the_captured_configuration_is_understood() {
        let Type1::Main(settings) = parse_type1(&captured_main()).unwrap() else {
            panic!("not main")
        };
        let esp = EspOffer {
            suite: Suite::Aes256CbcSha256,
            port: 4500,
            fallback: 15,
        };
        let expected = Settings {
            address4: Some(Ipv4Addr::new(10, 88, 0, 10)),
            address6: None,
            mtu: 1400,
            dns: 1,
            routes: 2,
            esp: Some(esp),
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = captured_main();
        for length in 0..whole.len() {
            assert!(parse_type1(&whole[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn an_address_and_an_mtu_are_the_least() {
        let address: (u16, &[u8]) = (1, &[10, 0, 0, 1]);
        let mtu: (u16, &[u8]) = (0x4005, &[0, 0, 5, 0x78]);
        assert!(parse_type1(&main_body(&[address, mtu])).is_ok());
        assert!(parse_type1(&main_body(&[address])).is_err());
        assert!(parse_type1(&main_body(&[mtu])).is_err());
    }

    #[test]
    fn keys_come_back_and_the_answer_has_the_layout_of_the_capture() {
        let gateways = Keys {
            spi: 0xa137_da13,
            secret: [7; SECRET],
        };
        let Type1::Keys(read) = parse_type1(&keys_body(&gateways)).unwrap() else {
            panic!("not keys")
        };
        assert_eq!((read.spi, read.secret), (gateways.spi, gateways.secret));
        let answer = keys_answer(
            &Keys {
                spi: 0xa172_9fd6,
                secret: [9; SECRET],
            },
            &gateways,
        );
        // Offsets of the capture count from the start of the frame, 16 bytes earlier.
        assert_eq!(answer.len(), 0xc0 - 16);
        assert_eq!(
            answer[0x28 - 16..0x34 - 16],
            [0, 0, 0, 0xb0, 0, 0, 0, 0x94, 1, 0, 0, 0]
        );
        assert_eq!(answer[0x34 - 16..0x38 - 16], [0xd6, 0x9f, 0x72, 0xa1]);
        assert_eq!(
            answer[0x7a - 16..0x80 - 16],
            [0x13, 0xda, 0x37, 0xa1, 0, 0x40]
        );
        assert_eq!(answer[0x80 - 16..], [7; SECRET]);
    }
}
