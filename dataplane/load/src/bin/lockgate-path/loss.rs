//! Which packets get lost: each with the same chance, independent of the others, in the same
//! order on every run.

/// A share of all packets, drawn by counting down to the next victim.
#[derive(Debug)]
pub struct Loss {
    /// ln(1 - share); 0 when nothing is lost.
    log_keep: f64,
    /// Packets that still pass before one is lost.
    passing: u64,
    state: u64,
}

impl Loss {
    /// `share`: 0 up to, but not, 1. Nothing for other numbers.
    pub fn new(share: f64) -> Option<Self> {
        let mut loss = Self {
            log_keep: (-share).ln_1p(),
            passing: u64::MAX,
            state: 0x4c6f_636b_6761_7465,
        };
        if !(0.0..1.0).contains(&share) {
            return None;
        }
        loss.passing = loss.gap();
        Some(loss)
    }

    /// Whether the next packet is lost.
    pub fn takes_next(&mut self) -> bool {
        if self.passing == 0 {
            self.passing = self.gap();
            return true;
        }
        self.passing -= 1;
        false
    }

    /// Whether none of the next `count` packets is lost; then, and only then, they are counted.
    pub fn spares(&mut self, count: u64) -> bool {
        match self.passing.checked_sub(count) {
            Some(left) => {
                self.passing = left;
                true
            }
            None => false,
        }
    }

    /// Length of a run of packets that pass: geometric, by inversion.
    fn gap(&mut self) -> u64 {
        if self.log_keep == 0.0 {
            return u64::MAX;
        }
        // Marsaglia's xorshift64*: its upper 53 bits make a number in (0, 1].
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let bits = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        let uniform = (bits + 1) as f64 / (1u64 << 53) as f64;
        (uniform.ln() / self.log_keep) as u64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_share_is_lost_however_packets_are_grouped() {
        let mut one = Loss::new(0.01).unwrap();
        let singly: Vec<u64> = (0..200_000).filter(|_| one.takes_next()).collect();
        let mut many = Loss::new(0.01).unwrap();
        let mut grouped = Vec::new();
        for group in 0..4_000u64 {
            if !many.spares(50) {
                grouped.extend((group * 50..group * 50 + 50).filter(|_| many.takes_next()));
            }
        }
        assert_eq!(singly, grouped);
        assert!(
            (1_800..2_200).contains(&singly.len()),
            "{} lost",
            singly.len()
        );
    }

    #[test]
    fn none_is_lost_at_zero_and_nonsense_is_refused() {
        let mut none = Loss::new(0.0).unwrap();
        assert!(none.spares(u64::MAX - 1) && !none.takes_next());
        for share in [-0.1, 1.0, f64::NAN] {
            assert!(Loss::new(share).is_none());
        }
    }
}
