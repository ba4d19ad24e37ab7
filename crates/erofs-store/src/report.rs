//! What the commands on a domain answer, ready to be serialised.

use serde::Serialize;

/// One image that the domain knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageStat {
    /// The image's key in hex.
    pub key: String,
    /// What the image was called when it was last mounted; for people only.
    pub name: String,
    /// Seconds since 1970 of its last mount or unmount; 0 if not known.
    pub last_mounted: u64,
    /// How often the caller says that it is mounted now.
    pub mounts: u64,
    /// How many of its files are verified.
    pub facts: u64,
    /// The sum of the sizes of the distinct objects that it refers to and that are there.
    pub bytes: u64,
}

/// What [`Domain::stat`](crate::Domain::stat) found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatReport {
    /// Objects in the store, those that are not durable yet included.
    pub objects: u64,
    /// The sum of their sizes.
    pub bytes: u64,
    /// What they take on disk.
    pub disk_bytes: u64,
    /// How much of them is in the page cache; `None` where the kernel doesn't tell.
    pub resident_bytes: Option<u64>,
    /// Sum over objects of size x (mounted images that refer to it - 1).
    pub saved_bytes: u64,
    /// The same sum over the resident part of each object.
    pub saved_resident_bytes: Option<u64>,
    /// Bytes on disk above which objects of images not mounted are evicted.
    pub limit: u64,
    /// Whether the limit was set, rather than a tenth of what was free.
    pub limit_is_set: bool,
    /// The filesystem's name.
    pub filesystem: String,
    /// Whether the store lies in memory (tmpfs), so that its disk bytes are memory too.
    pub in_memory: bool,
    /// The images that the domain knows, last mounted first.
    pub images: Vec<ImageStat>,
}

/// What [`Domain::gc`](crate::Domain::gc) is to do beyond removing what nobody can use.
#[derive(Clone, Debug, Default)]
pub struct GcOptions {
    /// Evict, least recently mounted first, until the objects take no more than this on disk.
    pub keep_bytes: Option<u64>,
    /// Forget images that were not mounted for so many seconds.
    pub older_than: Option<u64>,
    /// Say what would be done and do nothing.
    pub dry_run: bool,
}

/// What [`Domain::gc`](crate::Domain::gc) did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Objects removed.
    pub objects: u64,
    /// Bytes on disk that they took.
    pub disk_bytes: u64,
    /// Images forgotten, by key.
    pub images: Vec<String>,
    /// Objects of this boot that were made durable because no keeper had done so.
    pub promoted: u64,
    /// Directories of other boots that were deleted.
    pub other_boots: u64,
    /// Objects that remain.
    pub remaining_objects: u64,
    /// Bytes on disk that they take.
    pub remaining_disk_bytes: u64,
}

/// Something in a domain that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyProblem {
    /// Where, relative to the domain.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// The digest of what was found, where bytes were hashed.
    pub found: Option<String>,
    /// Whether it was put aside or removed.
    pub repaired: bool,
}

/// What [`Domain::verify`](crate::Domain::verify) found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Objects hashed.
    pub objects: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Facts whose records were checked.
    pub facts: u64,
    /// What is wrong; empty if all is well.
    pub problems: Vec<VerifyProblem>,
}
