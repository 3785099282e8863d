//! Takes the uncompressed kernel out of a bzImage.
//!
//! Distributions ship the kernel compressed, with a stub that unpacks it. Firecracker loads the plain ELF file only,
//! and under emulation the stub costs half a second. Where the payload lies is said in the header of the x86 boot
//! protocol (`Documentation/arch/x86/boot.rst` of Linux); how it is compressed is told by its first bytes.

use std::io::Read;

/// Offset of the number of 512-byte sectors of the real-mode code, one byte.
const SETUP_SECTS: usize = 0x1f1;
/// Offset of the magic number `HdrS`.
const HEADER_MAGIC: usize = 0x202;
/// Offset of `payload_offset`, relative to the protected-mode code, and behind it of `payload_length`.
const PAYLOAD_OFFSET: usize = 0x248;
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// The magic number of the "legacy" LZ4 frames that the kernel's build uses, and the most one of its blocks unpacks to
/// (`lz4_Frame_format.md`, section "Legacy frame").
const LZ4_LEGACY_MAGIC: &[u8] = &[0x02, 0x21, 0x4c, 0x18];
const LZ4_LEGACY_BLOCK: usize = 8 << 20;

/// No kernel is larger; a payload that claims more is damaged.
const LARGEST_KERNEL: usize = 512 << 20;

/// The file is no kernel image that we can unpack.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// There is no boot header in it.
    #[error("this is neither an ELF file nor a bzImage: the boot header is missing")]
    NotAKernel,
    /// The header points outside the file.
    #[error("the kernel image is cut short: its payload should end at byte {end}, the file has {length}")]
    CutShort {
        /// Where the payload should end.
        end: usize,
        /// How long the file is.
        length: usize,
    },
    /// A compression that we do not unpack.
    #[error(
        "the kernel is compressed in a way that is not supported (it begins {magic:02x?}): gzip, LZ4 and zstd are"
    )]
    Compression {
        /// The payload's first bytes.
        magic: Vec<u8>,
    },
    /// The payload does not unpack.
    #[error("the kernel image is damaged: its payload does not unpack: {0}")]
    Damaged(String),
    /// The payload unpacks to something else.
    #[error("the kernel image is damaged: its payload unpacks to something that is no ELF file")]
    NotElf,
}

/// Returns the ELF file inside a bzImage. An ELF file is returned as it is.
///
/// # Errors
/// [`PayloadError`].
pub fn extract_elf(image: &[u8]) -> Result<Vec<u8>, PayloadError> {
    if image.starts_with(ELF_MAGIC) {
        return Ok(image.to_vec());
    }
    if image.get(HEADER_MAGIC..HEADER_MAGIC + 4) != Some(b"HdrS") {
        return Err(PayloadError::NotAKernel);
    }
    let field = |at: usize| {
        let bytes = image.get(at..at + 4).ok_or(PayloadError::NotAKernel)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes were taken")) as usize)
    };
    // Zero means four, for the sake of very old boot loaders.
    let setup_sectors = match image[SETUP_SECTS] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup_sectors + 1) * 512 + field(PAYLOAD_OFFSET)?;
    let end = start + field(PAYLOAD_OFFSET + 4)?;
    let payload = image.get(start..end).ok_or(PayloadError::CutShort { end, length: image.len() })?;
    let kernel = decompress(payload)?;
    if !kernel.starts_with(ELF_MAGIC) {
        return Err(PayloadError::NotElf);
    }
    Ok(kernel)
}

fn decompress(payload: &[u8]) -> Result<Vec<u8>, PayloadError> {
    let damaged = |error: std::io::Error| PayloadError::Damaged(error.to_string());
    let read_bounded = |reader: &mut dyn Read| {
        let mut kernel = Vec::new();
        reader.take(LARGEST_KERNEL as u64).read_to_end(&mut kernel).map_err(damaged)?;
        Ok(kernel)
    };
    match payload {
        [0x1f, 0x8b, ..] => read_bounded(&mut flate2::read::GzDecoder::new(payload)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            // The build appends the unpacked size, which is no frame of its own.
            let mut decoder = zstd::stream::read::Decoder::new(payload).map_err(damaged)?.single_frame();
            read_bounded(&mut decoder)
        }
        _ if payload.starts_with(LZ4_LEGACY_MAGIC) => decompress_lz4(&payload[LZ4_LEGACY_MAGIC.len()..]),
        _ => Err(PayloadError::Compression { magic: payload[..payload.len().min(6)].to_vec() }),
    }
}

