//! The names of values within a shard.

use std::fmt;

/// What kind of value a key names. Tables are their user's: constants of its own, such as
/// `const SEEN: Table = Table::new("seen");`, which can be matched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table {
    name: &'static str,
    part: Option<i64>,
}

impl Table {
    /// A table of this name: 1 to 32 of `a` to `z` and `-`.
    ///
    /// # Panics
    /// Another name, which in a constant does not compile.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        assert!(
            !bytes.is_empty() && bytes.len() <= 32,
            "a table's name has 1 to 32 characters"
        );
        let mut at = 0;
        while at < bytes.len() {
            assert!(
                bytes[at].is_ascii_lowercase() || bytes[at] == b'-',
                "a table's name is made of a to z and -"
            );
            at += 1;
        }
        Self { name, part: None }
    }

    /// A part of this table, such as an hour, that is scanned by itself. The table without a part
    /// is apart from all of them.
    #[must_use]
    pub const fn part(self, number: i64) -> Self {
        Self {
            name: self.name,
            part: Some(number),
        }
    }

    /// Before the keys of this table in a store that sorts them: no table's is the beginning of
    /// another one's.
    pub(crate) fn prefix(self) -> Vec<u8> {
        let mut prefix = Vec::with_capacity(self.name.len() + 10);
        prefix.extend_from_slice(self.name.as_bytes());
        match self.part {
            None => prefix.push(0),
            Some(number) => {
                prefix.push(1);
                prefix.extend_from_slice(&number.to_be_bytes());
            }
        }
        prefix
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match self.part {
            None => Ok(()),
            Some(number) => write!(f, ":{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prefix_begins_another() {
        let tables = [
            Table::new("seen"),
            Table::new("seen").part(0),
            Table::new("seen").part(-1),
            Table::new("seen").part(i64::MAX),
            Table::new("seen-a"),
            Table::new("s"),
        ];
        for (i, one) in tables.iter().enumerate() {
            for (j, other) in tables.iter().enumerate() {
                assert!(
                    i == j || !other.prefix().starts_with(&one.prefix()),
                    "{one} and {other}"
                );
            }
        }
    }
}
