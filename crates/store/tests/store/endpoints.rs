//! Endpoints: names, lists, secrets, what deliveries leave on them.

use anyhow::{Context, Result, anyhow, ensure};
use dovecast_store::{
    Credentials, CustomHeaders, Delivered, DeliveryStatus, EndpointEdit, EndpointKind,
    EndpointOrder, EndpointQuery, EndpointRecord, Receiver, RetryPolicy, Search, StoreError,
};

use serde_json::{Value, json};

use crate::setup::{Test, cases, create, endpoint};

cases![
    a_name_is_unique_in_its_account,
    an_edit_changes_what_it_names_and_nothing_else,
    what_requests_carry_is_kept_until_it_is_removed_and_not_shown,
    credentials_and_a_header_of_them_are_not_kept_together,
    what_belongs_to_another_account_is_not_there,
    a_list_is_searched_sorted_and_cut,
    a_search_is_literal_and_blind_to_case,
    a_secret_is_replaced_and_the_old_one_stays_for_a_while,
    all_secrets_within_their_time_sign_and_no_more_than_there_may_be,
    the_newest_attempt_is_shown_and_the_first_failure_of_a_row,
];

fn query(search: Search) -> EndpointQuery {
    EndpointQuery {
        search,
        order: EndpointOrder::Name,
        descending: false,
        limit: 10,
        offset: 0,
    }
}

async fn a_name_is_unique_in_its_account(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let first = create(&store, &account, "a", None).await?;
    let other = store.account_seen("other").await?;
    create(&store, &other, "a", None).await?;
    let taken = store
        .create_endpoint(account.id, &endpoint("a"), u64::MAX)
        .await;
    ensure!(matches!(taken, Err(StoreError::NameTaken(_))), "{taken:?}");
    create(&store, &account, "b", None).await?;
    let rename = |name: &str| EndpointEdit {
        name: Some(name.to_owned()),
        ..EndpointEdit::default()
    };
    let id = first.endpoint.id;
    store.edit_endpoint(account.id, id, &rename("a")).await?;
    let taken = store.edit_endpoint(account.id, id, &rename("b")).await;
    ensure!(matches!(taken, Err(StoreError::NameTaken(_))), "{taken:?}");
    ensure!(store.is_name_taken(account.id, "b", Some(id)).await?);
    ensure!(!store.is_name_taken(account.id, "a", Some(id)).await?);
    Ok(())
}

async fn an_edit_changes_what_it_names_and_nothing_else(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let before = create(&store, &account, "a", None).await?.endpoint;
    let edit = EndpointEdit {
        receiver: Some(Receiver::Webhook("http://example.org/".to_owned())),
        active: Some(false),
        server_ca_certificate: Some(Some("PEM".to_owned())),
        retry_policy: Some(RetryPolicy::Hooks),
        ..EndpointEdit::default()
    };
    let after = store.edit_endpoint(account.id, before.id, &edit).await?;
    ensure!((after.name == "a", after.kind) == (true, Some(EndpointKind::Http)));
    ensure!(!after.active && after.retry_policy == RetryPolicy::Hooks);
    let certificate = async || -> Result<Option<String>> {
        let found = store.load_endpoints(&[before.id]).await?.pop();
        let found = found.context("it is gone")?;
        let pem = found.endpoint.settings.get("server_ca_certificate");
        Ok(pem.and_then(Value::as_str).map(str::to_owned))
    };
    ensure!(certificate().await?.as_deref() == Some("PEM"));
    let same = store
        .edit_endpoint(account.id, before.id, &EndpointEdit::default())
        .await?;
    ensure!(certificate().await?.as_deref() == Some("PEM") && same.url == after.url);
    let shown = store.endpoint(account.id, before.id).await?;
    ensure!(shown == Some(same), "{shown:?}");
    Ok(())
}

/// A secret setting, as the driver gets it; null where there is none.
fn secret(record: &EndpointRecord, key: &str) -> Result<Value> {
    let secrets = record.secrets.as_ref().map_err(|why| anyhow!("{why}"))?;
    Ok(secrets.expose().get(key).cloned().unwrap_or_default())
}

fn headers(name: &str) -> CustomHeaders {
    CustomHeaders::new(vec![(name.to_owned(), "geheim".to_owned())])
}

fn bearer() -> Credentials {
    Credentials::Bearer {
        token: "geheim".to_owned(),
    }
}

