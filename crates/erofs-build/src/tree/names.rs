//! The names of a tree's entries, all in one piece: there may be millions of them, and a piece of memory for
//! each would take more than the names themselves.

use erofs_format::dirent::NAME_LEN;

/// Names, each behind a byte that says how long it is.
#[derive(Debug, Default)]
pub(crate) struct Names(Vec<u8>);

/// Where a name is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NameId(u64);

impl Names {
    /// Takes a name of up to [`NAME_LEN`] bytes; what a longer one has beyond them is lost.
    pub(crate) fn add(&mut self, name: &[u8]) -> NameId {
        let id = NameId(self.0.len() as u64);
        let name = name.get(..NAME_LEN).unwrap_or(name);
        self.0.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        self.0.extend_from_slice(name);
        id
    }

    pub(crate) fn get(&self, NameId(start): NameId) -> &[u8] {
        let from = usize::try_from(start).ok().and_then(|start| self.0.get(start..));
        let Some((length, names)) = from.and_then(<[u8]>::split_first) else { return &[] };
        names.get(..usize::from(*length)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were() {
        let mut names = Names::default();
        let longest = [b'n'; NAME_LEN];
        let ids = [&b"a"[..], b"", &longest, b"\xff\n"].map(|name| (names.add(name), name));
        for (id, name) in ids {
            assert_eq!(names.get(id), name);
        }
    }
}
