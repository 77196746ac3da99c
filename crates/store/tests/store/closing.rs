//! Accounts that are listed, closed and opened again.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use dovecast_dispatch::ledger::{Happened, Ledger};
use dovecast_mail_push::Person;
use dovecast_store::{ClosedAccount, Profile, Scope, StoreError};
use uuid::Uuid;

use crate::deletion::{busy, left};
use crate::push::{self, joe, put};
use crate::setup::{self, Test, cases, create};
use crate::tokens::owner;

cases![
    a_closed_account_is_left_with_nothing_and_nobody_acts_for_it,
    persons_of_a_closed_account_have_nothing_any_more,
    drivers_of_the_configuration_have_an_account_whatever_was_done_to_it,
    an_account_of_many_endpoints_is_closed_in_steps,
    an_account_whose_closing_was_interrupted_is_closed_again,
    a_closing_that_was_interrupted_is_finished_and_no_other_account_is_touched,
    who_closes_an_account_has_nothing_delivered_any_more_by_the_first_transaction,
    accounts_are_listed_with_what_they_have,
];

async fn a_closed_account_is_left_with_nothing_and_nobody_acts_for_it(test: Test) -> Result<()> {
    let store = test.open().await?;
    let (gone, endpoint) = busy(&store, "gone").await?;
    let (_, other) = busy(&store, "other").await?;
    let scope = || Scope::Account("gone".to_owned());
    let token = store.create_token("more", scope()).await?;
    ensure!(owner(&store, &token.secret).await?.is_some());
    let closed = store.close_account("gone").await?;
    let expected = ClosedAccount {
        endpoints: 1,
        tokens: 2,
    };
    ensure!(closed == Some(expected), "{closed:?}");
    ensure!(owner(&store, &token.secret).await?.is_none());
    ensure!(left(&store, endpoint).await? == [0; 4]);
    ensure!(left(&store, other).await? == [1; 4]);
    ensure!(test.count("account_user")? == 1);
    let seen = store.account_seen("gone").await;
    ensure!(matches!(seen, Err(StoreError::AccountClosed)), "{seen:?}");
    let made = store.create_token("late", scope()).await.err();
    ensure!(matches!(made, Some(StoreError::AccountClosed)), "{made:?}");
    // A request that was let in before.
    let made = create(&store, &gone, "late", None).await;
    let is_closed = made.is_err_and(|error| error.to_string().contains("is closed"));
    ensure!(is_closed, "an endpoint is made");
    ensure!(store.close_account("nobody").await?.is_none());
    ensure!(store.reopen_account("gone").await? && !store.reopen_account("nobody").await?);
    ensure!(store.account_seen("gone").await? == gone);
    create(&store, &gone, "again", None).await?;
    // What the dead letters of both are of goes with the last one.
    ensure!(test.count("dead_body")? == 1);
    store.close_account("other").await?;
    ensure!(test.count("dead_body")? == 0, "a body is left");
    Ok(())
}

async fn persons_of_a_closed_account_have_nothing_any_more(test: Test) -> Result<()> {
    let store = test.open().await?;
    store.account_seen("3").await?;
    let other = Person::new("4", "11", "11@4").expect("a person");
    for person in [&joe(), &other] {
        let token = format!("token of {person}");
        put(&store, push::new(person, &token, &["*"])).await?;
        store.create_session(person, 60_000).await?;
        store
            .create_token("t", Scope::Person(person.clone()))
            .await?;
    }
    store.beat_push_node().await?;
    store.take_leases(&[joe(), other.clone()]).await?;
    ensure!(!store.is_closed("3").await?);
    store.close_account("3").await?;
    ensure!(test.count("push_lease")? == 1);
    ensure!(store.is_closed("3").await? && !store.is_closed("4").await?);
    ensure!(store.subscriptions(&joe()).await?.is_empty());
    ensure!(store.subscriptions(&other).await?.len() == 1);
    ensure!(test.count("push_session")? == 1 && test.count("api_token")? == 1);
    // What came in just then.
    put(&store, push::new(&joe(), "late", &["*"])).await?;
    ensure!(store.finish_closings().await? == 1 && store.finish_closings().await? == 0);
    ensure!(store.subscriptions(&joe()).await?.is_empty());
    Ok(())
}

async fn drivers_of_the_configuration_have_an_account_whatever_was_done_to_it(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let made = store.configured_endpoints(&["ox"]).await?;
    test.execute("UPDATE account SET closed_ms = 5")?;
    ensure!(store.configured_endpoints(&["ox"]).await? == made);
    ensure!(store.finish_closings().await? == 0);
    Ok(())
}

