//! How a round becomes complete: the mailbox is selected, compared, and mails that came are looked
//! at.

use super::{Round, Snapshot};
use crate::imap::{Client, Data, Fetched, ImapError, Selected};
use crate::sources::NewMail;
use crate::sources::heard::{field, snippet, text};

/// Most mails that came at once and are looked at; of more than these, the newest. Whoever moves
/// thousands of mails into a mailbox knows what they are.
const MAX_LOOKED_AT: usize = 50;
/// Most bytes of a header field that are kept.
const MAX_FIELD_BYTES: usize = 2000;
/// How often a mailbox is listed anew while mails go from it.
const MAX_LISTS: usize = 5;

/// Selects the mailbox and finds what has happened since the round's snapshot.
pub(super) async fn open(
    client: &mut Client,
    mailbox: &str,
    round: &mut Round,
) -> Result<(), ImapError> {
    let has_qresync = client.enable_qresync().await?;
    let known = (round.snapshot.uidvalidity, round.snapshot.modseq);
    let since = (has_qresync && known.0 != 0 && known.1 != 0).then_some(known);
    let (uidnext, exists) = (round.snapshot.uidnext, round.snapshot.exists());
    let is_known = known.0 != 0;
    let selected = client
        .select(mailbox, since, |data| {
            // Without numbers of mails that are known there is nothing to apply it to.
            if is_known {
                round.hear(&data);
            }
        })
        .await?;
    if !is_known || selected.uidvalidity != known.0 {
        let listed = list(client, &selected).await?;
        round.begin(listed);
        return catch_up(client, round).await;
    }
    let is_unchanged = since.is_none()
        && selected.modseq != 0
        && (selected.modseq, selected.uidnext, selected.exists) == (known.1, uidnext, exists);
    if is_unchanged {
        return Ok(());
    }
    round.keep();
    if since.is_none() {
        let listed = list(client, &selected).await?;
        round.replace(listed);
        look_at(client, round, uidnext).await?;
    } else {
        if selected.uidnext == 0 || selected.uidnext > uidnext {
            fetch_new(client, round).await?;
        }
        round.snapshot.settle();
    }
    catch_up(client, round).await?;
    round.snapshot.modseq = selected.modseq;
    Ok(())
}

/// Fetches mails that came. Where numbers do not fit the mailbox is listed anew.
pub(super) async fn catch_up(client: &mut Client, round: &mut Round) -> Result<(), ImapError> {
    for _ in 0..MAX_LISTS {
        if round.snapshot.is_complete() {
            return Ok(());
        }
        if round.snapshot.has_more() {
            fetch_new(client, round).await?;
        }
        if !round.snapshot.is_complete() && !round.snapshot.has_more() {
            relist(client, round).await?;
        }
    }
    Err(unfit())
}

/// Lists the mailbox and takes the differences for what has happened.
async fn relist(client: &mut Client, round: &mut Round) -> Result<(), ImapError> {
    let new_from = round.snapshot.uidnext;
    let selected = Selected {
        uidvalidity: round.snapshot.uidvalidity,
        uidnext: new_from,
        modseq: round.snapshot.modseq,
        exists: round.snapshot.exists(),
    };
    let listed = list(client, &selected).await?;
    round.replace(listed);
    look_at(client, round, new_from).await
}

/// All mails of the mailbox. While it is listed mails may go, and numbers change: then it is listed
/// again.
async fn list(client: &mut Client, selected: &Selected) -> Result<Snapshot, ImapError> {
    let mut exists = selected.exists;
    for _ in 0..MAX_LISTS {
        let mut listed = Snapshot::new(selected.uidvalidity, selected.uidnext.max(1));
        listed.modseq = selected.modseq;
        let mut is_still = true;
        if exists > 0 {
            client
                .fetch("1:*", "UID FLAGS", |data| match &data {
                    Data::Fetch(Fetched {
                        uid: Some(uid),
                        flags: Some(flags),
                        ..
                    }) if listed.flags(*uid).is_none() => listed.push(*uid, *flags),
                    Data::Fetch(_) => listed.apply(&data, &mut |_| {}),
                    other => is_still &= count(&mut exists, other),
                })
                .await?;
        }
        listed.apply(&Data::Exists(exists), &mut |_| {});
        if is_still && (listed.is_complete() || listed.has_more()) {
            return Ok(listed);
        }
        client
            .noop(|data| {
                count(&mut exists, &data);
            })
            .await?;
    }
    Err(unfit())
}

