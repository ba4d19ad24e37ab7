//! What makes an image that image: the key under which facts about it are remembered.

use crate::Digest;
use crate::Error;
use crate::Result;
use crate::digest;
use crate::filesystem;
use crate::hash;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Statx;
use rustix::fs::StatxFlags;
use sha2::Digest as _;
use sha2::Sha256;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use std::time::SystemTime;

/// Nothing but image keys is hashed behind this.
const KEY_DOMAIN: &[u8] = b"pyerofs image key v1\0";
/// A file that changed so recently may change again within its timestamp's granularity.
const SETTLED: Duration = Duration::from_secs(2);

/// The identity of an image, all its blobs included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageKey(pub [u8; 32]);

impl ImageKey {
    /// The key of the image whose primary blob begins at `offset` of the first descriptor and whose
    /// devices are the others, in order.
    ///
    /// A file on a local disk filesystem that has not changed for two seconds is identified by what
    /// stat says of it; any other is read and hashed whole, and is that inode with those bytes: its
    /// owner may write other bytes a moment later, and what is then found in them must not be taken
    /// for a fact about every file that has the bytes of now. The files' offsets are not touched.
    pub fn of(blobs: &[BorrowedFd<'_>], offset: u64) -> Result<Self> {
        let mut key = Sha256::new();
        key.update(KEY_DOMAIN);
        key.update(offset.to_le_bytes());
        for (index, blob) in blobs.iter().enumerate() {
            key.update(blob_identity(index, *blob)?);
        }
        Ok(Self(key.finalize().into()))
    }

    /// 64 lower-case hexadecimal digits: the name of the image inside the domain.
    pub fn to_hex(&self) -> String {
        digest::hex(&self.0)
    }

    /// Reads what [`ImageKey::to_hex`] wrote; nothing else.
    pub fn from_hex(text: &str) -> Option<Self> {
        Digest::from_hex(text).map(|digest| Self(digest.0))
    }
}

impl fmt::Display for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageKey({self})")
    }
}

/// 32 bytes that stand for one blob; which of the two ways was taken is part of what is hashed.
fn blob_identity(index: usize, blob: BorrowedFd<'_>) -> Result<[u8; 32]> {
    let error = |doing, errno: rustix::io::Errno| Error::io(doing, format!("blob {index}"), errno);
    let before = stat(blob).map_err(|errno| error("stat", errno))?;
    let kind = filesystem::kind(blob).map_err(|errno| error("statfs", errno))?;
    if kind.class == filesystem::Class::Disk && is_regular(&before) && is_settled(&before) {
        let filesystem = rustix::fs::fstatvfs(blob).map_err(|errno| error("statfs", errno))?;
        return Ok(by_stat(filesystem.f_fsid, &before));
    }
    let digest = hash::whole(blob).map_err(|source| Error::io("read", format!("blob {index}"), source))?;
    let after = stat(blob).map_err(|errno| error("stat", errno))?;
    if by_stat(0, &before) != by_stat(0, &after) {
        return Err(Error::Changed { blob: index });
    }
    let mut identity = Sha256::new();
    identity.update(b"bytes\0");
    identity.update(digest.0);
    identity.update(by_stat(0, &after));
    Ok(identity.finalize().into())
}

fn stat(blob: BorrowedFd<'_>) -> Result<Statx, rustix::io::Errno> {
    rustix::fs::statx(blob, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

fn is_regular(stat: &Statx) -> bool {
    FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::RegularFile
}

/// Whether the last change is long enough ago; a time in the future is none.
fn is_settled(stat: &Statx) -> bool {
    let now = SystemTime::now();
    [&stat.stx_mtime, &stat.stx_ctime].into_iter().all(|time| {
        let Ok(seconds) = u64::try_from(time.tv_sec) else { return true };
        let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, time.tv_nsec));
        changed.and_then(|changed| now.duration_since(changed).ok()).is_some_and(|age| age >= SETTLED)
    })
}

fn by_stat(filesystem: u64, stat: &Statx) -> [u8; 32] {
    let mut identity = Sha256::new();
    identity.update(b"stat\0");
    identity.update(filesystem.to_le_bytes());
    identity.update(stat.stx_dev_major.to_le_bytes());
    identity.update(stat.stx_dev_minor.to_le_bytes());
    identity.update(stat.stx_ino.to_le_bytes());
    identity.update(stat.stx_size.to_le_bytes());
    let has_birth = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    let birth = has_birth.then_some(stat.stx_btime);
    for time in [stat.stx_mtime, stat.stx_ctime].into_iter().chain(birth) {
        identity.update(time.tv_sec.to_le_bytes());
        identity.update(time.tv_nsec.to_le_bytes());
    }
    identity.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::thread;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile_in(".").unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn key(files: &[&File], offset: u64) -> ImageKey {
        let blobs: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
        ImageKey::of(&blobs, offset).unwrap()
    }

    #[test]
    fn a_copy_has_a_key_of_its_own_since_its_owner_may_change_it() {
        let (one, copy) = (file(b"image"), file(b"image"));
        assert_eq!(key(&[&one], 0), key(&[&one], 0));
        assert_ne!(key(&[&one], 0), key(&[&copy], 0));
    }

    #[test]
    fn a_settled_file_is_known_without_reading_and_a_change_is_seen() {
        let mut settled = file(b"image");
        let by_bytes = key(&[&settled], 0);
        thread::sleep(SETTLED + Duration::from_millis(100));
        let by_stat = key(&[&settled], 0);
        if filesystem::kind(&settled).unwrap().class == filesystem::Class::Disk {
            assert_ne!(by_stat, by_bytes);
        }
        assert_eq!(key(&[&settled], 0), by_stat, "the same file has the same key");
        settled.write_all(b"!").unwrap();
        assert_ne!(key(&[&settled], 0), by_stat);
        assert_ne!(key(&[&settled], 0), by_bytes);
    }

    #[test]
    fn offset_number_and_order_of_blobs_matter() {
        let (a, b) = (file(b"a"), file(b"b"));
        let keys = [
            key(&[&a], 0),
            key(&[&a], 512),
            key(&[&a, &b], 0),
            key(&[&b, &a], 0),
            key(&[&a, &a], 0),
            key(&[], 0),
        ];
        for (i, one) in keys.iter().enumerate() {
            for other in &keys[i + 1..] {
                assert_ne!(one, other);
            }
        }
    }

    #[test]
    fn a_memory_file_is_an_image_too() {
        let memory = rustix::fs::memfd_create("image", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut memory = File::from(memory);
        memory.write_all(b"image").unwrap();
        assert_eq!(key(&[&memory], 0), key(&[&memory], 0));
    }

    #[test]
    fn a_pipe_is_no_image() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(ImageKey::of(&[reader.as_fd()], 0).is_err());
    }
}
