//! Endpoints whose driver is not `webhook`: their settings are kept as they are, whatever they are.

use anyhow::{Context, Result, ensure};
use dovecast_store::{
    CustomHeaders, DriverSettings, EndpointEdit, EndpointOrder, EndpointQuery, NewEndpoint,
    Receiver, Search, SecretSettings, StoreError,
};
use serde_json::{Map, Value, json};

use crate::setup::{Test, cases, create, endpoint};

cases![
    settings_of_any_driver_are_kept_and_changed_key_by_key,
    what_is_for_another_driver_is_refused,
];

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn receiver(open: Value, secret: Value) -> Receiver {
    Receiver::Driver(DriverSettings {
        driver: "pigeon".to_owned(),
        open: map(open),
        secret: SecretSettings::new(map(secret)),
    })
}

fn pigeon() -> NewEndpoint {
    NewEndpoint {
        receiver: receiver(
            json!({"loft": 7, "ring": "a", "none": null}),
            json!({"word": "geheim", "other": "geheim-2"}),
        ),
        ..endpoint("p")
    }
}

async fn settings_of_any_driver_are_kept_and_changed_key_by_key(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    create(&store, &account, "a", None).await?;
    let made = store.create_endpoint(account.id, &pigeon(), 9).await?;
    let id = made.endpoint.id;
    ensure!(made.secret.is_none(), "it signs nothing");
    ensure!(made.endpoint.driver == "pigeon");
    ensure!((&made.endpoint.url, made.endpoint.kind) == (&None, None));
    let edit = EndpointEdit {
        receiver: Some(receiver(
            json!({"ring": null, "loft": 8}),
            json!({"word": "geheim-3", "other": null}),
        )),
        ..EndpointEdit::default()
    };
    for (edit, open, secret) in [
        (
            EndpointEdit::default(),
            json!({"loft": 7, "ring": "a"}),
            json!({"word": "geheim", "other": "geheim-2"}),
        ),
        (edit, json!({"loft": 8}), json!({"word": "geheim-3"})),
    ] {
        let edited = store.edit_endpoint(account.id, id, &edit).await?;
        ensure!(edited.settings == map(open), "{edited:?}");
        let loaded = store.load_endpoints(&[id]).await?.pop();
        let loaded = loaded.context("it is gone")?;
        ensure!(loaded.endpoint == edited, "{loaded:?}");
        let shown = format!("{loaded:?}");
        let secrets = loaded.secrets.map_err(anyhow::Error::msg)?;
        ensure!(*secrets.expose() == map(secret));
        ensure!(!shown.contains("geheim"), "{shown}");
    }
    let query = EndpointQuery {
        search: Search::All,
        order: EndpointOrder::Url,
        descending: false,
        limit: 10,
        offset: 0,
    };
    let page = store.endpoints(account.id, &query).await?;
    let names: Vec<_> = page.items.iter().map(|item| &*item.name).collect();
    ensure!(names == ["p", "a"], "{names:?}");
    Ok(())
}

async fn what_is_for_another_driver_is_refused(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let webhook = create(&store, &account, "a", None).await?.endpoint.id;
    let made = store.create_endpoint(account.id, &pigeon(), 9).await?;
    let id = made.endpoint.id;
    let of = |receiver| EndpointEdit {
        receiver: Some(receiver),
        ..EndpointEdit::default()
    };
    for (id, edit) in [
        (webhook, of(receiver(json!({}), json!({})))),
        (id, of(Receiver::Webhook("https://example.org/".to_owned()))),
        (
            id,
            EndpointEdit {
                timeout_seconds: Some(Some(3)),
                ..EndpointEdit::default()
            },
        ),
        (
            id,
            EndpointEdit {
                headers: Some(Some(CustomHeaders::default())),
                ..EndpointEdit::default()
            },
        ),
    ] {
        let edited = store.edit_endpoint(account.id, id, &edit).await;
        let is_refused = matches!(edited, Err(StoreError::OtherDriver { .. }));
        ensure!(is_refused, "{edited:?}");
    }
    let rotated = store.rotate_secret(account.id, id, 0).await;
    let is_refused = matches!(rotated, Err(StoreError::OtherDriver { .. }));
    ensure!(is_refused, "{rotated:?}");
    let with_timeout = NewEndpoint {
        name: "q".to_owned(),
        timeout_seconds: Some(3),
        body: None,
        ..pigeon()
    };
    let made_so = store.create_endpoint(account.id, &with_timeout, 9).await;
    let is_refused = matches!(made_so, Err(StoreError::OtherDriver { .. }));
    ensure!(is_refused, "{made_so:?}");
    // Nothing of it is done.
    let shown = store.endpoint(account.id, id).await?;
    ensure!(shown == Some(made.endpoint), "{shown:?}");
    Ok(())
}
