#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
//! Captured packets, published vectors, and properties of every suite.

use super::*;
use crate::link::Secret;
use proptest::prelude::*;

const SUITES: [Suite; 6] = [
    Suite::Aes128CbcSha1,
    Suite::Aes256CbcSha1,
    Suite::Aes128CbcSha256,
    Suite::Aes256CbcSha256,
    Suite::Aes128Gcm,
    Suite::Aes256Gcm,
];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn sa(spi: u32, suite: Suite, esn: bool, secret: &str) -> Sa {
    Sa {
        spi,
        suite,
        esn,
        secret: Secret(hex(secret)),
    }
}

fn any_sa(suite: Suite, esn: bool) -> Sa {
    Sa {
        spi: 0xdead_beef,
        suite,
        esn,
        secret: Secret((0..64).collect()),
    }
}

fn seal(key: &mut SealKey, payload: &[u8], next_header: u8) -> Vec<u8> {
    let mut datagram = vec![0xaa; key.sealed_len(payload.len())];
    let start = key.headroom();
    datagram[start..start + payload.len()].copy_from_slice(payload);
    let len = key.seal(&mut datagram, payload.len(), next_header).unwrap();
    assert_eq!(len, datagram.len());
    datagram
}

fn open(key: &mut OpenKey, datagram: &[u8]) -> Result<(Vec<u8>, u8), Discard> {
    let mut copy = datagram.to_vec();
    key.open(&mut copy)
        .map(|opened| (copy[opened.range].to_vec(), opened.next_header))
}

// Two sessions of openconnect 9.01 with a gateway that accepted the replies: probes and a ping.

const CLIENT_SHA256: &str = "aa8ff55972846185a5547ce827f78685c23cc986daf2f97b941b31cb907e1fe7
    399acf56818b616674cd4e1803bee683186e3b1db71c81da4e6221aec1e79df1";
const SERVER_SHA256: &str = "632601cd2f91f1982c575fdd9204d3473731118d61f8e99a42c421eafeb72c2d
    d03770d53e56a448701e2386f778f118bb81209721332e087aef9a038fc9e367";
const CLIENT_SHA1: &str =
    "778b4e4be46ad6524fe05ccee352d56b f6efa551208b87cf949486d29b42235ae46d1531
    cb94cd9c527c7c1f01acebff3d035171ef013ac571a4cbf458b9f05d";
const SERVER_SHA1: &str =
    "2e029a9394675780fdd8e5437bfdfec6 2c9d6fe4ae00b24ff5d9de7de910e0021fdcaf8e";

