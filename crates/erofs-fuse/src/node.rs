//! Node ids from inode numbers, by arithmetic.
//!
//! FUSE wants 1 for the root and never 0; an image may use any nid for its root, 0 too. A node id is the nid moved up by two, and
//! the root's is 1. Nothing is remembered about look-ups, so FORGET has nothing to do and another server can take over at any time.

/// The node id of the root in every FUSE filesystem.
pub(crate) const ROOT: u64 = 1;

/// What a nid is moved by: 0 is no node id and 1 is the root.
const SHIFT: u64 = 2;

/// What `st_ino` says for nid 0, which no other inode of an image has: it lies at byte 32 * nid, below 2^64.
const INO_OF_NID_0: u64 = 1 << 62;

/// The node id of inode `nid` in an image whose root is `root_nid`; `None` for a nid that lies in no image.
pub(crate) fn node_of_nid(nid: u64, root_nid: u64) -> Option<u64> {
    if nid == root_nid { Some(ROOT) } else { nid.checked_add(SHIFT) }
}

/// The nid behind a node id that the kernel sent; `None` for 0, which the kernel never sends.
pub(crate) fn nid_of_node(node: u64, root_nid: u64) -> Option<u64> {
    if node == ROOT { Some(root_nid) } else { node.checked_sub(SHIFT) }
}

/// The inode number that programs see. It is that of a kernel mount, save that 0 would make `readdir` skip the entry.
pub(crate) fn shown_number(number: u64) -> u64 {
    if number == 0 { INO_OF_NID_0 } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nid_comes_back_from_its_node_id() {
        for root in [0, 1, 2, 36, u64::from(u32::MAX)] {
            for nid in [0, 1, 2, 3, 35, 36, 37, 1 << 40, (1 << 59) - 1] {
                let node = node_of_nid(nid, root).unwrap();
                assert_ne!(node, 0, "nid {nid} would be no node at all");
                assert_eq!(nid_of_node(node, root), Some(nid));
                assert_eq!(node == ROOT, nid == root);
            }
        }
    }

    #[test]
    fn numbers_that_lie_in_no_image_are_refused_and_not_wrapped() {
        assert_eq!(node_of_nid(u64::MAX, 36), None);
        assert_eq!(nid_of_node(0, 36), None);
    }

    #[test]
    fn no_entry_is_skipped_by_readdir_for_its_inode_number() {
        assert_ne!(shown_number(0), 0);
        assert_eq!(shown_number(36), 36);
    }
}
