//! Mail push: subscriptions, sessions and credentials of persons.

use anyhow::{Context, Result, ensure};
use dovecast_mail_push::placement::Lease;
use dovecast_mail_push::{DeviceAddress, Person, Wishes};
use dovecast_store::{
    MailboxCredentials, NewSubscription, Passcrypt, PutSubscription, ShownSession, Store,
    SubscriptionEdit,
};
use serde_json::json;
use std::convert::identity;

use crate::setup::{Test, cases};

cases![
    a_token_belongs_to_one_person_at_a_time,
    a_webhook_is_taken_over_by_nobody_and_keeps_its_secret,
    subscriptions_are_changed_and_are_of_their_person_only,
    addresses_and_passwords_are_sealed_and_survive_a_rotation,
    a_session_ends_and_only_its_hash_is_kept,
    credentials_that_were_refused_are_tried_no_more,
    metadata_is_known_until_it_is_taken_away_by_whoever_has_the_lease,
    whether_a_client_has_new_mail_is_known_without_its_wishes,
    a_row_that_cannot_be_read_is_left_out_and_counted,
    credentials_stay_as_long_as_a_session_or_a_subscription_needs_them,
    what_is_known_of_mailboxes_goes_with_sessions_and_subscriptions,
];

const MAX_SUBSCRIPTIONS: u64 = 3;
/// For so long credentials that were stored are not forgotten.
const MINUTE_MS: i64 = 60_000;

pub(crate) fn joe() -> Person {
    Person::new("3", "11", "11@3").expect("a person")
}

pub(crate) fn ann() -> Person {
    Person::new("3", "12", "12@3").expect("a person")
}

pub(crate) fn new(person: &Person, token: &str, topics: &[&str]) -> NewSubscription {
    let wishes = json!({ "topics": topics, "content": "envelope", "urgency": "normal" });
    NewSubscription {
        person: person.clone(),
        client: "phone".to_owned(),
        address: DeviceAddress::Fcm {
            token: token.to_owned(),
        },
        wishes: Wishes::from_json(&wishes).expect("wishes"),
        expires_ms: None,
    }
}

fn webhook(person: &Person) -> NewSubscription {
    NewSubscription {
        address: DeviceAddress::Webhook {
            url: "https://example.org/hook".to_owned(),
            signing_secret: String::new(),
        },
        ..new(person, "", &["*"])
    }
}

pub(crate) async fn put(store: &Store, new: NewSubscription) -> Result<PutSubscription> {
    Ok(store.put_subscription(new, MAX_SUBSCRIPTIONS).await?)
}

async fn a_token_belongs_to_one_person_at_a_time(test: Test) -> Result<()> {
    let store = test.open().await?;
    let first = put(&store, new(&joe(), "token-1", &["mail:new"])).await?;
    ensure!(first.is_new && !first.is_taken_over);
    let again = put(&store, new(&joe(), "token-1", &["*"])).await?;
    ensure!(!again.is_new, "{again:?}");
    let (one, other) = (&first.record.subscription, &again.record.subscription);
    ensure!(one.id == other.id && one.wishes != other.wishes);
    let taken = put(&store, new(&ann(), "token-1", &["*"])).await?;
    ensure!(taken.is_new && taken.is_taken_over && taken.record.subscription.id != one.id);
    ensure!(store.subscriptions(&joe()).await?.is_empty());
    ensure!(store.subscriptions(&ann()).await?.len() == 1);
    for token in ["a", "b"] {
        put(&store, new(&ann(), token, &["*"])).await?;
    }
    let full = put(&store, new(&ann(), "c", &["*"]))
        .await
        .err()
        .context("full")?;
    ensure!(full.to_string().contains("3 subscriptions"), "{full}");
    Ok(())
}

async fn a_webhook_is_taken_over_by_nobody_and_keeps_its_secret(test: Test) -> Result<()> {
    let store = test.open().await?;
    let first = put(&store, webhook(&joe())).await?;
    let secret = first.signing_secret.context("a secret")?;
    ensure!(put(&store, webhook(&ann())).await?.is_new);
    let again = put(&store, webhook(&joe())).await?;
    let id = again.record.subscription.id;
    ensure!(!again.is_new && again.signing_secret.is_none());
    ensure!(id == first.record.subscription.id);
    match store.subscription_address(&joe(), id).await?.as_ref() {
        Some(DeviceAddress::Webhook { signing_secret, .. }) => {
            ensure!(signing_secret == secret.expose());
        }
        other => anyhow::bail!("{other:?}"),
    }
    Ok(())
}

