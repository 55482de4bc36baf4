//! Nanoseconds per packet to seal it alone, to seal it in a batch of 40 (what one UDP send takes)
//! and to open it, for every suite: `cargo run --release --example esp_speed`.

use lockgate_dataplane::esp::{IPV4, OpenKey, SealKey};
use lockgate_dataplane::link::{Sa, Secret, Suite};
use std::hint::black_box;
use std::time::{Duration, Instant};

const SUITES: [Suite; 6] = [
    Suite::Aes128Gcm,
    Suite::Aes256Gcm,
    Suite::Aes128CbcSha1,
    Suite::Aes256CbcSha1,
    Suite::Aes128CbcSha256,
    Suite::Aes256CbcSha256,
];
/// Packets per round, and how many rounds are tried: the best one is shown.
const PACKETS: usize = 2000;
const BATCH: usize = 40;
const ROUNDS: usize = 30;

fn main() {
    println!(
        "{:<18}{:>8}{:>10}{:>10}",
        "suite", "bytes", "seal ns", "open ns"
    );
    for suite in SUITES {
        for len in [92, 1400] {
            let [seal, batch, open] = measure(suite, len);
            println!(
                "{:<18}{len:>8}{seal:>10}{batch:>10}{open:>10}",
                format!("{suite:?}")
            );
        }
    }
}

fn measure(suite: Suite, len: usize) -> [u128; 3] {
    let sa = Sa {
        spi: 4711,
        suite,
        esn: false,
        secret: Secret((0..64).collect()),
    };
    let mut sealer = SealKey::new(&sa, [7; 32]).expect("64 bytes are enough for every suite");
    let mut opener = OpenKey::new(&sa).expect("64 bytes are enough for every suite");
    let size = sealer.sealed_len(len);
    let mut datagrams = vec![0u8; size * PACKETS];
    let [mut seal, mut batch, mut open] = [Duration::MAX; 3];
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for datagram in datagrams.chunks_exact_mut(size) {
            black_box(
                sealer
                    .seal(datagram, len, IPV4)
                    .expect("far from exhausted"),
            );
        }
        seal = seal.min(start.elapsed());
        let start = Instant::now();
        for datagrams in datagrams.chunks_exact_mut(size * BATCH) {
            black_box(
                sealer
                    .seal_batch(datagrams, &[len; BATCH], IPV4)
                    .expect("far from exhausted"),
            );
        }
        batch = batch.min(start.elapsed());
        let start = Instant::now();
        for datagram in datagrams.chunks_exact_mut(size) {
            black_box(opener.open(datagram).expect("just sealed"));
        }
        open = open.min(start.elapsed());
    }
    [seal, batch, open].map(|time| time.as_nanos() / PACKETS as u128)
}
