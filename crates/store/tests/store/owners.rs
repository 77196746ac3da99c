//! Applications of tokens, how long tokens are good, and when they were used.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use dovecast_store::{
    NewToken, Registration, Scope, ShownToken, Store, StoreError, TokenEdit, TokenGrant, TokenOwner,
};

use crate::cuts::until;
use crate::setup::{Test, cases, mail};
use crate::tokens::owner;
use crate::upgrade::restore;

cases![
    an_application_is_the_tokens_that_has_registered_it_first,
    an_application_of_the_operator_is_no_tokens_until_it_is_given,
    a_token_removes_its_own_applications_only,
    applications_of_before_are_the_only_tokens,
    of_several_tokens_of_before_the_first_that_registers_has_an_application,
    an_application_that_is_given_to_a_token_is_no_candidates_any_more,
    a_token_has_a_bounded_number_of_applications,
    the_applications_of_a_token_have_so_many_event_types_and_levels_together,
    a_token_that_sends_knows_its_applications,
    a_token_is_good_until_its_time_is_over,
    when_a_token_was_used_is_written_once_a_minute,
];

fn application(name: &str) -> Registration {
    let mut wanted = mail(&[("new", &["low"])]);
    name.clone_into(&mut wanted.name);
    wanted
}

fn grant(scope: Scope, applications: &[&str]) -> TokenGrant {
    TokenGrant {
        applications: applications.iter().map(|name| (*name).to_owned()).collect(),
        ..scope.into()
    }
}

fn edit(applications: &[&str]) -> TokenEdit {
    TokenEdit {
        applications: Some(grant(Scope::Registration, applications).applications),
        ..TokenEdit::default()
    }
}

async fn registrar(store: &Store) -> Result<NewToken> {
    Ok(store.create_token("app", Scope::Registration).await?)
}

