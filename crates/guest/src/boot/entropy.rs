//! Seeds the kernel's random number generator from the host, so that nothing waits for a VM to become
//! unpredictable.

use std::fs::File;
use std::io;

use rustix::ioctl::{Setter, ioctl, opcode};

/// The most seed that is taken, in bytes; `rand_pool_info` of `linux/random.h` has no limit of its own.
const CAPACITY: usize = 512;
/// The part of `rand_pool_info` that comes before the bytes: two 32-bit numbers.
type Header = [i32; 2];
/// `RNDADDENTROPY` of `linux/random.h`: add these bytes and count them as entropy.
const ADD_ENTROPY: rustix::ioctl::Opcode = opcode::write::<Header>(b'R', 3);

/// `struct rand_pool_info` with room for its bytes.
#[repr(C)]
struct Pool {
    entropy_bits: i32,
    bytes: i32,
    content: [u8; CAPACITY],
}

/// The generator is not seeded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntropyError {
    #[error("the seed is no hexadecimal text of 1 to {CAPACITY} bytes")]
    NotHexadecimal,
    #[error("the kernel refuses the seed: {0}")]
    Refused(#[from] io::Error),
}

/// Adds a seed in hexadecimal to the kernel's pool and counts each of its bits.
pub(crate) fn add(seed: &str) -> Result<(), EntropyError> {
    let seed = decode(seed).ok_or(EntropyError::NotHexadecimal)?;
    let mut content = [0; CAPACITY];
    content[..seed.len()].copy_from_slice(&seed);
    let bytes = i32::try_from(seed.len()).map_err(|_| EntropyError::NotHexadecimal)?;
    let pool = Pool { entropy_bits: bytes * 8, bytes, content };
    let device = File::options().write(true).open("/dev/random")?;
    // SAFETY: RNDADDENTROPY reads a `rand_pool_info` and as many bytes after it as its second number says,
    // all of which `Pool` holds.
    unsafe { ioctl(&device, Setter::<ADD_ENTROPY, Pool>::new(pool)) }.map_err(io::Error::from)?;
    Ok(())
}

fn decode(seed: &str) -> Option<Vec<u8>> {
    let digits = seed.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) || digits.len() / 2 > CAPACITY {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits.chunks_exact(2).map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_hexadecimal() {
        assert_eq!(decode("00ffA5"), Some(vec![0, 255, 0xa5]));
        for seed in ["", "0", "0g", "é0", &"00".repeat(CAPACITY + 1)] {
            assert_eq!(decode(seed), None, "{seed}");
        }
    }

    #[test]
    fn the_request_is_the_kernels() {
        // `RNDADDENTROPY` as the C macro computes it on x86-64.
        assert_eq!(ADD_ENTROPY, 0x4008_5203);
    }
}