#[test]
fn packets_of_openconnect_with_sha256() {
    let mut client = OpenKey::new(&sa(
        0xa137_da13,
        Suite::Aes256CbcSha256,
        false,
        CLIENT_SHA256,
    ))
    .unwrap();
    let probe = hex("a137da13 00000000 872ea6fe98fe0e5aff297f7894dcf367
        84b9c00050e250863e1e9f1729111b7e 6a23afef1982905118f7c40e4df0db5c");
    assert_eq!(spi(&probe), Some(0xa137_da13));
    let (payload, next_header) = open(&mut client, &probe).expect("sequence number 0 is valid");
    assert_eq!(payload, PROBE);
    assert_eq!(next_header, IPV4);
    assert_eq!(open(&mut client, &probe), Err(Discard::Replayed));
    let ping = hex("a137da13 00000002 8e931920f8af5fffd351ada463e381f4
        f744a48a3025cd8201e87c9bb05db7c356fbcfc78acabdd2558d2d097b648badd84dc54265e703d0978bec0438ccae7d
        4ffe50f3d8e143a2d1b51d826098ae7d");
    let inner = hex("45000024114f4000400113db0a58000a0a4d01010800b14e3aa000010001020304050607");
    assert_eq!(open(&mut client, &ping), Ok((inner, IPV4)));

    let mut server = OpenKey::new(&sa(
        0xa172_9fd6,
        Suite::Aes256CbcSha256,
        false,
        SERVER_SHA256,
    ))
    .unwrap();
    let probe = hex("a1729fd6 00000001 8f9c499a9720bd0aa5866607a4fd7cca
        88c23ee89009b08ccb34932ca25a48b3 d8628d996ce54a969a10a3585cc5756b");
    assert_eq!(open(&mut server, &probe), Ok((PROBE.to_vec(), IPV4)));
    let pong = hex("a1729fd6 00000003 a0903c67bd15dc9361ce275abc5bc7df
        84ba19f5d4f2f98ce6f734015838f22161e4f0e90165f23c1f779f1ec2ff01bb622d5156f5a122760c212b5318f41927
        642b3c6c71f8d55788335a33aa963632");
    let inner = hex("45000024114f4000400113db0a4d01010a58000a0000b94e3aa000010001020304050607");
    assert_eq!(open(&mut server, &pong), Ok((inner, IPV4)));
}

#[test]
fn packets_of_openconnect_with_sha1() {
    let mut client =
        OpenKey::new(&sa(0xd002_80e1, Suite::Aes128CbcSha1, false, CLIENT_SHA1)).unwrap();
    let probe = hex("d00280e1 00000000 72a0373c67d5724b24af89610b1d715c
        868d51717f61f5ac47e73b660a03b2df 34a703ded914b9d42da4b68c");
    assert_eq!(open(&mut client, &probe), Ok((PROBE.to_vec(), IPV4)));
    let ping = hex("d00280e1 00000002 28594a0150cbf6e0190a537bdbbdb52a
        7cfb7c344caf9bd6be704875286966225a9639e1b007464410d5c2142c782b4f39f0af4036f06a9a2a7e195b0e086967
        866751ca5fbcb5e8db388216");
    let inner = hex("45000024155f400040010fcb0a58000a0a4d01010800b0933b5b00010001020304050607");
    assert_eq!(open(&mut client, &ping), Ok((inner, IPV4)));
    let mut server =
        OpenKey::new(&sa(0xb86e_ab1e, Suite::Aes128CbcSha1, false, SERVER_SHA1)).unwrap();
    let probe = hex("b86eab1e 00000001 9d32d9b94d750b4cc39cfe265ad95a45
        7b778641a90a5fa3246aeb3c325b7ecb fc19f661ce27579c3ce5377d");
    assert_eq!(open(&mut server, &probe), Ok((PROBE.to_vec(), IPV4)));
}

#[test]
fn packets_of_openconnect_after_a_rekey() {
    let client = "cf661621368216b208ff98834402ba0e0dabf511fb140cc378cff90b341edd11
        54ba59be5c1c8140902953f1c90f862a5be206309d77aae8d63a26b65f452ff8";
    let mut client = OpenKey::new(&sa(0xb70f_3f45, Suite::Aes256CbcSha256, false, client)).unwrap();
    let ping = hex("b70f3f45 00000000 eb9a43a585a7a2ba66be72c5fd85b35e
        a58b662ad2bdeb388ebb2d5f36098a9796a1d516cf0f54d1446c1a4f4641d393f45f7557e3328c4a
        ba600b0eaf9dfd6d86fbc55302eac13dc9f7865d3b483b4f");
    let (inner, next_header) = open(&mut client, &ping).unwrap();
    assert_eq!((inner.len(), inner[0], next_header), (36, 0x45, IPV4));
}

/// draft-mcgrew-gcm-test-01, section 4: whole ESP packets, with extended sequence numbers (a DNS
/// query), without them (another one), and with the longer key (a TCP SYN). Their IVs are no
/// sequence numbers, and their next header (1) is none of ours, so they go by the cipher directly.
#[test]
fn published_vectors_for_gcm() {
    for (suite, secret, high, packet, plain) in [
        (
            Suite::Aes128Gcm,
            "4c80cdefbb5d10da906ac73c3613a634 2e443b68",
            Some(0x8765_4321),
            "00004321 00000000 4956ed7e3b244cfe
            fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34
            cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce
            61bc17d768fd9732 459018148f6cbe722fd04796562dfdb4",
            "45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970
            045f756470037369700963796265726369747902646b0000210001 01020201",
        ),
        (
            Suite::Aes128Gcm,
            "feffe9928665731c6d6a8f9467308308 cafebabe",
            None,
            "0000a5f8 0000000a facedbaddecaf888
            deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c
            3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd1
            83b70d3aa8bc6ee4c309e9d85a41ad4a",
            "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d0010000010000000000000
            37369700963796265726369747902646b0000010001 0001",
        ),
        (
            Suite::Aes256Gcm,
            "abbccddef00112233445566778899aababbccddef00112233445566778899aab 11223344",
            None,
            "4a2cbfe3 00000002 0102030405060708
            ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d34
            7f0545659f14e99def842d8eb335f4eecfdbf831824b4c4915956c96",
            "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000
            020405b401010402 01020201",
        ),
    ] {
        let key = gcm::Key::new(&sa(0x4321, suite, high.is_some(), secret)).unwrap();
        let (packet, plain) = (hex(packet), hex(plain));
        let mut opened = packet.clone();
        key.open(&mut opened, high).unwrap();
        assert_eq!(opened[16..16 + plain.len()], plain);
        let iv = u64::from_be_bytes(packet[8..16].try_into().unwrap());
        key.seal(&mut opened, iv, high).unwrap();
        assert_eq!(opened, packet);
        assert_eq!(
            key.open(&mut opened, Some(high.map_or(0, |high| high + 1))),
            Err(Discard::BadIcv),
            "the high half counts, and so does having one"
        );
    }
}

#[test]
fn sizes_on_the_wire() {
    for (payload, sha256, sha1) in [
        (1, 56, 52),
        (36, 88, 84),
        (84, 136, 132),
        (1400, 1448, 1444),
    ] {
        for suite in SUITES {
            let key = SealKey::new(&any_sa(suite, false), [0; 32]).unwrap();
            let expected = match suite {
                Suite::Aes128CbcSha256 | Suite::Aes256CbcSha256 => sha256,
                Suite::Aes128CbcSha1 | Suite::Aes256CbcSha1 => sha1,
                Suite::Aes128Gcm | Suite::Aes256Gcm => {
                    16 + (payload + 2usize).next_multiple_of(4) + 16
                }
            };
            assert_eq!(key.sealed_len(payload), expected);
            assert!(key.sealed_len(payload) <= payload + OVERHEAD);
        }
    }
}

#[test]
fn our_numbers_start_at_one_and_stop_before_they_repeat() {
    for suite in SUITES {
        let mut key = SealKey::new(&any_sa(suite, false), [0; 32]).unwrap();
        assert_eq!(field32(&seal(&mut key, b"x", IPV4), 4), Ok(1));
        assert!(!key.wants_rekey());
        key.sequence = REKEY_SHORT;
        assert!(key.wants_rekey());
        key.sequence = u64::from(u32::MAX) - 1;
        assert_eq!(field32(&seal(&mut key, b"x", IPV4), 4), Ok(u32::MAX));
        assert_eq!(key.seal(&mut [0; 100], 1, IPV4), Err(SealError::Exhausted));
        assert_eq!(key.used(), u64::from(u32::MAX));
    }
}

#[test]
fn extended_numbers_pass_the_turn_of_the_low_half() {
    for suite in SUITES {
        let sa = any_sa(suite, true);
        let (mut sealer, mut opener) = (
            SealKey::new(&sa, [0; 32]).unwrap(),
            OpenKey::new(&sa).unwrap(),
        );
        sealer.sequence = u64::from(u32::MAX) - 2;
        let sent: Vec<_> = (0..6u8).map(|n| seal(&mut sealer, &[n], IPV6)).collect();
        for at in [0, 3, 1, 5, 4, 2] {
            assert_eq!(
                open(&mut opener, &sent[at]),
                Ok((vec![at as u8], IPV6)),
                "{suite:?}"
            );
        }
        for datagram in &sent {
            assert_eq!(open(&mut opener, datagram), Err(Discard::Replayed));
        }
        // The high half is authenticated although it is not sent.
        let mut behind = OpenKey::new(&sa).unwrap();
        assert_eq!(open(&mut behind, &sent[4]), Err(Discard::BadIcv));
        sealer.sequence = 2 * REKEY_EXTENDED - 1;
        assert_eq!(
            sealer.seal(&mut [0; 100], 1, IPV4),
            Err(SealError::Exhausted)
        );
    }
}

#[test]
fn ivs_do_not_repeat_and_depend_on_the_seed() {
    let sa = any_sa(Suite::Aes128CbcSha1, false);
    let mut ivs = std::collections::HashSet::new();
    for seed in [[0; 32], [1; 32]] {
        let mut key = SealKey::new(&sa, seed).unwrap();
        for _ in 0..100 {
            assert!(ivs.insert(seal(&mut key, b"same", IPV4)[8..24].to_vec()));
        }
    }
}

#[test]
fn authentic_but_ill_formed_insides() {
    for suite in SUITES {
        let sa = any_sa(suite, false);
        let mut sealer = SealKey::new(&sa, [0; 32]).unwrap();
        let mut opener = OpenKey::new(&sa).unwrap();
        let datagram = seal(&mut sealer, b"data", 59);
        assert_eq!(open(&mut opener, &datagram), Err(Discard::BadNextHeader));
    }
    for (plain, expected) in [
        (&[1, 2, 3, 5, 4, IPV4][..], Err(Discard::BadPadding)),
        (&[9, 9, 200, IPV4], Err(Discard::BadPadding)),
        (&[9, 1, 2, 2, IPV4], Ok((1, IPV4))),
        (&[0, IPV6], Ok((0, IPV6))),
        (&[0], Err(Discard::TooShort)),
    ] {
        assert_eq!(strip(plain), expected, "{plain:?}");
    }
}

#[test]
fn forgeries_do_not_move_the_window() {
    for suite in SUITES {
        let sa = any_sa(suite, false);
        let (mut sealer, mut opener) = (
            SealKey::new(&sa, [3; 32]).unwrap(),
            OpenKey::new(&sa).unwrap(),
        );
        let first = seal(&mut sealer, b"first", IPV4);
        for at in 0..first.len() {
            let mut forged = first.clone();
            forged[at] ^= 0x40;
            let expected = if at < 4 {
                Discard::UnknownSpi
            } else {
                Discard::BadIcv
            };
            assert_eq!(
                open(&mut opener, &forged),
                Err(expected),
                "{suite:?} byte {at}"
            );
        }
        assert_eq!(open(&mut opener, &first), Ok((b"first".to_vec(), IPV4)));
        for cut in 0..first.len() {
            assert!(open(&mut opener, &first[..cut]).is_err());
        }
    }
}

#[test]
fn keys_are_checked_and_never_shown() {
    for (suite, need) in SUITES.into_iter().zip([36, 52, 48, 64, 20, 36]) {
        let key = |spi, len| Sa {
            spi,
            suite,
            esn: false,
            secret: Secret(vec![0x5a; len]),
        };
        assert_eq!(
            OpenKey::new(&key(256, need - 1)).unwrap_err(),
            KeyError::TooShort,
            "{suite:?}"
        );
        assert_eq!(
            SealKey::new(&key(256, need - 1), [0; 32]).unwrap_err(),
            KeyError::TooShort
        );
        assert_eq!(
            OpenKey::new(&key(255, need)).unwrap_err(),
            KeyError::ReservedSpi
        );
        let shown = format!(
            "{:?} {:?}",
            OpenKey::new(&key(256, need)),
            SealKey::new(&key(256, need), [0; 32])
        );
        assert!(!shown.contains("5a") && !shown.contains("90"), "{shown}");
    }
}

#[test]
fn an_idle_pair_of_keys_is_small() {
    let own = size_of::<SealKey>() + size_of::<OpenKey>();
    assert!(
        own + size_of::<cbc::Sealer>() + size_of::<cbc::Opener>() < 6 * 1024,
        "{own}"
    );
}

#[test]
fn the_window_is_as_wide_as_it_must_be() {
    const { assert!(crate::replay::SIZE >= 1024) };
    for (suite, esn) in SUITES.into_iter().flat_map(|s| [(s, false), (s, true)]) {
        let sa = any_sa(suite, esn);
        let mut sealer = SealKey::new(&sa, [0; 32]).unwrap();
        let mut opener = OpenKey::new(&sa).unwrap();
        let early = [0, 1].map(|n| seal(&mut sealer, &[n], IPV4));
        sealer.sequence = crate::replay::SIZE;
        let late = seal(&mut sealer, b"x", IPV4);
        assert!(open(&mut opener, &late).is_ok());
        assert_eq!(open(&mut opener, &early[1]), Ok((vec![1], IPV4)));
        assert_eq!(open(&mut opener, &early[1]), Err(Discard::Replayed));
        let old = open(&mut opener, &early[0]);
        assert!(
            matches!(old, Err(Discard::Replayed | Discard::BadIcv)),
            "{suite:?} {esn}: {old:?}"
        );
    }
}

proptest! {
    #[test]
    fn opening_undoes_sealing(suite in prop::sample::select(&SUITES[..]), esn: bool, payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..1500), 1..5), seed: [u8; 32]) {
        let sa = any_sa(suite, esn);
        let (mut sealer, mut opener) = (SealKey::new(&sa, seed).unwrap(), OpenKey::new(&sa).unwrap());
        for payload in payloads {
            let datagram = seal(&mut sealer, &payload, IPV6);
            prop_assert_eq!(open(&mut opener, &datagram), Ok((payload, IPV6)));
        }
    }

    #[test]
    fn a_batch_is_the_same_as_one_after_the_other(
        suite in prop::sample::select(&SUITES[..]), esn: bool, seed: [u8; 32],
        lens in prop_oneof![proptest::collection::vec(0usize..400, 0..150), proptest::collection::vec(Just(1400usize), 0..70)],
    ) {
        let sa = any_sa(suite, esn);
        let (mut alone, mut together) = (SealKey::new(&sa, seed).unwrap(), SealKey::new(&sa, seed).unwrap());
        let mut expected = Vec::new();
        let mut buf = Vec::new();
        for (n, len) in lens.iter().enumerate() {
            let payload = vec![n as u8; *len];
            expected.extend(seal(&mut alone, &payload, IPV4));
            let start = buf.len() + together.headroom();
            buf.resize(buf.len() + together.sealed_len(*len), 0xbb);
            buf[start..start + len].copy_from_slice(&payload);
        }
        buf.extend([0xcc; 7]);
        prop_assert_eq!(together.seal_batch(&mut buf, &lens, IPV4), Ok(expected.len()));
        prop_assert!(buf[..expected.len()] == expected[..] && buf[expected.len()..] == [0xcc; 7]);
        if !lens.is_empty() {
            prop_assert_eq!(together.seal_batch(&mut buf[..expected.len() - 1], &lens, IPV4), Err(SealError::NoRoom));
            together.sequence = limits(esn).0 - lens.len() as u64 + 1;
            prop_assert_eq!(together.seal_batch(&mut buf, &lens, IPV4), Err(SealError::Exhausted));
            prop_assert_eq!(together.used(), limits(esn).0 - lens.len() as u64 + 1);
        }
    }

    /// Around a turn of the low half, in any order, with repetitions: a packet is taken if it is
    /// new and the window reaches it, and then its number was understood, or it would not verify.
    #[test]
    fn extended_numbers_are_understood_around_every_turn(
        suite in prop::sample::select(&[Suite::Aes256Gcm, Suite::Aes128CbcSha1][..]),
        turn in 1u64..8, start in -3000i64..3000,
        order in proptest::collection::vec((0usize..4500, any::<bool>()), 1..60),
    ) {
        let sa = any_sa(suite, true);
        let first = (turn << 32).saturating_add_signed(start);
        let mut sealer = SealKey::new(&sa, [0; 32]).unwrap();
        let mut sealed = |offset: usize| {
            sealer.sequence = first + offset as u64 - 1;
            seal(&mut sealer, &[offset as u8], IPV4)
        };
        let mut opener = OpenKey::new(&sa).unwrap();
        // Where the receiver has got to: without it, nobody could tell the high half.
        opener.window.accept(first);
        let (mut seen, mut top) = (std::collections::HashSet::from([0]), 0);
        for (offset, again) in order {
            let datagram = sealed(offset);
            let reached = offset + crate::replay::SIZE as usize > top;
            for _ in 0..1 + usize::from(again) {
                let taken = open(&mut opener, &datagram);
                if reached && seen.insert(offset) {
                    prop_assert_eq!(taken, Ok((vec![offset as u8], IPV4)));
                    top = top.max(offset);
                } else {
                    prop_assert!(matches!(taken, Err(Discard::Replayed | Discard::BadIcv)), "{:?}", taken);
                }
            }
        }
    }

    /// Alone or in batches, with failures in between: no IV of GCM, and so no nonce, comes twice.
    #[test]
    fn nonces_never_repeat(
        turn: bool,
        steps in proptest::collection::vec((0usize..40, 0usize..40, any::<bool>()), 1..40),
    ) {
        let mut key = SealKey::new(&any_sa(Suite::Aes256Gcm, true), [0; 32]).unwrap();
        if turn {
            key.sequence = u64::from(u32::MAX) - 100;
        }
        let mut last = key.sequence;
        for (count, size, room) in steps {
            let lens = vec![size; count];
            let each = key.sealed_len(size);
            let mut buf = vec![0; (each * count).saturating_sub(usize::from(!room))];
            let sealed = if count == 1 {
                key.seal(&mut buf, size, IPV4)
            } else {
                key.seal_batch(&mut buf, &lens, IPV4)
            };
            prop_assert_eq!(sealed.is_ok(), room || count == 0);
            if sealed.is_ok() {
                for datagram in buf.chunks(each) {
                    let iv = u64::from_be_bytes(datagram[8..16].try_into().unwrap());
                    prop_assert!(iv > last, "{} after {}", iv, last);
                    prop_assert_eq!(iv as u32, field32(datagram, 4).unwrap());
                    last = iv;
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_taken_calmly(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzz::esp(&bytes);
    }
}