/// Whether a token may register an application, and has done so.
async fn registers(store: &Store, token: &NewToken, name: &str) -> Result<bool> {
    let wanted = application(name);
    let registered = store.register_with(token.token.id, &wanted, false);
    match registered.await {
        Ok(_) => Ok(true),
        Err(StoreError::OthersApplication(of)) if of == name => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn applications(store: &Store, token: &NewToken) -> Result<Vec<String>> {
    let token = store.token(token.token.id).await?;
    Ok(token.context("it is gone")?.applications)
}

async fn an_application_is_the_tokens_that_has_registered_it_first(test: Test) -> Result<()> {
    let store = test.open().await?;
    let (a, b) = (registrar(&store).await?, registrar(&store).await?);
    // What is only tried belongs to nobody.
    store
        .register_with(b.token.id, &application("billing"), true)
        .await?;
    ensure!(registers(&store, &a, "billing").await?);
    ensure!(registers(&store, &a, "billing").await?);
    ensure!(!registers(&store, &b, "billing").await?);
    let wanted = application("billing");
    let tried = store.register_with(b.token.id, &wanted, true);
    ensure!(matches!(tried.await, Err(StoreError::OthersApplication(_))));
    ensure!(applications(&store, &a).await? == ["billing"]);
    ensure!(applications(&store, &b).await?.is_empty());
    // Nor is it another's when its owner is gone.
    ensure!(store.delete_token(a.token.id).await?);
    ensure!(!registers(&store, &b, "billing").await?);
    ensure!(store.edit_token(b.token.id, &edit(&["billing"])).await?);
    ensure!(registers(&store, &b, "billing").await?);
    ensure!(!registers(&store, &a, "more").await?, "it was deleted");
    Ok(())
}

async fn an_application_of_the_operator_is_no_tokens_until_it_is_given(test: Test) -> Result<()> {
    let store = test.open().await?;
    let token = registrar(&store).await?;
    store.register(&application("own"), false).await?;
    ensure!(!registers(&store, &token, "own").await?);
    let given = store.create_token("given", grant(Scope::Registration, &["own", "later"]));
    let given = given.await?;
    ensure!(given.token.applications == ["later", "own"]);
    ensure!(registers(&store, &given, "own").await?);
    // What is given is taken, whether it is registered or not.
    ensure!(!registers(&store, &token, "later").await?);
    ensure!(store.edit_token(given.token.id, &edit(&[])).await?);
    ensure!(!registers(&store, &given, "own").await?);
    Ok(())
}

async fn a_token_removes_its_own_applications_only(test: Test) -> Result<()> {
    let store = test.open().await?;
    let (a, b) = (registrar(&store).await?, registrar(&store).await?);
    ensure!(registers(&store, &a, "billing").await?);
    let found = store.application_named("billing").await?;
    let id = found.context("it is not there")?.id;
    let refused = store.delete_application_with(b.token.id, id).await;
    ensure!(matches!(refused, Err(StoreError::OthersApplication(_))));
    ensure!(store.delete_application_with(a.token.id, id).await?);
    ensure!(!store.delete_application_with(a.token.id, id).await?);
    // It stays the name of whoever has had it.
    ensure!(!registers(&store, &b, "billing").await?);
    ensure!(registers(&store, &a, "billing").await?);
    Ok(())
}

/// Fills a database of an earlier version: tokens that register, and the application `billing`.
fn earlier(test: &Test, tokens: &[u128]) -> Result<()> {
    restore(test)?;
    test.execute("INSERT INTO application VALUES ('01a215c2-0000-7000-8000-000000000001', 'billing', 'Billing', 1, 1)")?;
    for number in tokens {
        let id = uuid::Uuid::from_u128(*number);
        test.execute(&format!(
            "INSERT INTO api_token VALUES ('{id}', 'hash {number}', 'registration', NULL, 'team', 'abcd', 1)"
        ))?;
    }
    Ok(())
}

async fn applications_of_before_are_the_only_tokens(test: Test) -> Result<()> {
    earlier(&test, &[1])?;
    let store = test.open().await?;
    let tokens = store.tokens().await?;
    let token = tokens.iter().find(|token| token.name == "team");
    let token = token.context("it is gone")?;
    // `dovecot` and `dovecast` are nobody's.
    ensure!(token.applications == ["billing"], "{token:?}");
    let new = registrar(&store).await?;
    ensure!(!registers(&store, &new, "billing").await?);
    let wanted = application("billing");
    let by = store.register_with(token.id, &wanted, false);
    by.await?;
    Ok(())
}

async fn of_several_tokens_of_before_the_first_that_registers_has_an_application(
    test: Test,
) -> Result<()> {
    earlier(&test, &[1, 2])?;
    let store = test.open().await?;
    let tokens = store.tokens().await?;
    let teams: Vec<_> = tokens
        .iter()
        .filter(|token| token.name == "team")
        .map(|token| token.id)
        .collect();
    let new = registrar(&store).await?;
    ensure!(!registers(&store, &new, "billing").await?);
    let found = store.application_named("billing").await?;
    let id = found.context("it is not there")?.id;
    let refused = store.delete_application_with(teams[0], id).await;
    ensure!(matches!(refused, Err(StoreError::OthersApplication(_))));
    let by = |token| {
        let store = store.clone();
        async move {
            store
                .register_with(token, &application("billing"), false)
                .await
        }
    };
    by(teams[1]).await?;
    ensure!(matches!(
        by(teams[0]).await,
        Err(StoreError::OthersApplication(_))
    ));
    ensure!(store.delete_application_with(teams[1], id).await?);
    Ok(())
}

async fn an_application_that_is_given_to_a_token_is_no_candidates_any_more(
    test: Test,
) -> Result<()> {
    earlier(&test, &[1, 2])?;
    let store = test.open().await?;
    let tokens = store.tokens().await?;
    let teams = tokens.iter().filter(|token| token.name == "team");
    let teams: Vec<_> = teams.map(|token| token.id).collect();
    ensure!(
        store
            .edit_token(teams[0], &edit(&["billing", "more"]))
            .await?
    );
    let wanted = application("billing");
    let refused = store.register_with(teams[1], &wanted, false).await;
    ensure!(matches!(refused, Err(StoreError::OthersApplication(_))));
    store.register_with(teams[0], &wanted, false).await?;
    Ok(())
}

async fn a_token_has_a_bounded_number_of_applications(test: Test) -> Result<()> {
    let store = test.open().await?;
    let names: BTreeSet<String> = (0..dovecast_store::MAX_APPLICATIONS)
        .map(|number| number.to_string())
        .collect();
    let mut full = TokenGrant::from(Scope::Registration);
    full.applications = names;
    let before = store.statements();
    let token = store.create_token("full", full.clone()).await?;
    let sent = store.statements() - before;
    ensure!(sent < 50, "{sent} statements");
    let mut names = applications(&store, &token).await?;
    names.sort();
    ensure!(names.iter().eq(&full.applications), "{names:?}");
    full.applications.insert("more".to_owned());
    let refused = store.create_token("more than full", full).await;
    ensure!(
        matches!(refused, Err(StoreError::TooManyApplications(_))),
        "it has {names:?}"
    );
    let wanted = application("more");
    let more = store.register_with(token.token.id, &wanted, false);
    let refused = more.await;
    ensure!(
        matches!(refused, Err(StoreError::TooManyApplications(_))),
        "{refused:?}"
    );
    ensure!(store.application_named("more").await?.is_none());
    Ok(())
}

async fn the_applications_of_a_token_have_so_many_event_types_and_levels_together(
    test: Test,
) -> Result<()> {
    let store = test.open().await?;
    let (team, other) = (registrar(&store).await?, registrar(&store).await?);
    ensure!(registers(&store, &team, "first").await?);
    // Each application has two; there is room for one more then.
    let most = dovecast_store::MAX_REGISTERED - 4;
    test.execute(&format!(
        "WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {most}) \
         INSERT INTO event_type (id, application_id, external_id, title, position) \
         SELECT 'of-' || CAST(value AS VARCHAR(9)), (SELECT id FROM application WHERE name = 'first'), \
         'of-' || CAST(value AS VARCHAR(9)), 'more', value FROM n"
    ))?;
    ensure!(registers(&store, &team, "second").await?);
    for is_asked_only in [true, false] {
        let more = application("third");
        let refused = store.register_with(team.token.id, &more, is_asked_only);
        let refused = refused.await;
        ensure!(
            matches!(refused, Err(StoreError::TooManyRegistered(_))),
            "{refused:?}"
        );
    }
    ensure!(store.application_named("third").await?.is_none());
    // What is there may be registered again, and the others have their own.
    ensure!(registers(&store, &team, "second").await?);
    ensure!(registers(&store, &other, "fourth").await?);
    store.register(&application("fifth"), false).await?;
    Ok(())
}

async fn a_token_that_sends_knows_its_applications(test: Test) -> Result<()> {
    let store = test.open().await?;
    let token = store.create_token("send", grant(Scope::Send, &["b", "a"]));
    let token = token.await?;
    let names = ["a".to_owned(), "b".to_owned()];
    let expected = TokenOwner::Applications(names.into());
    ensure!(owner(&store, &token.secret).await? == Some(expected));
    // It owns none of them: who registers `a` is somebody else.
    let team = registrar(&store).await?;
    ensure!(registers(&store, &team, "a").await?);
    ensure!(store.edit_token(token.token.id, &edit(&["c"])).await?);
    let expected = TokenOwner::Applications(["c".to_owned()].into());
    ensure!(owner(&store, &token.secret).await? == Some(expected));
    ensure!(applications(&store, &token).await? == ["c"]);
    Ok(())
}

async fn a_token_is_good_until_its_time_is_over(test: Test) -> Result<()> {
    let store = test.open().await?;
    let mut short = TokenGrant::from(Scope::Admin);
    short.expires_ms = Some(1_000);
    let token = store.create_token("short", short).await?;
    ensure!(owner(&store, &token.secret).await? == Some(TokenOwner::Admin));
    test.clock.pass(1_000);
    // Also while it is remembered.
    let shown = store.token_owner(&token.secret).await?;
    ensure!(shown == ShownToken::Expired, "{shown:?}");
    // Nobody could come in any more.
    let made = store.first_admin_token("start", |_| Ok(())).await?;
    ensure!(made.is_some());
    let longer = TokenEdit {
        expires_ms: Some(None),
        ..TokenEdit::default()
    };
    ensure!(store.edit_token(token.token.id, &longer).await?);
    ensure!(owner(&store, &token.secret).await? == Some(TokenOwner::Admin));
    Ok(())
}

async fn when_a_token_was_used_is_written_once_a_minute(test: Test) -> Result<()> {
    let store = test.open().await?;
    test.clock.pass(10_000_000);
    let token = store.create_token("ci", Scope::Admin).await?;
    let id = token.token.id;
    let used = |store: &Store| {
        let store = store.clone();
        async move {
            let token = store.token(id).await?;
            Ok::<_, anyhow::Error>(token.context("it is gone")?.last_used_ms)
        }
    };
    ensure!(used(&store).await?.is_none());
    ensure!(owner(&store, &token.secret).await?.is_some());
    let written = |expected: i64| {
        let condition = format!("api_token WHERE last_used_ms = {expected}");
        let test = &test;
        until(move || Ok((test.count(&condition)? == 1).then_some(())))
    };
    written(10_000_000).await?;
    // Another node finds that it is written, and writes when a minute has passed; a clock that was
    // set back by hours does not stop it.
    test.clock.pass(59_999);
    let there = test.open().await?;
    ensure!(owner(&there, &token.secret).await?.is_some());
    ensure!(used(&there).await? == Some(10_000_000));
    test.clock.pass(2);
    let later = test.open().await?;
    ensure!(owner(&later, &token.secret).await?.is_some());
    written(10_060_001).await?;
    test.clock.set(-9_000_000);
    let back = test.open().await?;
    ensure!(owner(&back, &token.secret).await?.is_some());
    written(1_060_001).await?;
    Ok(())
}
