//! Other mailboxes than the one that is selected. A server with NOTIFY (RFC 5465) says when a mail
//! has come into one, which is looked at then, and the first one is selected again; or somebody
//! else names one, see [`super::look`].
//!
//! Of each is known up to which UID its mails were told of. Mails that come are told of, and
//! nothing else; in mailboxes with a use of their own (RFC 6154: rubbish, drafts, what was sent)
//! nothing is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Round;
use super::sync::{self, describe_all};
use crate::imap::{Client, Data, Fetched, ImapError, StatusItems};
use crate::sources::NewMail;

/// Most mailboxes of a person that are known; mails in others are not told of.
const MAX_OTHERS: usize = 200;
/// Longest name of a mailbox that is known, in bytes.
const MAX_NAME_BYTES: usize = 500;
/// Most mails of a mailbox that was not there before and are all told of: filters make mailboxes
/// when the first mail for them comes.
const MAX_FIRST: u64 = 5;
/// Most mails that come into one at once and are told of, the oldest.
const MAX_CAME: usize = 1000;

/// What is known of another mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    /// UIDVALIDITY; 0: not known yet.
    pub uidvalidity: u32,
    /// UIDs from here on are new.
    pub uidnext: u32,
    /// Whether the mailbox has a use of its own: what comes is not told of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_special: bool,
}

impl Other {
    /// A mailbox of which nothing was known: what was there is not told of. If others were known
    /// before, it is new, and so is all of it where that is little.
    fn begun(told: &Told, is_first: bool) -> Self {
        let uidnext = told.uidnext.filter(|_| is_first || !told.is_fresh());
        Self {
            uidvalidity: told.uidvalidity.unwrap_or_default(),
            uidnext: uidnext.unwrap_or(1),
            is_special: false,
        }
    }
}

/// What a server says of a mailbox that is not selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    messages: Option<u64>,
    uidnext: Option<u32>,
    uidvalidity: Option<u32>,
}

/// What was said of mailboxes and not looked at yet.
pub(super) type AllTold = BTreeMap<String, Told>;

impl Told {
    fn new(items: &StatusItems) -> Self {
        let find = |name| {
            let found = items.iter().find(|(other, _)| other == name);
            found.map(|(_, number)| *number)
        };
        let short = |name| find(name).and_then(|number| u32::try_from(number).ok());
        Self {
            messages: find("MESSAGES"),
            uidnext: short("UIDNEXT"),
            uidvalidity: short("UIDVALIDITY"),
        }
    }

    /// Whether all mails that ever came are there, and are few.
    fn is_fresh(&self) -> bool {
        let (Some(messages), Some(uidnext)) = (self.messages, self.uidnext) else {
            return false;
        };
        messages <= MAX_FIRST && messages + 1 == u64::from(uidnext)
    }
}

/// What could be told of a mailbox that is named.
pub(super) enum Looked {
    /// What came since it was known.
    SinceKnown,
    /// All that ever came.
    FromTheFirst,
    /// Nothing: it was not known until now, or is not there.
    NotKnown,
}

/// Keeps what a server says of a mailbox.
pub(super) fn keep(all: &mut AllTold, mailbox: &str, items: &StatusItems) {
    let has_place = all.len() < MAX_OTHERS || all.contains_key(mailbox);
    if has_place && mailbox.len() <= MAX_NAME_BYTES {
        all.insert(mailbox.to_owned(), Told::new(items));
    }
}

/// Has the server tell of other mailboxes, and tells of the mails that came since they were known.
pub(super) async fn open(
    client: &mut Client,
    mailbox: &str,
    round: &mut Round,
) -> Result<(), ImapError> {
    if !client.has_notify() {
        return Ok(());
    }
    let special = client.special_mailboxes().await?;
    if !client.notify(|data| round.hear(&data)).await? {
        return Ok(());
    }
    let is_first = round.snapshot.others.is_empty();
    let mut others = BTreeMap::new();
    for (name, told) in &round.told {
        if name.eq_ignore_ascii_case(mailbox) {
            continue;
        }
        let known = round.snapshot.others.get(name).copied();
        let begun = || Other::begun(told, is_first);
        let other = Other {
            is_special: special.contains(name),
            ..known.unwrap_or_else(begun)
        };
        others.insert(name.clone(), other);
    }
    // What the server does not list is not there any more.
    if others != round.snapshot.others {
        round.keep();
        round.snapshot.others = others;
    }
    visit(client, mailbox, round).await
}