async fn subscriptions_are_changed_and_are_of_their_person_only(test: Test) -> Result<()> {
    let store = test.open().await?;
    let id = put(&store, new(&joe(), "t", &["*"]))
        .await?
        .record
        .subscription
        .id;
    let edit = || SubscriptionEdit {
        client: Some("tablet".to_owned()),
        expires_ms: Some(Some(60_000)),
        ..SubscriptionEdit::default()
    };
    ensure!(
        store
            .edit_subscription(&ann(), id, edit(), identity)
            .await?
            .is_none()
    );
    let changed = store
        .edit_subscription(&joe(), id, edit(), identity)
        .await?
        .context("changed")?;
    ensure!(changed.subscription.client == "tablet" && changed.last_four.is_empty());
    ensure!(store.subscription_address(&ann(), id).await?.is_none());
    ensure!(!store.delete_subscription(&ann(), id).await?);
    let clients = store.push_clients().await?;
    ensure!(
        clients.len() == 1 && clients[0].client == "tablet",
        "{clients:?}"
    );
    test.clock.pass(60_000);
    ensure!(store.subscriptions(&joe()).await?.is_empty());
    put(&store, new(&joe(), "t", &["*"])).await?;
    ensure!(store.delete_client("3", "11", "phone").await? == 1);
    Ok(())
}

async fn addresses_and_passwords_are_sealed_and_survive_a_rotation(test: Test) -> Result<()> {
    let store = test.open().await?;
    let id = put(&store, new(&joe(), "token-of-joe", &["*"]))
        .await?
        .record
        .subscription
        .id;
    let credentials = MailboxCredentials {
        login: "joe-at-work".to_owned(),
        password: "geheim".to_owned(),
    };
    let passcrypt = Passcrypt::of("passphrase");
    store
        .keep_credentials(&joe(), &credentials, &passcrypt)
        .await?;
    let rotated = store.rotate_secret_key().await?;
    ensure!((rotated.sealed, rotated.damaged) == (2, 0), "{rotated:?}");
    ensure!(rotated.retired.len() == 1, "{rotated:?}");
    for table in ["push_subscription", "push_credential"] {
        let rows = test.dump(table)?;
        for secret in ["token-of-joe", "joe-at-work", "geheim"] {
            ensure!(!rows.contains(secret), "{secret} is in {table}");
        }
    }
    let address = store
        .subscription_address(&joe(), id)
        .await?
        .context("an address")?;
    ensure!(address.token() == "token-of-joe");
    ensure!(store.credentials(&joe(), &passcrypt).await? == Some(credentials));
    let other = Passcrypt::of("another");
    ensure!(store.credentials(&joe(), &other).await.is_err());
    Ok(())
}

async fn a_session_ends_and_only_its_hash_is_kept(test: Test) -> Result<()> {
    let store = test.open().await?;
    let session = store.create_session(&joe(), 1000).await?;
    ensure!(session.secret.starts_with("dps_") && session.expires_ms == 1000);
    ensure!(!test.dump("push_session")?.contains(&session.secret));
    ensure!(store.session(&session.secret).await? == ShownSession::Good(joe()));
    ensure!(store.persons_with_sessions().await? == [joe()]);
    put(&store, new(&ann(), "t", &["mail:flags"])).await?;
    let mut persons = store.push_persons().await?;
    persons.sort_by(|one, other| one.user.cmp(&other.user));
    ensure!(persons == [joe(), ann()], "{persons:?}");
    ensure!(store.session("dps_other").await? == ShownSession::Unknown);
    test.clock.pass(1000);
    ensure!(store.session(&session.secret).await? == ShownSession::Expired);
    ensure!(store.push_persons().await? == [ann()]);
    ensure!(store.drop_expired_sessions().await? == 0);
    test.clock.pass(24 * 3_600_000);
    ensure!(store.drop_expired_sessions().await? == 1);
    ensure!(!store.delete_session(&session.secret).await?);
    Ok(())
}

