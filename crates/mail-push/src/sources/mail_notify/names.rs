//! Names by which packets call persons: whole addresses, or what stands before the `@`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::Person;

/// Persons by their names in lower case.
#[derive(Clone, Debug, Default)]
pub struct Names {
    use_full_email_address: bool,
    persons: HashMap<Box<str>, WhoseName>,
}

/// Whose name it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhoseName {
    /// No one's.
    Nobody,
    /// One person's.
    One(Person),
    /// Several persons', none of whom it names.
    Several,
}

impl Names {
    /// No persons yet. With `use_full_email_address` a packet has to name the whole address;
    /// without, what stands before its `@`.
    pub fn new(use_full_email_address: bool) -> Self {
        Self {
            use_full_email_address,
            persons: HashMap::new(),
        }
    }

    /// Adds a person with an address, or the login.
    pub fn add(&mut self, person: &Person, address: &str) {
        let name = self.name(address);
        match self.persons.entry(name) {
            Entry::Vacant(free) => {
                free.insert(WhoseName::One(person.clone()));
            }
            Entry::Occupied(mut taken) => {
                if *taken.get() != WhoseName::One(person.clone()) {
                    taken.insert(WhoseName::Several);
                }
            }
        }
    }

    /// Whose name a packet's user is.
    pub fn find(&self, user: &str) -> WhoseName {
        let found = self.persons.get(&*self.name(user));
        found.cloned().unwrap_or(WhoseName::Nobody)
    }

    fn name(&self, address: &str) -> Box<str> {
        let address = address.to_lowercase();
        match address.rsplit_once('@') {
            Some((local, _)) if !self.use_full_email_address => local.into(),
            _ => address.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_several_persons_is_nobodys() {
        let person = |context: &str| Person::new(context, "11", "alice").expect("a person");
        let [here, there] = ["3", "4"].map(person);
        for (full, user, expected) in [
            (false, "alice", WhoseName::Several),
            (false, "alice@example.org", WhoseName::Several),
            (false, "bob", WhoseName::One(here.clone())),
            (false, "BOB@elsewhere.example", WhoseName::One(here.clone())),
            (false, "carol", WhoseName::Nobody),
            (true, "alice@example.org", WhoseName::One(here.clone())),
            (true, "alice@example.com", WhoseName::One(there.clone())),
            (true, "alice", WhoseName::Nobody),
        ] {
            let mut names = Names::new(full);
            names.add(&here, "Alice@Example.org");
            names.add(&here, "bob@example.org");
            names.add(&here, "bob@example.com");
            names.add(&there, "alice@example.com");
            assert_eq!(names.find(user), expected, "{full} {user}");
        }
    }
}
