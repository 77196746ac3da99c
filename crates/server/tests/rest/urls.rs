//! URLs of webhooks: without user and password, and shown without those that were saved before.

use anyhow::{Context, Result, ensure};
use dovecast_store::{DatabasePlace, EndpointEdit, KeySource, Receiver, Store, StoreOptions};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

use crate::secrets::with_file_and_database;
use crate::setup::{Database, World, bearer, cases, delivering};

cases![
    a_url_with_a_user_or_a_control_character_is_refused,
    a_url_that_was_saved_with_a_user_is_not_shown_and_goes_on,
];

fn a_url_with_a_user_or_a_control_character_is_refused(world: &World) -> Result<()> {
    let user = world.account();
    let id = user.endpoint(&json!({"name": "a", "url": "https://example.org/"}))?;
    let (in_data, control) = (
        "give them as `authorization` in `data`",
        "a control character",
    );
    for (url, detail) in [
        ("https://u:geheim@example.org/", in_data),
        ("https://geheim@example.org/", in_data),
        ("https://:geheim@example.org/", in_data),
        ("https:\\\\geheim@example.org/", in_data),
        ("https://***@example.org/", in_data),
        ("https://example.org/\u{1b}[31m", control),
        ("https://exam\tple.org/", control),
        ("https://example.org/\n", control),
        ("\u{7f}https://example.org/", control),
    ] {
        let fields = json!({"endpoint": {"name": "b", "url": url}});
        for said in [
            user.post("/endpoints", &fields)?,
            user.put(&format!("/endpoints/{id}"), &fields)?,
        ] {
            ensure!(!said.answer.body.contains("geheim"), "{said:?}");
            said.refused(422, detail, "/data/attributes/url")?;
        }
    }
    Ok(())
}

/// Gives the endpoint of the account 1 a URL as earlier versions have taken them. The server does
/// not run.
fn save(server: &Server, database: &Database, id: &str, url: &str) -> Result<()> {
    let place: DatabasePlace = match database {
        Database::Sqlite => {
            let file = server.data_dir().join("state.db");
            format!("sqlite:{}", file.display()).parse()?
        }
        Database::Postgres(_, url) => url.parse()?,
    };
    let mut options = StoreOptions::new(place);
    options.keys = KeySource::File(server.data_dir().join("secrets.key"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let store = Store::open(&options).await?;
        let account = store.account("1").await?.context("there is no account")?;
        let edit = EndpointEdit {
            receiver: Some(Receiver::Webhook(url.to_owned())),
            ..EndpointEdit::default()
        };
        store.edit_endpoint(account.id, id.parse()?, &edit).await?;
        store.close().await;
        Ok(())
    })
}

fn a_url_that_was_saved_with_a_user_is_not_shown_and_goes_on(world: &World) -> Result<()> {
    let (builder, database) = with_file_and_database(world)?;
    let mut server = delivering(builder).start()?;
    let sink = HookEndpoint::start()?;
    let admin = server.admin_token()?;
    let token = server.account_token("1")?;
    let id =
        bearer(&server, &token).endpoint(&json!({"name": "a", "url": sink.url(), "filter": {}}))?;
    server.stop()?;
    let kept = sink.url().replace("http://", "http://u:geheim@");
    save(&server, &database, &id, &kept)?;
    server.start_again()?;
    let user = bearer(&server, &token);
    let path = format!("/endpoints/{id}");
    let shown = sink.url().replace("http://", "http://***@");
    let mut count = 0;
    let mut arrives = |expected: &str| -> Result<()> {
        server.run(["send", "-u", "1"])?;
        count += 1;
        let hooks = sink.wait_for(count, dovecast_testkit::PATIENCE)?;
        let hook = hooks.last().context("nothing has come")?;
        ensure!(hook.header("authorization") == Some(expected), "{hook:?}");
        Ok(())
    };
    arrives("Basic dTpnZWhlaW0=")?;
    let said = user.get(&path)?.with(200)?;
    ensure!(said.json["data"]["attributes"]["url"] == *shown, "{said:?}");
    let bodies = [
        said.answer.body,
        user.get("/endpoints")?.answer.body,
        bearer(&server, &admin).get("/accounts/1")?.answer.body,
        server.run(["endpoints"])?,
        server.run(["endpoints", "--json"])?,
        server.run(["endpoints", "show", &id, "--json"])?,
        server.run(["accounts", "show", "1"])?,
    ];
    for body in bodies {
        ensure!(body.contains("***") && !body.contains("geheim"), "{body}");
    }
    // Given back as it is shown, or as it was, it stays.
    for url in [&shown, &kept] {
        let change: Value = json!({"endpoint": {"name": "b", "url": url}});
        let said = user.put(&path, &change)?.with(200)?;
        ensure!(!said.answer.body.contains("geheim"), "{said:?}");
        arrives("Basic dTpnZWhlaW0=")?;
    }
    // Another path with the same user is another URL.
    for url in [format!("{shown}/more"), format!("{kept}/more")] {
        let change = json!({"endpoint": {"url": url}});
        user.put(&path, &change)?.refused(
            422,
            "has a user or a password",
            "/data/attributes/url",
        )?;
    }
    let data = json!({"headers": {"Authorization": "Key 7"}});
    user.put(&path, &json!({"endpoint": {"data": data}}))?
        .with(200)?;
    arrives("Key 7")?;
    Ok(())
}