async fn an_account_of_many_endpoints_is_closed_in_steps(test: Test) -> Result<()> {
    let store = test.open().await?;
    let account = store.account_seen("7").await?;
    let mut ids = HashSet::new();
    for number in 0..201 {
        let made = create(&store, &account, &number.to_string(), None).await?;
        ids.insert(made.endpoint.id);
    }
    let first = ids.iter().next().copied().context("no endpoint")?;
    let owed: Vec<_> = (0..5_001)
        .map(|number| {
            let mut owed = setup::owed(first, 0);
            owed.notification.0 = Uuid::from_u128(number);
            Happened::Owed(owed)
        })
        .collect();
    store.record(&owed).await?;
    let seq = store.last_change().await?;
    let closed = store.close_account("7").await?.context("there is none")?;
    ensure!(closed.endpoints == 201, "{closed:?}");
    ensure!(test.count("endpoint")? == 0 && test.count("owed")? == 0);
    // The mark, then each hundred: no change holds the others up for all of it.
    let changes = store.last_change().await? - seq;
    ensure!(changes == 4, "{changes} changes");
    Ok(())
}

async fn an_account_whose_closing_was_interrupted_is_closed_again(test: Test) -> Result<()> {
    let store = test.open().await?;
    let (_, endpoint) = busy(&store, "gone").await?;
    test.execute("UPDATE account SET closed_ms = 5; DELETE FROM api_token")?;
    let closed = store.close_account("gone").await?;
    ensure!(
        closed.is_some_and(|closed| closed.endpoints == 1),
        "{closed:?}"
    );
    ensure!(left(&store, endpoint).await? == [0; 4]);
    let record = store.account_record("gone").await?.context("it is gone")?;
    ensure!(record.closed_ms == Some(5), "{record:?}");
    Ok(())
}

async fn a_closing_that_was_interrupted_is_finished_and_no_other_account_is_touched(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let (_, endpoint) = busy(&store, "gone").await?;
    let (_, other) = busy(&store, "other").await?;
    store.account_seen("empty").await?;
    store.close_account("empty").await?;
    ensure!(store.finish_closings().await? == 0);
    test.execute("UPDATE account SET closed_ms = 5 WHERE number = 'gone'")?;
    drop(store);
    let store = test.open().await?;
    ensure!(store.finish_closings().await? == 1);
    ensure!(left(&store, endpoint).await? == [0; 4]);
    ensure!(left(&store, other).await? == [1; 4]);
    let record = store.account_record("gone").await?.context("it is gone")?;
    let left = (record.closed_ms, record.endpoints, record.users);
    ensure!(left == (Some(5), 0, 0), "{left:?}");
    ensure!(store.finish_closings().await? == 0, "it is done");
    Ok(())
}

async fn who_closes_an_account_has_nothing_delivered_any_more_by_the_first_transaction(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let account = store.account_seen("7").await?;
    for number in 0..101 {
        create(&store, &account, &number.to_string(), None).await?;
    }
    // What comes behind the first transaction fails.
    test.execute("ALTER TABLE dead_letter RENAME TO away")?;
    let failed = store.close_account("7").await;
    ensure!(failed.is_err(), "{failed:?}");
    let record = store.account_record("7").await?.context("it is gone")?;
    ensure!(record.closed_ms.is_some() && record.endpoints == 101);
    ensure!(test.count("endpoint WHERE active <> 0")? == 0);
    test.execute("ALTER TABLE away RENAME TO dead_letter")?;
    ensure!(store.finish_closings().await? == 1);
    ensure!(test.count("endpoint")? == 0);
    Ok(())
}

async fn accounts_are_listed_with_what_they_have(test: Test) -> Result<()> {
    let store = test.open().await?;
    busy(&store, "b").await?;
    let (a, _) = busy(&store, "a").await?;
    let profile = Profile {
        username: "jane".to_owned(),
        ..Profile::default()
    };
    store.user_seen(a.id, &profile).await?;
    store.account_seen("c").await?;
    store.close_account("c").await?;
    let page = store.accounts(2, 1).await?;
    ensure!(page.total == 3);
    let shown: Vec<_> = page
        .items
        .iter()
        .map(|one| (&*one.number, one.endpoints, one.tokens, one.users))
        .collect();
    ensure!(shown == [("a", 1, 1, 2), ("c", 0, 0, 0)], "{shown:?}");
    ensure!(page.items[0].closed_ms.is_none() && page.items[1].closed_ms.is_some());
    ensure!(store.account_record("a").await?.as_ref() == page.items.first());
    ensure!(store.account_record("nobody").await?.is_none());
    let tokens = store.tokens_of(a.id).await?;
    ensure!(tokens.len() == 1 && tokens[0].scope == Scope::Account("a".to_owned()));
    Ok(())
}
