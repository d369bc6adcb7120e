//! Random bytes, good enough for secrets.

use rand::RngCore as _;

/// Fills a buffer, from a generator of the thread's own that is seeded, and
/// seeded again, by the operating system: a salt a part must not be a system
/// call a part.
///
/// # Panics
/// If the operating system has no random bytes: nothing that this program
/// promises about secrets and identities would hold then.
pub fn fill_random(buffer: &mut [u8]) {
    rand::rng().fill_bytes(buffer);
}

/// A fresh array.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill_random(&mut bytes);
    bytes
}

/// A number in [0, 1), for jitter.
pub fn random_unit() -> f64 {
    let bits = u64::from_be_bytes(random_bytes::<8>()) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_stays_in_its_interval_and_varies() {
        let drawn: Vec<f64> = (0..100).map(|_| random_unit()).collect();
        assert!(drawn.iter().all(|x| (0.0..1.0).contains(x)));
        assert!(drawn.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
