//! The five system flags a client can set (RFC 9051 section 2.3.2), as Dovecot's `enum mail_flags`
//! numbers them.

/// A set of system flags. `\Recent` and Dovecot's internal bits are never in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    /// `\Answered`
    pub const ANSWERED: Self = Self(0x01);
    /// `\Flagged`
    pub const FLAGGED: Self = Self(0x02);
    /// `\Deleted`
    pub const DELETED: Self = Self(0x04);
    /// `\Seen`
    pub const SEEN: Self = Self(0x08);
    /// `\Draft`
    pub const DRAFT: Self = Self(0x10);

    const NAMES: [(Self, &'static str); 5] = [
        (Self::ANSWERED, "\\Answered"),
        (Self::FLAGGED, "\\Flagged"),
        (Self::DELETED, "\\Deleted"),
        (Self::SEEN, "\\Seen"),
        (Self::DRAFT, "\\Draft"),
    ];

    /// The flags among Dovecot's bits (`enum mail_flags` in mail-types.h); `\Recent` (0x20) and
    /// above are cut off.
    pub const fn from_dovecot(bits: u32) -> Self {
        Self((bits & 0x1f) as u8)
    }

    /// The flags as Dovecot's bits.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The flags that `other` does not have.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether no flag is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names with their backslash, in the order \Answered \Flagged \Deleted \Seen \Draft.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .filter(move |(flag, _)| self.contains(*flag))
            .map(|(_, name)| name)
    }

    /// The flag of that name (any letter case), if it is one of the five.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES
            .into_iter()
            .find(|(_, known)| known.eq_ignore_ascii_case(name))
            .map(|(flag, _)| flag)
    }
}

impl std::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_is_cut_off_and_order_is_dovecots() {
        let flags = Flags::from_dovecot(0x3f);
        assert_eq!(
            flags.names().collect::<Vec<_>>(),
            ["\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft"]
        );
        assert!(Flags::from_dovecot(0x20).is_empty());
    }
}