async fn what_requests_carry_is_kept_until_it_is_removed_and_not_shown(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let basic = Credentials::Basic {
        username: "u".to_owned(),
        password: "geheim".to_owned(),
    };
    let mut new = endpoint("a");
    (new.headers, new.credentials) = (Some(headers("X-Key")), Some(basic));
    new.timeout_seconds = Some(7);
    let id = store
        .create_endpoint(account.id, &new, u64::MAX)
        .await?
        .endpoint
        .id;
    let load = async || -> Result<EndpointRecord> {
        let mut found = store.load_endpoints(&[id]).await?;
        found.pop().context("it is gone")
    };
    let edit = async |edit: EndpointEdit| store.edit_endpoint(account.id, id, &edit).await;
    for _ in 0..2 {
        let found = load().await?;
        let basic = json!({"type": "basic", "username": "u", "password": "geheim"});
        ensure!(secret(&found, "headers")? == json!([["X-Key", "geheim"]]));
        ensure!(secret(&found, "authorization")? == basic);
        ensure!(found.endpoint.timeout_seconds == Some(7));
        ensure!(!format!("{found:?}").contains("geheim"), "{found:?}");
        edit(EndpointEdit::default()).await?;
    }
    edit(EndpointEdit {
        headers: Some(None),
        credentials: Some(Some(bearer())),
        timeout_seconds: Some(None),
        ..EndpointEdit::default()
    })
    .await?;
    let found = load().await?;
    ensure!(secret(&found, "headers")? == Value::Null);
    let token = json!({"type": "bearer", "token": "geheim"});
    ensure!(secret(&found, "authorization")? == token);
    ensure!(found.endpoint.timeout_seconds.is_none());
    edit(EndpointEdit {
        credentials: Some(None),
        ..EndpointEdit::default()
    })
    .await?;
    ensure!(secret(&load().await?, "authorization")? == Value::Null);
    Ok(())
}

async fn credentials_and_a_header_of_them_are_not_kept_together(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let mut new = endpoint("a");
    (new.headers, new.credentials) = (Some(headers("AUTHORIZATION")), Some(bearer()));
    let made = store.create_endpoint(account.id, &new, u64::MAX).await;
    ensure!(
        matches!(made, Err(StoreError::AuthorizationTwice)),
        "{made:?}"
    );
    new.credentials = None;
    let id = store
        .create_endpoint(account.id, &new, u64::MAX)
        .await?
        .endpoint
        .id;
    let add = EndpointEdit {
        name: Some("b".to_owned()),
        credentials: Some(Some(bearer())),
        ..EndpointEdit::default()
    };
    let added = store.edit_endpoint(account.id, id, &add).await;
    ensure!(
        matches!(added, Err(StoreError::AuthorizationTwice)),
        "{added:?}"
    );
    // Nothing of it is done.
    let found = store.endpoint(account.id, id).await?;
    ensure!(found.is_some_and(|found| found.name == "a"));
    let instead = EndpointEdit {
        headers: Some(None),
        ..add
    };
    store.edit_endpoint(account.id, id, &instead).await?;
    let back = EndpointEdit {
        headers: Some(Some(headers("authorization"))),
        ..EndpointEdit::default()
    };
    let back = store.edit_endpoint(account.id, id, &back).await;
    ensure!(
        matches!(back, Err(StoreError::AuthorizationTwice)),
        "{back:?}"
    );
    Ok(())
}

async fn what_belongs_to_another_account_is_not_there(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let id = create(&store, &account, "a", None).await?.endpoint.id;
    let other = store.account_seen("other").await?.id;
    ensure!(store.endpoint(other, id).await?.is_none());
    ensure!(store.filter(other, id).await?.is_none());
    ensure!(!store.delete_endpoint(other, id).await?);
    let edited = store
        .edit_endpoint(other, id, &EndpointEdit::default())
        .await;
    ensure!(matches!(edited, Err(StoreError::NoEndpoint)), "{edited:?}");
    let rotated = store.rotate_secret(other, id, 0).await;
    ensure!(
        matches!(rotated, Err(StoreError::NoEndpoint)),
        "{rotated:?}"
    );
    ensure!(store.endpoints(other, &query(Search::All)).await?.total == 0);
    ensure!(store.delete_endpoint(account.id, id).await?);
    ensure!(store.endpoint(account.id, id).await?.is_none());
    Ok(())
}

async fn a_list_is_searched_sorted_and_cut(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    for (name, url, active) in [
        ("b", "https://one.example/", true),
        ("C", "https://two.example/", false),
        ("a", "https://three.example/", true),
    ] {
        let mut new = endpoint(name);
        (new.receiver, new.active) = (Receiver::Webhook(url.to_owned()), active);
        store.create_endpoint(account.id, &new, u64::MAX).await?;
    }
    for (order, descending, expected) in [
        (EndpointOrder::Name, false, "Cab"),
        (EndpointOrder::Name, true, "baC"),
        (EndpointOrder::Url, false, "baC"),
        (EndpointOrder::Active, false, "Cba"),
        (EndpointOrder::Active, true, "baC"),
    ] {
        let mut query = query(Search::All);
        (query.order, query.descending) = (order, descending);
        let page = store.endpoints(account.id, &query).await?;
        let names: String = page.items.iter().map(|item| &*item.name).collect();
        ensure!(names == expected, "{order:?} {descending}: {names}");
    }
    let mut second = query(Search::Either("example".to_owned()));
    (second.limit, second.offset) = (1, 1);
    let page = store.endpoints(account.id, &second).await?;
    ensure!((page.items.len(), page.total) == (1, 3));
    ensure!(page.items[0].name == "a");
    Ok(())
}

