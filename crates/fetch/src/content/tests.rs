//! The way from bytes to a file, without a network.

use std::io::Write;
use std::os::unix::fs::MetadataExt;

use super::*;

struct Takes;

impl Observer for Takes {
    fn begins(&self, _: &Start<'_>) -> Result<(), Unwanted> {
        Ok(())
    }
    fn received(&self, _: u64, _: Option<u64>) {}
}

/// Data, a hole of a mebibyte, data, and zeros at the end: 3 MiB and a bit.
fn content() -> Vec<u8> {
    let mut content: Vec<u8> =
        (0..1_u32 << 18).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    content.extend(vec![0; 1 << 20]);
    content.extend(b"the end of the data");
    content.extend(vec![0; 1 << 20]);
    content
}

fn read_back(file: &File) -> Vec<u8> {
    use std::io::Seek;
    let mut file = file;
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn compress(compression: Compression, content: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => content.to_vec(),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstandard => zstd::encode_all(content, 1).unwrap(),
        Compression::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
    }
}

const BOTH: Wanted = Wanted { transferred: true, content: true };

fn counted(bytes: &[u8]) -> Counted {
    Counted { bytes: bytes.len() as u64, sha256: Some(Sha256::digest(bytes).into()) }
}

const ALL: [Compression; 4] = [Compression::None, Compression::Gzip, Compression::Zstandard, Compression::Xz];

#[test]
fn each_compression_gives_the_same_file_with_holes_and_both_digests() {
    let content = content();
    for compression in ALL {
        let compressed = compress(compression, &content);
        let target = tempfile::tempfile().unwrap();
        let received = receive(compressed.as_slice(), None, &target, BOTH, &Takes).unwrap();
        assert_eq!(received.compression, compression);
        assert_eq!(received.transferred, counted(&compressed));
        assert_eq!(received.content, counted(&content));
        assert!(read_back(&target) == content, "{compression}: other bytes");
        let stored = target.metadata().unwrap().blocks() * 512;
        assert!(stored <= (1 << 20) + (64 << 10), "{compression}: {stored} bytes are stored");
    }
}

#[test]
fn a_digest_that_is_not_wanted_is_not_there_and_the_file_is_the_same() {
    let content = content();
    let compressed = compress(Compression::Zstandard, &content);
    let target = tempfile::tempfile().unwrap();
    let wanted = Wanted { transferred: true, content: false };
    let received = receive(compressed.as_slice(), None, &target, wanted, &Takes).unwrap();
    assert_eq!(received.transferred, counted(&compressed));
    assert_eq!(received.content, Counted { bytes: content.len() as u64, sha256: None });
    assert!(read_back(&target) == content, "other bytes");
}

#[test]
fn two_streams_behind_each_other_are_one_content() {
    for compression in [Compression::Gzip, Compression::Zstandard, Compression::Xz] {
        let twice = [compress(compression, b"one "), compress(compression, b"two")].concat();
        let target = tempfile::tempfile().unwrap();
        receive(twice.as_slice(), None, &target, BOTH, &Takes).unwrap();
        assert_eq!(read_back(&target), b"one two", "{compression}");
    }
}

#[test]
fn a_compressed_stream_that_ends_early_is_damaged() {
    for compression in [Compression::Gzip, Compression::Zstandard, Compression::Xz] {
        let compressed = compress(compression, &content());
        for length in [10, compressed.len() / 2, compressed.len() - 1] {
            let outcome = receive(&compressed[..length], None, &tempfile::tempfile().unwrap(), BOTH, &Takes);
            let is_damaged = matches!(outcome, Err(ContentError::Damaged(which, _)) if which == compression);
            assert!(is_damaged, "{compression} {length}: {outcome:?}");
        }
    }
}

#[test]
fn an_input_that_fails_is_told_from_a_damaged_stream() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("it broke"))
        }
    }
    for compression in ALL {
        let compressed = compress(compression, &content());
        let input = compressed[..compressed.len() / 2].chain(Fails);
        match receive(input, None, &tempfile::tempfile().unwrap(), BOTH, &Takes) {
            Err(ContentError::Input(error)) => assert_eq!(error.to_string(), "it broke"),
            other => panic!("{compression}: {other:?}"),
        }
    }
}

#[test]
fn what_the_observer_refuses_is_not_written() {
    struct Refuses;
    impl Observer for Refuses {
        fn begins(&self, start: &Start<'_>) -> Result<(), Unwanted> {
            assert_eq!(start.head.len(), BLOCK);
            Err(Unwanted)
        }
        fn received(&self, _: u64, _: Option<u64>) {}
    }
    let target = tempfile::tempfile().unwrap();
    let outcome = receive(content().as_slice(), None, &target, BOTH, &Refuses);
    assert!(matches!(outcome, Err(ContentError::Unwanted)), "{outcome:?}");
    assert_eq!(target.metadata().unwrap().len(), 0);
}

#[test]
fn a_target_that_cannot_be_written_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("target");
    std::fs::write(&path, b"").unwrap();
    let outcome = receive(content().as_slice(), None, &File::open(&path).unwrap(), BOTH, &Takes);
    assert!(matches!(outcome, Err(ContentError::Write(_))), "{outcome:?}");
    let outcome = receive(io::empty(), None, &tempfile::tempfile().unwrap(), BOTH, &Takes);
    assert!(matches!(outcome, Err(ContentError::Empty)), "{outcome:?}");
}
