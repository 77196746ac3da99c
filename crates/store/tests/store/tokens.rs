//! Accounts, users and API tokens.

use std::io;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_store::{
    MAX_ACCOUNT_TOKENS, NewToken, Profile, Scope, ShownToken, Store, StoreError, TokenOwner,
};

use crate::setup::{Test, cases, soon};

cases![
    accounts_and_users_are_made_once_whoever_asks,
    a_token_stands_for_its_scope_until_it_is_deleted,
    a_token_that_another_node_deletes_is_good_for_a_moment_only,
    only_the_hash_of_a_token_is_kept,
    an_account_has_a_bounded_number_of_tokens,
    the_first_admin_token_is_made_once,
    a_first_admin_token_that_cannot_be_shown_is_not_kept,
];

/// Who a token stands for, if it is good.
pub(crate) async fn owner(store: &Store, secret: &str) -> Result<Option<TokenOwner>> {
    match store.token_owner(secret).await? {
        ShownToken::Good { owner, .. } => Ok(Some(owner)),
        ShownToken::Unknown | ShownToken::Expired => Ok(None),
    }
}

async fn accounts_and_users_are_made_once_whoever_asks(test: Test) -> Result<()> {
    let store = test.open().await?;
    let asking: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let account = store.account_seen("1").await?;
                let profile = Profile {
                    username: "joe".to_owned(),
                    is_active: true,
                    ..Profile::default()
                };
                Ok::<_, dovecast_store::StoreError>((
                    account.id,
                    store.user_seen(account.id, &profile).await?,
                ))
            })
        })
        .collect();
    let mut seen = Vec::new();
    for one in asking {
        seen.push(one.await??);
    }
    ensure!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    let other = store.account_seen("2").await?;
    ensure!(other.id != seen[0].0);
    Ok(())
}

async fn a_token_stands_for_its_scope_until_it_is_deleted(test: Test) -> Result<()> {
    let store = test.open().await?;
    let account = store
        .create_token("ci", Scope::Account("7".to_owned()))
        .await?;
    let registration = store.create_token("app", Scope::Registration).await?;
    let listed = store.tokens().await?;
    ensure!(
        listed == [account.token.clone(), registration.token.clone()],
        "{listed:?}"
    );
    let expected = TokenOwner::Account(store.account_seen("7").await?);
    ensure!(owner(&store, &account.secret).await? == Some(expected));
    ensure!(owner(&store, &registration.secret).await? == Some(TokenOwner::Registration));
    ensure!(owner(&store, "dct_other").await?.is_none());
    ensure!(account.secret.ends_with(&account.token.last_four));
    ensure!(store.delete_token(account.token.id).await?);
    ensure!(!store.delete_token(account.token.id).await?);
    ensure!(owner(&store, &account.secret).await?.is_none());
    Ok(())
}

async fn a_token_that_another_node_deletes_is_good_for_a_moment_only(test: Test) -> Result<()> {
    let (here, there) = (test.open().await?, test.open().await?);
    let token = here.create_token("ci", Scope::Admin).await?;
    ensure!(owner(&there, &token.secret).await? == Some(TokenOwner::Admin));
    ensure!(here.delete_token(token.token.id).await?);
    ensure!(owner(&here, &token.secret).await?.is_none());
    let refused = async {
        while owner(&there, &token.secret).await?.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    soon(refused).await?
}

async fn only_the_hash_of_a_token_is_kept(test: Test) -> Result<()> {
    let store = test.open().await?;
    let token = store.create_token("ci", Scope::Admin).await?;
    let kept = test.dump("api_token")?;
    ensure!(kept.contains(&token.token.last_four), "{kept}");
    ensure!(!kept.contains(&token.secret[4..20]), "{kept}");
    Ok(())
}

async fn the_first_admin_token_is_made_once(test: Test) -> Result<()> {
    let store = test.open().await?;
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.first_admin_token("first start", |_| Ok(())).await })
        })
        .collect();
    let mut made = Vec::new();
    for one in asking {
        made.extend(one.await??.transpose()?);
    }
    ensure!(made.len() == 1, "{} tokens", made.len());
    ensure!(owner(&store, &made[0].secret).await? == Some(TokenOwner::Admin));
    Ok(())
}

async fn a_first_admin_token_that_cannot_be_shown_is_not_kept(test: Test) -> Result<()> {
    let store = test.open().await?;
    let mut burned = String::new();
    let refused = |made: &NewToken| {
        burned.clone_from(&made.secret);
        Err(io::ErrorKind::StorageFull.into())
    };
    let made = store.first_admin_token("first start", refused).await?;
    ensure!(matches!(made, Some(Err(_))), "it was shown");
    ensure!(owner(&store, &burned).await?.is_none(), "it is good");
    ensure!(store.tokens().await?.is_empty(), "it is kept");
    let made = store.first_admin_token("first start", |_| Ok(())).await?;
    let made = made.context("none is made")??;
    ensure!(owner(&store, &made.secret).await? == Some(TokenOwner::Admin));
    let made = store.first_admin_token("first start", |_| Ok(())).await?;
    ensure!(made.is_none(), "there are two");
    Ok(())
}

async fn an_account_has_a_bounded_number_of_tokens(test: Test) -> Result<()> {
    let store = test.open().await?;
    let make = |number: &str| store.create_token("t", Scope::Account(number.to_owned()));
    let first = make("7").await?;
    let more = MAX_ACCOUNT_TOKENS - 2;
    test.execute(&format!(
        "WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {more}) \
         INSERT INTO api_token (id, hash, scope, account_id, name, last_four, created_ms) \
         SELECT 'of-' || CAST(value AS VARCHAR(9)), 'of-' || CAST(value AS VARCHAR(9)), 'account', \
         (SELECT id FROM account WHERE number = '7'), 't', 'last', value FROM n"
    ))?;
    make("7").await?;
    let refused = make("7").await;
    ensure!(matches!(
        refused,
        Err(StoreError::TooManyTokens(MAX_ACCOUNT_TOKENS))
    ));
    // Others have their own, and what is deleted makes room.
    make("8").await?;
    store.create_token("t", Scope::Send).await?;
    ensure!(store.delete_token(first.token.id).await?);
    make("7").await?;
    Ok(())
}