async fn a_search_is_literal_and_blind_to_case(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    for name in ["100%", "a_b", "aXb", "ÄRGER", "back\\slash", "ba!ng"] {
        create(&store, &account, name, None).await?;
    }
    for (text, expected) in [
        ("%", 1),
        ("_", 1),
        ("A_B", 1),
        ("axb", 1),
        ("ärger", 1),
        ("\\", 1),
        ("!", 1),
        ("EXAMPLE.ORG", 6),
        ("nothing", 0),
    ] {
        let either = query(Search::Either(text.to_owned()));
        let found = store.endpoints(account.id, &either).await?.total;
        ensure!(found == expected, "{text}: {found}");
    }
    let each = Search::Each {
        name: vec!["a".to_owned(), "b".to_owned()],
        url: vec!["x".to_owned()],
    };
    let found = store.endpoints(account.id, &query(each)).await?.total;
    ensure!(found == 4, "{found}");
    Ok(())
}

async fn a_secret_is_replaced_and_the_old_one_stays_for_a_while(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let made = create(&store, &account, "a", None).await?;
    let id = made.endpoint.id;
    let first = made.secret.context("a secret")?;
    ensure!(first.expose().starts_with("whsec_"));
    ensure!(first.expose().len() == 38, "24 bytes in base64");
    let second = store.rotate_secret(account.id, id, 86_400_000).await?;
    let loaded = store.load_endpoints(&[id]).await?;
    let both = json!([second.expose(), first.expose()]);
    ensure!(secret(&loaded[0], "signing_secrets")? == both);
    ensure!(loaded[0].previous_secret_until_ms.is_some());
    // Those before are good as long as they were to be, whatever comes after them.
    let third = store.rotate_secret(account.id, id, 0).await?;
    let loaded = store.load_endpoints(&[id]).await?;
    let last = json!([third.expose(), first.expose()]);
    ensure!(
        secret(&loaded[0], "signing_secrets")? == last,
        "the second has ended"
    );
    ensure!(loaded[0].previous_secret_until_ms.is_some());
    ensure!(!format!("{loaded:?}").contains(&second.expose()[6..]));
    Ok(())
}

async fn all_secrets_within_their_time_sign_and_no_more_than_there_may_be(
    test: Test,
) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let made = create(&store, &account, "a", None).await?;
    let id = made.endpoint.id;
    let mut all = vec![made.secret.context("a secret")?.expose().to_owned()];
    for number in 1..8 {
        // The one that ends next is not the oldest.
        let overlap_ms = 86_400_000 - number * 1_000;
        let newest = store.rotate_secret(account.id, id, overlap_ms).await?;
        all.insert(0, newest.expose().to_owned());
        let loaded = store.load_endpoints(&[id]).await?;
        ensure!(
            secret(&loaded[0], "signing_secrets")? == json!(all),
            "{number}"
        );
    }
    let refused = store.rotate_secret(account.id, id, 86_400_000).await;
    ensure!(
        matches!(refused, Err(StoreError::TooManySecrets { most: 8 })),
        "{refused:?}"
    );
    let loaded = store.load_endpoints(&[id]).await?;
    ensure!(secret(&loaded[0], "signing_secrets")? == json!(all));
    let until_ms = loaded[0].previous_secret_until_ms.context("one ends")?;
    ensure!(
        store.load_endpoints(&[id]).await?[0].previous_secret_until_ms == Some(until_ms),
        "the same one ends next"
    );
    Ok(())
}

async fn the_newest_attempt_is_shown_and_the_first_failure_of_a_row(test: Test) -> Result<()> {
    use DeliveryStatus::{Failure, Success};
    let (store, account, _) = test.filled().await?;
    let id = create(&store, &account, "a", None).await?.endpoint.id;
    let seq = store.last_change().await?;
    for (time_ms, status, expected) in [
        (100, Failure, (100, Failure, Some(100))),
        (200, Failure, (200, Failure, Some(100))),
        (150, Success, (200, Failure, Some(200))),
        (300, Success, (300, Success, None)),
        (250, Failure, (300, Success, None)),
        (400, Failure, (400, Failure, Some(400))),
    ] {
        store.delivered(id, Delivered { time_ms, status }).await?;
        let shown = store.endpoint(account.id, id).await?;
        let shown = shown.map(|shown| {
            (
                shown.last_delivery_ms,
                shown.last_delivery_status,
                shown.first_failure_ms,
            )
        });
        let expected = Some((Some(expected.0), Some(expected.1), expected.2));
        ensure!(shown == expected, "{time_ms} {status:?}: {shown:?}");
    }
    ensure!(
        store.last_change().await? == seq,
        "no change of the registry"
    );
    Ok(())
}