async fn credentials_that_were_refused_are_tried_no_more(test: Test) -> Result<()> {
    let store = test.open().await?;
    let credentials = |password: &str| MailboxCredentials {
        login: "11@3".to_owned(),
        password: password.to_owned(),
    };
    let passcrypt = Passcrypt::of("passphrase");
    let keep = async |password: &str| {
        let credentials = credentials(password);
        store
            .keep_credentials(&joe(), &credentials, &passcrypt)
            .await
    };
    let old = keep("old").await?;
    ensure!(store.known_credentials().await?[0].name == old);
    store.refuse_credentials(&joe(), &old).await?;
    ensure!(store.credentials(&joe(), &passcrypt).await?.is_none());
    ensure!(store.known_credentials().await?.is_empty());
    let new = keep("new").await?;
    // What is refused late are the old ones.
    store.refuse_credentials(&joe(), &old).await?;
    ensure!(store.known_credentials().await?[0].name == new);
    ensure!(store.credentials(&joe(), &passcrypt).await? == Some(credentials("new")));
    test.clock.pass(MINUTE_MS);
    ensure!(store.forget_unneeded_credentials(&joe()).await?);
    ensure!(store.credentials(&joe(), &passcrypt).await?.is_none());
    Ok(())
}

/// A lease of the mailbox.
fn lease(fence: i64) -> Lease {
    Lease {
        person: joe(),
        fence,
    }
}

/// Stores a password of the mailbox.
async fn keep_password(store: &Store) -> Result<()> {
    let credentials = MailboxCredentials {
        login: "11@3".to_owned(),
        password: "geheim".to_owned(),
    };
    let passcrypt = Passcrypt::of("passphrase");
    store
        .keep_credentials(&joe(), &credentials, &passcrypt)
        .await?;
    Ok(())
}

async fn metadata_is_known_until_it_is_taken_away_by_whoever_has_the_lease(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    keep_password(&store).await?;
    ensure!(store.put_metadata(&lease(2)).await?);
    // A node that hangs and comes back neither sets nor takes away.
    ensure!(!store.put_metadata(&lease(1)).await?);
    store.forget_metadata(&lease(1)).await?;
    ensure!(store.persons_with_metadata().await? == [joe()]);
    // The password is needed for it, though nobody is subscribed.
    ensure!(!store.forget_unneeded_credentials(&joe()).await?);
    ensure!(store.forget_unheard().await? == 0);
    store.forget_metadata(&lease(2)).await?;
    ensure!(store.persons_with_metadata().await?.is_empty());
    test.clock.pass(MINUTE_MS);
    ensure!(store.forget_unheard().await? == 1);
    // It is given up in the end, but not of somebody who has come back meanwhile.
    let day = 24 * 3_600_000;
    test.clock.pass(1);
    ensure!(store.put_metadata(&lease(3)).await?);
    ensure!(store.give_up_metadata().await? == 0);
    test.clock.pass(6 * day);
    store.create_session(&joe(), day).await?;
    ensure!(store.give_up_metadata().await? == 0);
    test.clock.pass(day);
    ensure!(store.give_up_metadata().await? == 0);
    test.clock.pass(7 * day);
    ensure!(store.give_up_metadata().await? == 1);
    ensure!(store.persons_with_metadata().await?.is_empty());
    Ok(())
}

async fn whether_a_client_has_new_mail_is_known_without_its_wishes(test: Test) -> Result<()> {
    let store = test.open().await?;
    let known = async || -> Result<Vec<(String, bool)>> {
        let clients = store.push_clients().await?.into_iter();
        Ok(clients.map(|one| (one.client, one.has_new_mail)).collect())
    };
    let phone = |has_new_mail| vec![("phone".to_owned(), has_new_mail)];
    put(&store, new(&joe(), "a", &["mail:flags"])).await?;
    let id = put(&store, new(&joe(), "b", &["ox:mail:new"])).await?;
    let id = id.record.subscription.id;
    ensure!(known().await? == phone(true));
    ensure!(store.new_mail_clients().await?.len() == 1);
    for topic in ["mail:*", "mail:flags", "*", "mail:flags"] {
        let has = topic != "mail:flags";
        let wishes = new(&joe(), "b", &[topic]).wishes;
        let edit = SubscriptionEdit::default();
        store
            .edit_subscription(&joe(), id, edit, |_| wishes)
            .await?;
        let found = store.new_mail_clients().await?.len();
        ensure!(known().await? == phone(has) && found == usize::from(has));
    }
    // Those of an older version are looked at once.
    test.execute("UPDATE push_subscription SET new_mail = -1, wishes = REPLACE(wishes, 'mail:flags', 'mail:new')")?;
    ensure!(known().await? == phone(true) && store.new_mail_clients().await?.len() == 1);
    test.execute("UPDATE push_subscription SET wishes = 'no JSON'")?;
    ensure!(store.new_mail_clients().await?.len() == 1);
    Ok(())
}