/// Blocks of a four-byte length and that many bytes; then the kernel's build appends the unpacked size.
fn decompress_lz4(mut blocks: &[u8]) -> Result<Vec<u8>, PayloadError> {
    let mut kernel = Vec::new();
    let mut block = vec![0; LZ4_LEGACY_BLOCK];
    while blocks.len() > 4 {
        let (length, rest) = blocks.split_at(4);
        let length = u32::from_le_bytes(length.try_into().expect("four bytes were split off")) as usize;
        let (compressed, rest) = rest
            .split_at_checked(length)
            .ok_or_else(|| PayloadError::Damaged(format!("a block of {length} bytes is cut short")))?;
        let unpacked = lz4_flex::block::decompress_into(compressed, &mut block)
            .map_err(|error| PayloadError::Damaged(error.to_string()))?;
        kernel.extend_from_slice(&block[..unpacked]);
        if kernel.len() > LARGEST_KERNEL {
            return Err(PayloadError::Damaged(format!("it unpacks to more than {LARGEST_KERNEL} bytes")));
        }
        blocks = rest;
    }
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024 + 16];
        image[SETUP_SECTS] = 1;
        image[HEADER_MAGIC..HEADER_MAGIC + 4].copy_from_slice(b"HdrS");
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&16u32.to_le_bytes());
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        image[PAYLOAD_OFFSET + 4..PAYLOAD_OFFSET + 8].copy_from_slice(&length);
        image.extend(payload);
        image
    }

    fn kernel() -> Vec<u8> {
        let mut kernel = ELF_MAGIC.to_vec();
        kernel.extend((0..10 << 20).map(|number: u32| (number / 1000) as u8));
        kernel
    }

    #[test]
    fn each_compression_unpacks_to_the_same_kernel() {
        let kernel = kernel();
        let size = u32::try_from(kernel.len()).unwrap().to_le_bytes();
        let mut lz4 = LZ4_LEGACY_MAGIC.to_vec();
        for block in kernel.chunks(LZ4_LEGACY_BLOCK) {
            let compressed = lz4_flex::block::compress(block);
            lz4.extend(u32::try_from(compressed.len()).unwrap().to_le_bytes());
            lz4.extend(compressed);
        }
        lz4.extend(size);
        let mut zstd = zstd::encode_all(kernel.as_slice(), 1).unwrap();
        zstd.extend(size);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&kernel).unwrap();
        for payload in [lz4, zstd, gzip.finish().unwrap()] {
            assert!(extract_elf(&bzimage(&payload)).unwrap() == kernel);
        }
        assert!(extract_elf(&kernel).unwrap() == kernel);
    }

    #[test]
    fn what_is_no_kernel_is_refused_with_the_reason() {
        assert!(matches!(extract_elf(b"#!/bin/sh"), Err(PayloadError::NotAKernel)));
        let mut cut = bzimage(LZ4_LEGACY_MAGIC);
        cut.truncate(1041);
        assert!(matches!(extract_elf(&cut), Err(PayloadError::CutShort { end: 1044, length: 1041 })));
        assert!(matches!(extract_elf(&bzimage(b"\xfd7zXZ\0...")), Err(PayloadError::Compression { .. })));
        let text = zstd::encode_all(&b"text"[..], 1).unwrap();
        assert!(matches!(extract_elf(&bzimage(&text)), Err(PayloadError::NotElf)));
    }

    proptest! {
        #[test]
        fn no_payload_makes_it_panic(mut payload in proptest::collection::vec(any::<u8>(), 0..64), kind in 0..4) {
            let magic: &[u8] = [LZ4_LEGACY_MAGIC, &[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd], &[]][kind as usize];
            payload.splice(0..0, magic.iter().copied());
            let _ = extract_elf(&bzimage(&payload));
            let _ = extract_elf(&payload);
        }
    }
}
