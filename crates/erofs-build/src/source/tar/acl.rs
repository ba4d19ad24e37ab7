//! Access control lists in the text form of archives, as the xattrs that they are.

/// `system.posix_acl_access` and `_default` begin with this version.
const VERSION: u32 = 2;

/// The id of entries that are about nobody in particular.
const NOBODY: u32 = u32::MAX;

const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// A list: tags, whom they are about if the archive says it by number, and permissions.
#[derive(Debug)]
pub(super) struct Acl(Vec<(u16, Option<u32>, u16)>);

impl Acl {
    /// Reads a list. The error is a reason.
    pub(super) fn from_text(text: &[u8]) -> Result<Self, &'static str> {
        let mut entries = Vec::new();
        for line in text.split(|byte| matches!(byte, b',' | b'\n')) {
            let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
            if !line.is_empty() {
                entries.push(entry(line.strip_prefix(b"default:").unwrap_or(line))?);
            }
        }
        // The order that the kernel keeps them in.
        entries.sort_unstable();
        let acl = Self(entries);
        let is_whole = [USER_OBJ, GROUP_OBJ, OTHER].into_iter().all(|tag| acl.of(tag).is_some());
        let needs_mask = acl.of(USER).is_some() || acl.of(GROUP).is_some();
        if !is_whole || (needs_mask && acl.of(MASK).is_none()) {
            return Err("the ACL in the archive is not whole");
        }
        Ok(acl)
    }

    /// The permissions of the first entry with this tag.
    fn of(&self, wanted: u16) -> Option<u16> {
        self.0.iter().find(|(tag, ..)| *tag == wanted).map(|(.., permissions)| *permissions)
    }

    /// What `st_mode` has for owner, group and others. The mask's permissions stand for the group's.
    pub(super) fn permissions(&self) -> u32 {
        let of = |tag| self.of(tag).map(u32::from);
        let group = of(MASK).or(of(GROUP_OBJ)).unwrap_or(0);
        of(USER_OBJ).unwrap_or(0) << 6 | group << 3 | of(OTHER).unwrap_or(0)
    }

    /// The value of the xattr, none if permissions say the same. The error is a reason.
    pub(super) fn value(&self, is_default: bool) -> Result<Option<Vec<u8>>, &'static str> {
        if !is_default && self.0.len() == 3 {
            return Ok(None);
        }
        let mut value = VERSION.to_le_bytes().to_vec();
        let mut last = None;
        for &(tag, id, permissions) in &self.0 {
            let id = id.ok_or(
                "the ACL in the archive has names without numbers, which mean nothing elsewhere: \
                 make the archive with --xattrs (GNU tar), or choose --xattrs that leave ACLs out",
            )?;
            if last.replace((tag, id)) == Some((tag, id)) {
                return Err("the ACL in the archive says something twice");
            }
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        Ok(Some(value))
    }
}

/// One entry: `TAG:NAME:PERMISSIONS`, or with a number behind where a name says less.
fn entry(line: &[u8]) -> Result<(u16, Option<u32>, u16), &'static str> {
    const BAD: &str = "the ACL in the archive makes no sense";
    let mut fields = line.split(|byte| *byte == b':').map(<[u8]>::trim_ascii);
    let [Some(kind), Some(name), Some(rights)] = [fields.next(), fields.next(), fields.next()] else {
        return Err(BAD);
    };
    let tag = match (kind, name.is_empty()) {
        (b"user" | b"u", true) => USER_OBJ,
        (b"user" | b"u", false) => USER,
        (b"group" | b"g", true) => GROUP_OBJ,
        (b"group" | b"g", false) => GROUP,
        (b"mask" | b"m", true) => MASK,
        (b"other" | b"o", true) => OTHER,
        _ => return Err(BAD),
    };
    let mut permissions = 0;
    for right in rights {
        permissions |= match right {
            b'r' => 4,
            b'w' => 2,
            b'x' => 1,
            b'-' => 0,
            _ => return Err(BAD),
        };
    }
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    let id = if name.is_empty() { Some(NOBODY) } else { fields.next().map_or(number(name), number) };
    Ok((tag, id, permissions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_by_their_numbers_and_entries_put_in_order() {
        let text = b"user::rw-,group::r--,other::r--,user:daemon:rw-:1,user:1000:r--,mask::rw-";
        let acl = Acl::from_text(text).unwrap();
        let expected: [(u16, u16, u32); 6] =
            [(1, 6, NOBODY), (2, 6, 1), (2, 4, 1000), (4, 4, NOBODY), (0x10, 6, NOBODY), (0x20, 4, NOBODY)];
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in expected {
            bytes.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat());
        }
        assert_eq!((acl.value(false), acl.permissions()), (Ok(Some(bytes)), 0o664));
    }

    #[test]
    fn what_permissions_say_anyway_is_no_xattr_but_a_default_is() {
        let text = b"user::rwx\ngroup::r-x #effective:r-x\nother::---\n";
        let acl = Acl::from_text(text).unwrap();
        assert_eq!((acl.value(false), acl.permissions()), (Ok(None), 0o750));
        assert_eq!(acl.value(true).unwrap().unwrap().len(), 4 + 3 * 8);
    }

    #[test]
    fn a_list_that_is_not_whole_or_has_only_names_is_refused() {
        for bad in [
            "",
            "user::rw-,group::r--",
            "user::rw-,user::r--,group::r--,other::r--",
            "user::rw-,group::r--,other::r--,user:1:r--",
            "user::rw-,group::r--,other::r--,mask::r--,user:lisa:r--",
            "user::rw-,group::r--,other:1:r--",
            "user::rwq,group::r--,other::r--",
            "user,group::r--,other::r--",
        ] {
            assert!(Acl::from_text(bad.as_bytes()).and_then(|acl| acl.value(false)).is_err(), "{bad}");
        }
    }
}