async fn a_row_that_cannot_be_read_is_left_out_and_counted(test: Test) -> Result<()> {
    let store = test.open().await?;
    for (person, token) in [(joe(), "a"), (joe(), "b"), (ann(), "c")] {
        put(&store, new(&person, token, &["*"])).await?;
        store.create_session(&person, 1000).await?;
    }
    store.beat_push_node().await?;
    ensure!(store.take_leases(&[joe(), ann()]).await?.len() == 2);
    test.execute("UPDATE push_subscription SET wishes = 'no JSON' WHERE user_name = '12'")?;
    ensure!(store.subscriptions_of(&[joe(), ann()]).await?.len() == 2);
    ensure!(store.unreadable_push_rows() == 1);
    for table in ["push_session", "push_subscription", "push_lease"] {
        test.execute(&format!(
            "UPDATE {table} SET login = '' WHERE user_name = '12'"
        ))?;
    }
    ensure!(store.persons_with_sessions().await? == [joe()]);
    ensure!(store.new_mail_clients().await?.len() == 1);
    ensure!(store.leased().await?.len() == 1);
    ensure!(store.unreadable_push_rows() == 4);
    // What an older version has written, and cannot be read.
    test.execute("UPDATE push_subscription SET new_mail = -1")?;
    ensure!(store.push_clients().await?.len() == 1);
    ensure!(store.unreadable_push_rows() == 6);
    Ok(())
}

async fn credentials_stay_as_long_as_a_session_or_a_subscription_needs_them(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let passcrypt = Passcrypt::of("passphrase");
    let credentials = MailboxCredentials {
        login: "11@3".to_owned(),
        password: "geheim".to_owned(),
    };
    let id = put(&store, new(&joe(), "t", &["*"])).await?;
    let id = id.record.subscription.id;
    store.create_session(&joe(), 1000).await?;
    for person in [joe(), ann()] {
        store
            .keep_credentials(&person, &credentials, &passcrypt)
            .await?;
    }
    ensure!(!store.forget_unneeded_credentials(&joe()).await?);
    ensure!(store.delete_subscription(&joe(), id).await?);
    ensure!(!store.forget_unneeded_credentials(&joe()).await?);
    // The session is over, but they are so new that they may be those of a session that begins.
    test.clock.pass(1000);
    ensure!(!store.forget_unneeded_credentials(&joe()).await?);
    test.clock.pass(MINUTE_MS - 1000);
    ensure!(store.forget_unneeded_credentials(&joe()).await?);
    ensure!(!store.forget_unneeded_credentials(&joe()).await?);
    ensure!(store.known_credentials().await?.len() == 1);
    Ok(())
}

async fn what_is_known_of_mailboxes_goes_with_sessions_and_subscriptions(test: Test) -> Result<()> {
    let store = test.open().await?;
    keep_password(&store).await?;
    ensure!(store.put_heard(&lease(2), "two").await?);
    // A node that hangs and comes back writes nothing.
    ensure!(!store.put_heard(&lease(1), "one").await?);
    ensure!(store.heard(&joe()).await?.as_deref() == Some("two"));
    // Nor does it take anything away.
    store.forget_heard(&lease(1)).await?;
    ensure!(store.heard(&joe()).await?.as_deref() == Some("two"));
    ensure!(store.heard(&ann()).await?.is_none());
    let session = store.create_session(&joe(), 1000).await?;
    ensure!(store.forget_unheard().await? == 0);
    let id = put(&store, new(&joe(), "t", &["*"])).await?;
    let id = id.record.subscription.id;
    ensure!(store.delete_session(&session.secret).await?);
    ensure!(store.forget_unheard().await? == 0);
    ensure!(store.delete_subscription(&joe(), id).await?);
    // Credentials that are so new may be those of a session that begins.
    ensure!(store.forget_unheard().await? == 1);
    ensure!(store.heard(&joe()).await?.is_none() && store.known_credentials().await?.len() == 1);
    test.clock.pass(MINUTE_MS);
    ensure!(store.forget_unheard().await? == 1);
    ensure!(store.heard(&joe()).await?.is_none() && store.known_credentials().await?.is_empty());
    Ok(())
}
