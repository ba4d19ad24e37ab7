//! How much work an image may ask for.

/// Bounds on the work that one image, or one call on it, may cause. A number above a bound is
/// [`crate::Error::Limit`] with the bound's name. The defaults are far above what honest images
/// hold and far below what would hurt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Directories one in another, in a walk. Linux itself cannot name more than 2048 in one path
    /// (`PATH_MAX` is 4096 bytes, two for each).
    pub depth: u64,
    /// Bytes of one directory. 256 MiB hold some ten million entries.
    pub directory_bytes: u64,
    /// Entries in one walk. Directories that overlap on disk can show far more entries than the
    /// image has bytes for.
    pub walk_entries: u64,
    /// Bytes of all xattrs of one inode, names and values. Linux hands out at most 64 KiB of
    /// either in a call; 1 MiB is room for many such values.
    pub xattr_bytes: u64,
    /// Runs of one file, in a listing of its extents. A file of 64 GiB in chunks of 4 KiB, none
    /// beside the other, has that many.
    pub extents: u64,
    /// Bytes of a symbolic link's target. Linux follows none above 4095.
    pub symlink_length: u64,
    /// Symbolic links followed for one path, as Linux does.
    pub symlinks: u64,
    /// Devices beyond the primary. Each is an open file.
    pub devices: u64,
    /// Bytes of metadata kept in memory for sources that are not memory.
    pub cache_bytes: u64,
    /// Bytes of decoded clusters kept in memory, so that reading a compressed file in small steps,
    /// or many fragments of one cluster, decodes each cluster once.
    pub decoded_cache_bytes: u64,
    /// Bytes of compressed data fetched, and bytes decoded from it, in one call on a file's data,
    /// beyond 64 for each byte that was asked for. An extent of one byte may lie in a cluster of
    /// 1 MiB, and a file of a million such extents would be a million times as much work as it
    /// seems. 1 GiB is less than a second's work.
    pub decoded_bytes: u64,
    /// Bytes of a file that are taken into memory at once, beyond those that the blobs hold of
    /// them. A hole takes no space, and what is compressed less than it is long. Whoever reads in
    /// pieces never meets this bound.
    pub memory_bytes: u64,
    /// Zeros written to an archive for one file, where it has short holes or can't be read. 1 TiB
    /// takes some minutes.
    pub zero_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 2048,
            directory_bytes: 256 << 20,
            walk_entries: 100_000_000,
            xattr_bytes: 1 << 20,
            extents: 1 << 24,
            symlink_length: 4095,
            symlinks: 40,
            devices: 4096,
            cache_bytes: 4 << 20,
            decoded_cache_bytes: 32 << 20,
            decoded_bytes: 1 << 30,
            memory_bytes: 1 << 30,
            zero_bytes: 1 << 40,
        }
    }
}

impl Limits {
    /// Each bound with its name, in the order of the fields.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let mut copy = *self;
        copy.fields().map(|(name, value)| (name, *value)).into_iter()
    }

    /// Sets a bound by its name; false if there is none of that name.
    pub fn set(&mut self, name: &str, bound: u64) -> bool {
        let found = self.fields().into_iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value = bound).is_some()
    }

    fn fields(&mut self) -> [(&'static str, &mut u64); 13] {
        // Without "..", so that a new field cannot be forgotten here.
        let Self {
            depth,
            directory_bytes,
            walk_entries,
            xattr_bytes,
            extents,
            symlink_length,
            symlinks,
            devices,
            cache_bytes,
            decoded_cache_bytes,
            decoded_bytes,
            memory_bytes,
            zero_bytes,
        } = self;
        [
            ("depth", depth),
            ("directory_bytes", directory_bytes),
            ("walk_entries", walk_entries),
            ("xattr_bytes", xattr_bytes),
            ("extents", extents),
            ("symlink_length", symlink_length),
            ("symlinks", symlinks),
            ("devices", devices),
            ("cache_bytes", cache_bytes),
            ("decoded_cache_bytes", decoded_cache_bytes),
            ("decoded_bytes", decoded_bytes),
            ("memory_bytes", memory_bytes),
            ("zero_bytes", zero_bytes),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_found_and_set_by_its_name() {
        let mut limits = Limits::default();
        for (number, (name, _)) in Limits::default().all().enumerate() {
            assert!(limits.set(name, number as u64), "{name}");
        }
        assert!(limits.all().map(|(_, value)| value).eq(0..13));
        assert_eq!((limits.depth, limits.decoded_bytes), (0, 10));
        assert!(!limits.set("deepness", 1));
    }
}