/// Follows the number of mails; `false` if mails went.
fn count(exists: &mut u32, data: &Data) -> bool {
    match data {
        Data::Exists(number) => *exists = *number,
        Data::Expunge(_) => {
            *exists = exists.saturating_sub(1);
            return false;
        }
        Data::Vanished { uids, .. } => {
            for range in uids {
                let gone = (range.last - range.first).saturating_add(1);
                *exists = exists.saturating_sub(gone);
            }
            return false;
        }
        _ => {}
    }
    true
}

fn unfit() -> ImapError {
    ImapError::Protocol("the numbers of mails in the mailbox do not fit".to_owned())
}

/// Adds the mails that came to the snapshot, and looks at them.
async fn fetch_new(client: &mut Client, round: &mut Round) -> Result<(), ImapError> {
    let new_from = round.snapshot.uidnext;
    let uids = format!("{new_from}:*");
    client
        .fetch(&uids, "UID FLAGS", |data| match &data {
            // The last mail is in `n:*`, even if it is older than n.
            Data::Fetch(Fetched {
                uid: Some(uid),
                flags: Some(flags),
                ..
            }) if *uid >= new_from && round.snapshot.flags(*uid).is_none() => {
                round.keep();
                round.snapshot.push(*uid, *flags);
            }
            _ => round.hear(&data),
        })
        .await?;
    look_at(client, round, new_from).await
}

/// Tells of the mails from this UID on, the newest of them with sender, subject and snippet.
async fn look_at(client: &mut Client, round: &mut Round, new_from: u32) -> Result<(), ImapError> {
    let uids: Vec<u32> = round.snapshot.since(new_from).map(|(uid, _)| uid).collect();
    for uid in &uids {
        round.came(NewMail {
            uid: *uid,
            ..NewMail::default()
        });
    }
    if uids.is_empty() {
        return Ok(());
    }
    let mut mails = round.take_came();
    let from = mails.len().saturating_sub(uids.len());
    describe_all(client, &mut mails[from..], |data| round.hear(&data)).await?;
    for mail in mails {
        round.came(mail);
    }
    Ok(())
}

/// Looks at mails of the selected mailbox, at the newest of very many.
pub(super) async fn describe_all(
    client: &mut Client,
    mails: &mut [NewMail],
    mut heard: impl FnMut(Data),
) -> Result<(), ImapError> {
    let from = mails.len().saturating_sub(MAX_LOOKED_AT);
    let looked_at = &mut mails[from..];
    let (Some(first), Some(last)) = (looked_at.first(), looked_at.last()) else {
        return Ok(());
    };
    let uids = format!("{}:{}", first.uid, last.uid);
    let text = if client.has_preview() {
        "PREVIEW"
    } else {
        "BODY.PEEK[]<0.16384>"
    };
    // Cut by the server: a mail may have as much header as its sender likes.
    let items = format!("UID BODY.PEEK[HEADER.FIELDS (FROM SUBJECT)]<0.16384> {text}");
    let described = client
        .fetch(&uids, &items, |data| match data {
            Data::Fetch(fetched) if fetched.header.is_some() || fetched.body.is_some() => {
                let mut mails = looked_at.iter_mut();
                if let Some(mail) = mails.find(|mail| Some(mail.uid) == fetched.uid) {
                    describe(mail, &fetched);
                }
            }
            other => heard(other),
        })
        .await;
    match described {
        // It cannot read one of them, and never will: what is known is told.
        Err(ImapError::Command { text, .. }) => {
            tracing::debug!(answer = text, "the IMAP server does not describe mails");
            Ok(())
        }
        described => described,
    }
}

fn describe(mail: &mut NewMail, fetched: &Fetched) {
    let header = fetched.header.as_deref().unwrap_or_default();
    let cut = |text: String| text[..text.floor_char_boundary(MAX_FIELD_BYTES)].to_owned();
    mail.from = field(header, "From").map(cut);
    mail.subject = field(header, "Subject").map(cut);
    mail.snippet = match (&fetched.preview, &fetched.body) {
        (Some(preview), _) => Some(text(preview)),
        (None, Some(body)) => snippet(body),
        (None, None) => None,
    };
    let snippet = mail.snippet.take().filter(|snippet| !snippet.is_empty());
    mail.snippet = snippet.map(cut);
}
