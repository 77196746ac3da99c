//! Names by which packets call persons: whole addresses, or what stands before the `@`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::Person;

/// Persons by their names in lower case. All persons have to be known, also those whom somebody
/// else rings: a name of two of them names neither, unless they are spellings of one name.
#[derive(Clone, Debug, Default)]
pub struct Names {
    use_full_email_address: bool,
    /// By the whole address.
    whole: HashMap<Box<str>, Named>,
    /// By what stands before the `@`.
    local: HashMap<Box<str>, Named>,
}

/// Whose name it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhoseName {
    /// No one's.
    Nobody,
    /// One person's.
    One(Person),
    /// That of persons who differ in the case of letters only: a mail server may have one mailbox
    /// for them, or several.
    Spellings(Vec<Person>),
    /// Several persons', none of whom it names.
    Several,
}

/// Most spellings of one name: who logs in by more of them names nobody.
const MAX_SPELLINGS: usize = 8;

#[derive(Clone, Debug)]
enum Named {
    One(Person),
    Spellings(Vec<Person>),
    Several,
}

impl Names {
    /// No persons yet. With `use_full_email_address` a packet has to name the whole address;
    /// without, what stands before its `@` is enough.
    pub fn new(use_full_email_address: bool) -> Self {
        Self {
            use_full_email_address,
            whole: HashMap::new(),
            local: HashMap::new(),
        }
    }

    /// Adds a person with an address, or the login.
    pub fn add(&mut self, person: &Person, address: &str) {
        let address = address.to_lowercase();
        let (local, _) = divided(&address);
        add(&mut self.local, local, person);
        add(&mut self.whole, &address, person);
    }

    /// Whose name a packet's user is. One with a domain is compared whole; by what stands before
    /// its `@` it calls those only of whom no domain is known.
    pub fn find(&self, user: &str) -> WhoseName {
        let user = user.to_lowercase();
        let found = match divided(&user) {
            _ if self.use_full_email_address => self.whole.get(&*user),
            (local, Some(_)) => self.whole.get(&*user).or_else(|| self.whole.get(local)),
            (local, None) => self.local.get(local),
        };
        match found {
            Some(Named::One(person)) => WhoseName::One(person.clone()),
            Some(Named::Spellings(persons)) => WhoseName::Spellings(persons.clone()),
            Some(Named::Several) => WhoseName::Several,
            None => WhoseName::Nobody,
        }
    }
}

fn add(names: &mut HashMap<Box<str>, Named>, name: &str, person: &Person) {
    match names.entry(name.into()) {
        Entry::Vacant(free) => {
            free.insert(Named::One(person.clone()));
        }
        Entry::Occupied(mut taken) => {
            let whose = taken.get_mut();
            match whose {
                Named::One(before) if before == person => {}
                Named::One(before) if is_spelling(before, person) => {
                    *whose = Named::Spellings(vec![before.clone(), person.clone()]);
                }
                Named::Spellings(all) if all.contains(person) => {}
                Named::Spellings(all)
                    if all.len() < MAX_SPELLINGS
                        && all.first().is_some_and(|one| is_spelling(one, person)) =>
                {
                    all.push(person.clone());
                }
                _ => *whose = Named::Several,
            }
        }
    }
}

/// Whether two persons differ in the case of letters only.
fn is_spelling(one: &Person, other: &Person) -> bool {
    let lower = |person: &Person| (person.context.to_lowercase(), person.user.to_lowercase());
    lower(one) == lower(other)
}

/// What stands before the last `@`, and the domain behind it.
fn divided(address: &str) -> (&str, Option<&str>) {
    match address.rsplit_once('@') {
        Some((local, domain)) => (local, Some(domain)),
        None => (address, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_spelled_in_several_ways_is_theirs_who_spell_it() {
        let person = |name: &str| Person::new(name, name, name).expect("a person");
        let mut names = Names::new(false);
        for name in ["alice", "Alice", "alice", "ALICE", "bob", "Bob", "carol"] {
            names.add(&person(name), name);
        }
        let spellings =
            |all: &[&str]| WhoseName::Spellings(all.iter().copied().map(person).collect());
        assert_eq!(names.find("ALICE"), spellings(&["alice", "Alice", "ALICE"]));
        assert_eq!(names.find("bob"), spellings(&["bob", "Bob"]));
        assert_eq!(names.find("Carol"), WhoseName::One(person("carol")));
        // Somebody else has the name as well, or there are too many of them.
        names.add(&Person::new("3", "11", "11").expect("a person"), "bob");
        assert_eq!(names.find("bob"), WhoseName::Several);
        for number in 0..u32::try_from(MAX_SPELLINGS).expect("a number") {
            let spelled = |(place, letter): (usize, char)| {
                if (number >> place) & 1 == 1 {
                    letter.to_ascii_uppercase()
                } else {
                    letter
                }
            };
            let name: String = "dave".chars().enumerate().map(spelled).collect();
            names.add(&person(&name), &name);
        }
        assert!(
            matches!(names.find("dave"), WhoseName::Spellings(all) if all.len() == MAX_SPELLINGS)
        );
        names.add(&person("DAVE"), "DAVE");
        assert_eq!(names.find("dave"), WhoseName::Several);
    }

    #[test]
    fn a_name_of_several_persons_is_nobodys() {
        let person = |context: &str| Person::new(context, "11", "alice").expect("a person");
        let [here, there, elsewhere] = ["3", "4", "5"].map(person);
        let here_one = || WhoseName::One(here.clone());
        for (full, user, expected) in [
            (false, "alice", WhoseName::Several),
            // A whole address is one person's, whoever else has its local part.
            (false, "alice@example.org", here_one()),
            (false, "ALICE@example.com", WhoseName::One(there.clone())),
            (false, "alice@other.example", WhoseName::Nobody),
            (false, "bob", here_one()),
            (false, "BOB@Example.com", here_one()),
            (false, "BOB@other.example", WhoseName::Nobody),
            // Of whom no domain is known, any is.
            (false, "carol@other.example", here_one()),
            (false, "dave", WhoseName::Several),
            (false, "dave@example.org", here_one()),
            (false, "frank", WhoseName::Nobody),
            (true, "alice@example.org", here_one()),
            (true, "alice@example.com", WhoseName::One(there.clone())),
            (true, "alice", WhoseName::Nobody),
        ] {
            let mut names = Names::new(full);
            names.add(&here, "Alice@Example.org");
            names.add(&here, "bob@example.org");
            names.add(&here, "bob@example.com");
            names.add(&here, "carol");
            names.add(&here, "dave@example.org");
            names.add(&there, "alice@example.com");
            names.add(&elsewhere, "dave@example.com");
            assert_eq!(names.find(user), expected, "{full} {user}");
        }
    }
}
