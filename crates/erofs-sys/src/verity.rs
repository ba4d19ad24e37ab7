//! fs-verity: making a file immutable with a Merkle tree kept by the filesystem.

use rustix::io;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};
use std::os::fd::AsFd;

const ENABLE: Opcode = opcode::write::<EnableArg>(b'f', 133);
/// The header alone counts: the digest that follows is a flexible array.
const MEASURE: Opcode = opcode::read_write::<[u16; 2]>(b'f', 134);
const LARGEST_DIGEST: usize = 64;

/// The hash of a Merkle tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerityHash {
    /// `FS_VERITY_HASH_ALG_SHA256`.
    Sha256,
    /// `FS_VERITY_HASH_ALG_SHA512`.
    Sha512,
}

impl VerityHash {
    const fn number(self) -> u16 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }
}

/// What the kernel measured of a file with fs-verity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// The tree's hash.
    pub hash: VerityHash,
    /// The file digest: 32 or 64 bytes.
    pub digest: Vec<u8>,
}

/// `struct fsverity_enable_arg`.
#[repr(C)]
#[derive(Debug, Default)]
struct EnableArg {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt_ptr: u64,
    sig_size: u32,
    reserved1: u32,
    sig_ptr: u64,
    reserved2: [u64; 11],
}

/// `struct fsverity_digest` with room for the largest digest.
#[repr(C)]
#[derive(Debug)]
struct Digest {
    digest_algorithm: u16,
    digest_size: u16,
    digest: [u8; LARGEST_DIGEST],
}

/// Makes `file` immutable, with a Merkle tree of 4096-byte blocks and neither salt nor signature.
///
/// `file` must be open for reading only, and nobody may have it open for writing (ETXTBSY). EOPNOTSUPP or ENOTTY: not on
/// this filesystem or kernel. EEXIST: it has been done before.
pub fn fsverity_enable(file: impl AsFd, hash: VerityHash) -> io::Result<()> {
    let arg = EnableArg {
        version: 1,
        hash_algorithm: u32::from(hash.number()),
        block_size: 4096,
        ..EnableArg::default()
    };
    // SAFETY: FS_IOC_ENABLE_VERITY reads one fsverity_enable_arg; its pointers are null with length 0.
    unsafe { ioctl(file, Setter::<ENABLE, EnableArg>::new(arg)) }
}

/// The digest of a file with fs-verity; ENODATA for a file without.
pub fn fsverity_measure(file: impl AsFd) -> io::Result<Measurement> {
    let mut digest = Digest { digest_algorithm: 0, digest_size: 64, digest: [0; LARGEST_DIGEST] };
    // SAFETY: FS_IOC_MEASURE_VERITY writes a header and at most `digest_size` bytes behind it, and there is room for 64.
    unsafe { ioctl(file, Updater::<MEASURE, Digest>::new(&mut digest))? };
    let hash = match digest.digest_algorithm {
        1 => VerityHash::Sha256,
        2 => VerityHash::Sha512,
        _ => return Err(io::Errno::OPNOTSUPP),
    };
    let bytes = digest.digest.get(..usize::from(digest.digest_size)).ok_or(io::Errno::OVERFLOW)?;
    Ok(Measurement { hash, digest: bytes.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn ioctl_numbers_are_the_kernels() {
        assert_eq!(size_of::<EnableArg>(), 128);
        assert_eq!(ENABLE, 0x4080_6685);
        assert_eq!(MEASURE, 0xc004_6686);
    }

    #[test]
    fn an_enabled_file_is_measured() {
        let named = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(named.path(), b"content").unwrap();
        let reader = File::open(named.path()).unwrap();
        drop(named.reopen().unwrap());
        let path = named.into_temp_path();
        if let Err(error) = fsverity_enable(&reader, VerityHash::Sha256) {
            assert!(matches!(error, io::Errno::NOTTY | io::Errno::OPNOTSUPP | io::Errno::INVAL), "{error:?}");
            skip("no fs-verity on this filesystem");
        } else {
            let measured = fsverity_measure(&reader).unwrap();
            assert_eq!((measured.hash, measured.digest.len()), (VerityHash::Sha256, 32));
        }
        drop(path);
    }

    #[test]
    fn a_file_without_verity_has_no_digest() {
        let refused = fsverity_measure(tempfile::tempfile().unwrap()).unwrap_err();
        assert!(
            matches!(refused, io::Errno::NODATA | io::Errno::NOTTY | io::Errno::OPNOTSUPP),
            "{refused:?}"
        );
    }

    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    fn skip(reason: &str) {
        eprintln!("skipped: {reason}");
    }
}
