//! Whose name a mail may have: with `user_from_metadata` Dovecot's driver sends the one that the
//! IMAP user has written into his METADATA.
//!
//! Whose mail it is only the URL tells, into which Dovecot puts the user (`?of=%u`).

use dovecast_relay::server::matches;

/// Parameter of the URL that says whose mail it is.
const OF: &str = "of";

/// Names that mails may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Users {
    /// Names that may be given for others; `*` is any text.
    pub(super) listed: Vec<String>,
    /// Whether each mail says in its URL whose it is.
    pub(super) is_owner_required: bool,
}

/// Why a mail may not have its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misnamed {
    /// The name is another user's.
    OfAnother,
    /// Whose mail it is, the URL does not say.
    Unowned,
}

impl Users {
    /// Whether any name is taken of a mail whose URL does not say whose it is.
    pub(super) fn believes_any(&self) -> bool {
        self.listed.is_empty() && !self.is_owner_required
    }

    /// Whether a mail of `owner` may have the name `user`.
    pub(super) fn check(&self, owner: Option<&str>, user: &str) -> Result<(), Misnamed> {
        let folded_user = folded(user);
        let mut listed = self.listed.iter().map(|pattern| folded(pattern));
        let is_listed = listed.any(|pattern| matches(&pattern, &folded_user));
        let is_right = match owner {
            Some(owner) => is_listed || owner == user || is_same_domain(owner, user),
            None if self.is_owner_required => return Err(Misnamed::Unowned),
            None => is_listed || self.listed.is_empty(),
        };
        if is_right {
            Ok(())
        } else {
            Err(Misnamed::OfAnother)
        }
    }
}

fn is_same_domain(owner: &str, user: &str) -> bool {
    let domain = |name: &str| {
        name.rsplit_once('@')
            .map(|(_, domain)| domain.to_lowercase())
    };
    domain(owner).is_some() && domain(owner) == domain(user)
}

/// A name with its domain in lower case: in which case that is written says nothing.
fn folded(name: &str) -> String {
    match name.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_lowercase()),
        None => name.to_owned(),
    }
}

/// Whose mail it is, as the query of the URL says. A `+` is one: Dovecot encodes nothing.
pub(super) fn owner(query: Option<&str>) -> Option<String> {
    let said = query?.replace('+', "%2B");
    let mut pairs = url::form_urlencoded::parse(said.as_bytes());
    let owner = pairs.find(|(name, _)| name == OF).map(|(_, owner)| owner);
    owner.map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_has_the_name_of_its_user_or_one_of_his_domain_or_one_that_is_listed() {
        let joe = Some("joe@a.example");
        for (listed, owner, user, expected) in [
            (&[][..], joe, "joe@a.example", true),
            (&[], joe, "ceo@A.Example", true),
            (&[], joe, "ceo@b.example", false),
            (&[], joe, "ceo", false),
            (&[], Some("joe"), "joe", true),
            (&[], Some("joe"), "ceo", false),
            (&[], Some(""), "ceo", false),
            (&[], None, "ceo@b.example", true),
            (&["*@b.example"], joe, "ceo@b.example", true),
            (&["*@b.example"], joe, "ceo@c.example", false),
            (&["*@b.example"], joe, "ceo@B.Example", true),
            (&["Ceo@B.Example"], joe, "Ceo@b.example", true),
            (&["Ceo@b.example"], joe, "ceo@b.example", false),
            (&["*@b.example"], None, "ceo@b.example", true),
            (&["*@b.example"], None, "joe@a.example", false),
        ] {
            let mut users = Users {
                listed: listed.iter().map(ToString::to_string).collect(),
                is_owner_required: false,
            };
            let expected = if expected {
                Ok(())
            } else {
                Err(Misnamed::OfAnother)
            };
            let named = users.check(owner, user);
            assert_eq!(named, expected, "{listed:?} {owner:?} {user}");
            // Whoever has to say whose the mail is and says it is told the same.
            users.is_owner_required = true;
            let expected = owner.map_or(Err(Misnamed::Unowned), |_| expected);
            let named = users.check(owner, user);
            assert_eq!(named, expected, "{listed:?} {owner:?} {user}");
        }
    }

    #[test]
    fn whose_mail_it_is_stands_in_the_url() {
        for (query, expected) in [
            (None, None),
            (Some("a=b"), None),
            (Some("of=joe@a.example"), Some("joe@a.example")),
            (Some("a=b&of=joe+tag@a.example"), Some("joe+tag@a.example")),
            (Some("of=joe%40a.example"), Some("joe@a.example")),
            (Some("of="), Some("")),
            (Some("of=joe&of=ceo"), Some("joe")),
        ] {
            assert_eq!(owner(query).as_deref(), expected, "{query:?}");
        }
    }
}
