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

/// The value of the xattr, none if permissions say the same. The error is a reason.
pub(super) fn from_text(text: &[u8], is_default: bool) -> Result<Option<Vec<u8>>, &'static str> {
    let mut entries = Vec::new();
    for line in text.split(|byte| matches!(byte, b',' | b'\n')) {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        if !line.is_empty() {
            entries.push(entry(line.strip_prefix(b"default:").unwrap_or(line))?);
        }
    }
    // The order that the kernel keeps them in.
    entries.sort_unstable();
    let is_twice = entries.windows(2).any(|pair| matches!(pair, [a, b] if (a.0, a.1) == (b.0, b.1)));
    let has = |wanted| entries.iter().any(|(tag, ..)| *tag == wanted);
    let needs_mask = has(USER) || has(GROUP);
    if is_twice || ![USER_OBJ, GROUP_OBJ, OTHER].into_iter().all(has) || (needs_mask && !has(MASK)) {
        return Err("the ACL in the archive is not whole, or says something twice");
    }
    if !is_default && entries.len() == 3 {
        return Ok(None);
    }
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    Ok(Some(value))
}

/// One entry: `TAG:NAME:PERMISSIONS`, or with a number behind where a name says less.
fn entry(line: &[u8]) -> Result<(u16, u32, u16), &'static str> {
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
    let id = id.ok_or(
        "the ACL in the archive has names without numbers, which mean nothing elsewhere: \
         make the archive with --xattrs (GNU tar), or choose --xattrs that leave ACLs out",
    )?;
    Ok((tag, id, permissions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_by_their_numbers_and_entries_put_in_order() {
        let text = b"user::rw-,group::r--,other::r--,user:daemon:rw-:1,user:1000:r--,mask::rw-";
        let value = from_text(text, false).unwrap().unwrap();
        let expected: [(u16, u16, u32); 6] =
            [(1, 6, NOBODY), (2, 6, 1), (2, 4, 1000), (4, 4, NOBODY), (0x10, 6, NOBODY), (0x20, 4, NOBODY)];
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in expected {
            bytes.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat());
        }
        assert_eq!(value, bytes);
    }

    #[test]
    fn what_permissions_say_anyway_is_no_xattr_but_a_default_is() {
        let text = b"user::rwx\ngroup::r-x #effective:r-x\nother::---\n";
        assert_eq!(from_text(text, false).unwrap(), None);
        assert_eq!(from_text(text, true).unwrap().unwrap().len(), 4 + 3 * 8);
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
            assert!(from_text(bad.as_bytes(), false).is_err(), "{bad}");
        }
    }
}