/// Looks into the mailboxes of which something was said. What is said meanwhile is left for the
/// next round.
pub(super) async fn visit(
    client: &mut Client,
    mailbox: &str,
    round: &mut Round,
) -> Result<(), ImapError> {
    let mut is_away = false;
    for (name, told) in std::mem::take(&mut round.told) {
        if !name.eq_ignore_ascii_case(mailbox) && has_more(round, &name, told) {
            is_away = true;
            look_into(client, round, &name).await?;
        }
    }
    if is_away {
        sync::open(client, mailbox, round).await?;
    }
    Ok(())
}

/// Whether there may be mails in a mailbox that are to be told of.
fn has_more(round: &mut Round, name: &str, told: Told) -> bool {
    let Some(uidnext) = told.uidnext else {
        return false;
    };
    let known = round.snapshot.others.get(name).copied();
    let is_full = known.is_none() && round.snapshot.others.len() >= MAX_OTHERS;
    let known = known.unwrap_or_else(|| Other::begun(&told, false));
    let is_renumbered = told
        .uidvalidity
        .is_some_and(|now| now != known.uidvalidity && known.uidvalidity != 0);
    let is_looked_at = uidnext > known.uidnext && !known.is_special || is_renumbered;
    let next = Other {
        uidnext: if is_looked_at {
            known.uidnext
        } else {
            known.uidnext.max(uidnext)
        },
        ..known
    };
    if !is_full && round.snapshot.others.get(name) != Some(&next) {
        round.keep();
        round.snapshot.others.insert(name.to_owned(), next);
    }
    is_looked_at && !is_full
}

/// Looks into a mailbox that is named, and leaves it selected.
pub(super) async fn look_into_named(
    client: &mut Client,
    round: &mut Round,
    name: &str,
) -> Result<Looked, ImapError> {
    let is_known = round.snapshot.others.contains_key(name);
    if !is_known && !begin(client, round, name).await? {
        return Ok(Looked::NotKnown);
    }
    look_into(client, round, name).await?;
    if !round.snapshot.others.contains_key(name) {
        return Ok(Looked::NotKnown);
    }
    Ok(if is_known {
        Looked::SinceKnown
    } else {
        Looked::FromTheFirst
    })
}

