//! Owners of the source to owners of the image, in inodes and in ACLs.

use std::path::Path;

use crate::error::{Error, Result};
use crate::options::{IdRange, Owners};

/// Which of the two kinds of id.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Id {
    User,
    Group,
}

const ACL_VERSION: u32 = 2;
const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;

impl Owners {
    /// The owner that a file of `id` gets.
    pub(crate) fn owner(&self, kind: Id, id: u32, path: &Path) -> Result<u32> {
        if self.all_root {
            return Ok(0);
        }
        let forced = match kind {
            Id::User => self.force_uid,
            Id::Group => self.force_gid,
        };
        forced.map_or_else(|| self.moved(kind, id, path), Ok)
    }

    /// An id after map and offset. Ids in ACLs go this way too; forcing would make them all the same.
    fn moved(&self, kind: Id, id: u32, path: &Path) -> Result<u32> {
        let (map, offset, what) = match kind {
            Id::User => (&self.uid_map, self.uid_offset, "uid"),
            Id::Group => (&self.gid_map, self.gid_offset, "gid"),
        };
        let moved = i64::from(mapped(map, id)).saturating_add(offset);
        u32::try_from(moved).map_err(|_| Error::Owner { path: path.to_owned(), what, id: moved })
    }

    /// Whether ids change at all, so that ACLs have to be looked at.
    pub(crate) fn moves_ids(&self) -> bool {
        !(self.uid_map.is_empty() && self.gid_map.is_empty() && self.uid_offset == 0 && self.gid_offset == 0)
    }

    /// Moves the ids in the value of a POSIX ACL; a value that is no ACL stays as it is.
    pub(crate) fn move_acl(&self, value: &mut [u8], path: &Path) -> Result<()> {
        let Some((version, entries)) = value.split_first_chunk_mut::<4>() else { return Ok(()) };
        if u32::from_le_bytes(*version) != ACL_VERSION || entries.len() % 8 != 0 {
            return Ok(());
        }
        for entry in entries.as_chunks_mut::<8>().0 {
            let [tag_lo, tag_hi, _, _, a, b, c, d] = *entry;
            let kind = match u16::from_le_bytes([tag_lo, tag_hi]) {
                ACL_USER => Id::User,
                ACL_GROUP => Id::Group,
                _ => continue,
            };
            let id = self.moved(kind, u32::from_le_bytes([a, b, c, d]), path)?;
            entry[4..].copy_from_slice(&id.to_le_bytes());
        }
        Ok(())
    }
}

fn mapped(map: &[IdRange], id: u32) -> u32 {
    map.iter()
        .find_map(|range| {
            let nth = id.checked_sub(range.from).filter(|nth| *nth < range.count)?;
            range.to.checked_add(nth)
        })
        .unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners() -> Owners {
        Owners {
            uid_map: vec![
                IdRange { from: 1000, to: 0, count: 1 },
                IdRange { from: 0, to: 100_000, count: 10 },
            ],
            gid_offset: 5,
            ..Owners::default()
        }
    }

    #[test]
    fn ids_are_mapped_then_moved_then_forced() {
        let path = Path::new("x");
        let mut owners = owners();
        assert_eq!(owners.owner(Id::User, 1000, path).unwrap(), 0);
        assert_eq!(owners.owner(Id::User, 9, path).unwrap(), 100_009);
        assert_eq!(owners.owner(Id::User, 10, path).unwrap(), 10);
        assert_eq!(owners.owner(Id::Group, 10, path).unwrap(), 15);
        assert_eq!(owners.owner(Id::Group, u32::MAX, path).unwrap_err().errno(), 75);
        owners.force_gid = Some(7);
        assert_eq!(owners.owner(Id::Group, u32::MAX, path).unwrap(), 7);
        owners.all_root = true;
        assert_eq!(owners.owner(Id::Group, 10, path).unwrap(), 0);
    }

    #[test]
    fn named_users_and_groups_in_acls_move_with_the_owners() {
        let entry =
            |tag: u16, id: u32| [&tag.to_le_bytes()[..], &4u16.to_le_bytes(), &id.to_le_bytes()].concat();
        let acl = |user, group| {
            [&2u32.to_le_bytes()[..], &entry(1, u32::MAX), &entry(2, user), &entry(8, group)].concat()
        };
        let mut value = acl(1000, 10);
        owners().move_acl(&mut value, Path::new("x")).unwrap();
        assert_eq!(value, acl(0, 15));
        let mut torn = acl(1000, 10)[..21].to_vec();
        owners().move_acl(&mut torn, Path::new("x")).unwrap();
        assert_eq!(torn, acl(1000, 10)[..21]);
    }
}
