//! What is secret of an endpoint, where it is not shown: in URLs, in errors, in text for
//! developers.

use anyhow::{Context, Result, ensure};
use dovecast_store::{EndpointEdit, NewEndpoint, Receiver, StoreError};

use crate::cleaning::signing_secrets;
use crate::secrets::{SECRETS, expected, list, make, opened, secretive};
use crate::setup::{Test, cases, endpoint};
use crate::upgrade::restore;

cases![
    what_stands_for_a_user_is_not_taken_for_one,
    a_row_that_cannot_be_sealed_is_named,
    no_text_for_developers_shows_a_password,
];

async fn what_stands_for_a_user_is_not_taken_for_one(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let (signing, found) = make(&store, &account, &secretive("a")).await?;
    let id = store.endpoints(account.id, &list()).await?.items[0].id;
    let edit = |url: &str| EndpointEdit {
        receiver: Some(Receiver::Webhook(url.to_owned())),
        active: Some(false),
        ..EndpointEdit::default()
    };
    // As it is shown.
    let shown = "https://***@example.org/a";
    let edited = store.edit_endpoint(account.id, id, &edit(shown)).await?;
    ensure!(edited.url.as_deref() == Some(shown), "{edited:?}");
    let kept = opened(&store.load_endpoints(&[id]).await?[0])?;
    ensure!(kept["url"] == found["url"], "{kept}");
    ensure!(!edited.active);
    for url in [
        "https://***@example.org/b",
        "https://***:x@example.org/a",
        "https://%2A**@example.org/a",
    ] {
        let refused = store.edit_endpoint(account.id, id, &edit(url)).await;
        let is_refused = matches!(refused, Err(StoreError::HiddenUser));
        ensure!(is_refused != url.contains("%2A"), "{url}: {refused:?}");
    }
    let new = NewEndpoint {
        receiver: Receiver::Webhook("https://***@example.org/".to_owned()),
        ..endpoint("new")
    };
    let refused = store.create_endpoint(account.id, &new, u64::MAX).await;
    ensure!(
        matches!(refused, Err(StoreError::HiddenUser)),
        "{refused:?}"
    );
    let back = edit(found["url"].as_str().context("a URL")?);
    store.edit_endpoint(account.id, id, &back).await?;
    let loaded = store.load_endpoints(&[id]).await?;
    let now = opened(&loaded[0])?;
    ensure!(now == expected("a", &[&signing]), "{now}");
    Ok(())
}

async fn a_row_that_cannot_be_sealed_is_named(test: Test) -> Result<()> {
    restore(&test)?;
    let rows = signing_secrets(&test)?;
    let (id, _) = rows[1].split_once('|').context("two columns")?;
    for column in ["headers", "credentials"] {
        test.execute(&format!(
            "UPDATE endpoint SET headers = NULL, credentials = NULL; UPDATE endpoint SET {column} = '[\"geheim' WHERE id = '{id}'"
        ))?;
        let error = test.open().await.err().context("it starts")?;
        let said = format!("{error:#}");
        ensure!(said.contains(id) && said.contains(column), "{said}");
        ensure!(!said.contains("geheim"), "{said}");
    }
    Ok(())
}

async fn no_text_for_developers_shows_a_password(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let new = secretive("a");
    let made = store.create_endpoint(account.id, &new, u64::MAX).await?;
    let records = store.load_endpoints(&[made.endpoint.id]).await?;
    let edit = EndpointEdit {
        receiver: Some(new.receiver.clone()),
        headers: Some(new.headers.clone()),
        credentials: Some(new.credentials.clone()),
        ..EndpointEdit::default()
    };
    let signing = made.secret.as_ref().context("a secret")?.expose();
    for text in [
        format!("{new:?}"),
        format!("{edit:?}"),
        format!("{made:?}"),
        format!("{records:?}"),
    ] {
        ensure!(text.contains("example.org"), "{text}");
        for secret in SECRETS.iter().chain([&signing]) {
            ensure!(!text.contains(*secret), "{secret}: {text}");
        }
    }
    Ok(())
}