/// Begins to know a mailbox that is named; `true`: its first mail has come, and is to be told of.
async fn begin(client: &mut Client, round: &mut Round, name: &str) -> Result<bool, ImapError> {
    if round.snapshot.others.len() >= MAX_OTHERS || name.len() > MAX_NAME_BYTES {
        return Ok(false);
    }
    let selected = client.select(name, None, |data| round.hear_of_others(&data));
    let selected = match selected.await {
        Ok(selected) => selected,
        Err(ImapError::Command { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    if selected.uidnext == 0 {
        // Without it all that is there would seem new.
        return Ok(false);
    }
    let has_first = selected.exists == 1 && selected.uidnext == 2;
    let begun = Other {
        uidvalidity: selected.uidvalidity,
        uidnext: if has_first { 1 } else { selected.uidnext },
        is_special: false,
    };
    round.keep();
    round.snapshot.others.insert(name.to_owned(), begun);
    Ok(has_first)
}

/// Selects a mailbox that is known and tells of the mails that came.
async fn look_into(client: &mut Client, round: &mut Round, name: &str) -> Result<(), ImapError> {
    let Some(known) = round.snapshot.others.get(name).copied() else {
        return Ok(());
    };
    let selected = client.select(name, None, |data| round.hear_of_others(&data));
    let selected = match selected.await {
        Ok(selected) => selected,
        Err(ImapError::Command { .. }) => {
            // It has gone meanwhile.
            round.keep();
            round.snapshot.others.remove(name);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut now = Other {
        uidvalidity: selected.uidvalidity,
        uidnext: selected.uidnext.max(1),
        ..known
    };
    let is_same = known.uidvalidity == 0 || known.uidvalidity == selected.uidvalidity;
    let mut mails = Vec::new();
    if is_same && selected.exists > 0 {
        let first = known.uidnext;
        client
            .fetch(&format!("{first}:*"), "UID FLAGS", |data| match data {
                // The last mail is in `n:*`, even if it is older than n.
                Data::Fetch(Fetched {
                    uid: Some(uid),
                    flags: Some(flags),
                    ..
                }) if uid >= first => {
                    now.uidnext = now.uidnext.max(uid.saturating_add(1));
                    mails.push(NewMail {
                        uid,
                        flags,
                        ..NewMail::default()
                    });
                }
                other => round.hear_of_others(&other),
            })
            .await?;
    }
    // Flags may be told again while mails are fetched.
    mails.sort_by_key(|mail| mail.uid);
    mails.dedup_by_key(|mail| mail.uid);
    let surplus = mails.len().saturating_sub(MAX_CAME);
    mails.truncate(MAX_CAME);
    round.dropped += u64::try_from(surplus).unwrap_or(u64::MAX);
    describe_all(client, &mut mails, |data| round.hear_of_others(&data)).await?;
    round.keep();
    round.is_renumbered |= !is_same;
    round.snapshot.others.insert(name.to_owned(), now);
    round.came_into(name, selected.uidvalidity, mails);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Snapshot;
    use super::*;

    fn status(messages: u64, uidnext: u64) -> StatusItems {
        vec![("MESSAGES".into(), messages), ("UIDNEXT".into(), uidnext)]
    }

    fn known(others: &[(&str, u32, bool)]) -> Round {
        let mut snapshot = Snapshot::new(1, 1);
        for (name, uidnext, is_special) in others {
            let other = Other {
                uidvalidity: 5,
                uidnext: *uidnext,
                is_special: *is_special,
            };
            snapshot.others.insert((*name).to_owned(), other);
        }
        Round::new(snapshot)
    }

    #[test]
    fn a_mailbox_is_looked_into_where_a_mail_may_have_come() {
        let others = [("a", 10, false), ("rubbish", 10, true)];
        for (name, items, is_looked_at, uidnext) in [
            ("a", status(3, 11), true, 10),
            ("a", status(3, 10), false, 10),
            ("rubbish", status(3, 11), false, 11),
            // It was made when its first mail came.
            ("new", status(1, 2), true, 1),
            // It has got another name, or was there before there was a place for it.
            ("other", status(1, 40), false, 40),
        ] {
            let mut round = known(&others);
            let has_more = has_more(&mut round, name, Told::new(&items));
            assert_eq!(has_more, is_looked_at, "{name} {items:?}");
            assert_eq!(round.snapshot.others[name].uidnext, uidnext, "{name}");
        }
    }

    #[test]
    fn others_are_known_still_when_the_selected_one_is_listed_anew() {
        let mut round = known(&[("a", 10, false)]);
        let others = round.snapshot.others.clone();
        round.replace(Snapshot::new(1, 7));
        assert_eq!(
            (round.snapshot.uidnext, &round.snapshot.others),
            (7, &others)
        );
        round.begin(Snapshot::new(2, 3));
        assert_eq!(
            (round.snapshot.uidnext, &round.snapshot.others),
            (3, &others)
        );
    }

    #[test]
    fn what_is_said_of_mailboxes_is_bounded() {
        let mut all = AllTold::new();
        keep(&mut all, &"x".repeat(MAX_NAME_BYTES + 1), &status(1, 2));
        assert!(all.is_empty());
        for number in 0..MAX_OTHERS + 10 {
            keep(&mut all, &number.to_string(), &status(1, 2));
        }
        assert_eq!(all.len(), MAX_OTHERS);
        keep(&mut all, "0", &status(7, 9));
        assert_eq!(all["0"].messages, Some(7));
    }

    #[test]
    fn of_others_what_is_known_can_be_kept() {
        let round = known(&[("a", 10, false), ("rubbish", 10, true)]);
        let json = serde_json::to_string(&round.snapshot).expect("JSON");
        let read: Snapshot = serde_json::from_str(&json).expect("a snapshot");
        assert_eq!(read, round.snapshot);
        let json = serde_json::to_string(&Snapshot::new(1, 1)).expect("JSON");
        assert!(!json.contains("others"), "{json}");
    }
}
