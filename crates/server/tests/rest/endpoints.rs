//! `/endpoints`: made, shown, changed, deleted; its attributes and their errors.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::setup::{User, World, bearer, cases, text};

cases![
    an_endpoint_is_made_shown_changed_and_deleted,
    the_type_follows_the_url,
    an_unknown_type_is_refused_by_its_name,
    a_url_of_another_scheme_is_refused,
    a_change_without_a_url_keeps_it,
    a_name_is_unique_in_the_account,
    a_missing_name_or_url_is_named,
    a_body_without_an_endpoint_is_a_bad_request,
    data_is_written_and_never_shown,
    a_certificate_that_is_none_is_refused,
    a_blank_certificate_does_not_remove_the_one_that_is_there,
    data_that_is_no_object_is_refused_without_its_value,
    certificates_have_a_length_at_most,
    an_account_has_so_many_endpoints_at_most,
    a_secret_is_shown_once_when_it_is_made,
    a_test_that_cannot_be_sent_says_why_and_changes_nothing,
    what_another_account_has_is_not_found,
    a_retry_policy_is_default_or_hooks,
    texts_with_a_nul_character_are_refused,
    of_many_who_want_a_name_at_once_one_gets_it,
];

fn an_endpoint_is_made_shown_changed_and_deleted(world: &World) -> Result<()> {
    let user = world.account();
    let body = json!({"endpoint": {
        "name": "hook", "url": "https://example.org/hook", "active": true,
        "type": "Endpoints::HttpsEndpoint", "data": {},
        "filter": {"app_ids": [], "event_type_ids": [], "level_ids": []}}});
    let made = user.post("/endpoints", &body)?.with(201)?;
    let id = text(&made.json["data"]["id"])?;
    let expected = json!({"id": id, "type": "endpoint", "attributes": {
        "name": "hook", "url": "https://example.org/hook", "active": true, "driver": "webhook", "settings": null,
        "last_delivery_status": null, "last_delivery_time": null, "first_failure_time": null, "next_attempt_time": null,
        "type": "Endpoints::HttpsEndpoint", "retry_policy": "default", "timeout_seconds": null,
        "paused": false, "rate_limit": null, "retry_delays": null, "ordering": "none", "fallback_id": null, "content": "all", "preset": null, "template": null, "content_type": null}});
    ensure!(made.json["data"] == expected, "{:#}", made.json);
    let path = format!("/endpoints/{id}");
    let shown = user.get(&path)?.with(200)?;
    ensure!(shown.json == json!({"data": expected}), "{:#}", shown.json);
    let change = json!({"endpoint": {"name": "other", "active": false}});
    let changed = user.put(&path, &change)?.with(200)?;
    let attributes = &changed.json["data"]["attributes"];
    ensure!(attributes["name"] == "other" && attributes["active"] == false);
    ensure!(user.get(&path)?.with(200)?.json == changed.json);
    let deleted = user.delete(&path)?.with(204)?;
    ensure!(deleted.answer.body.is_empty());
    for said in [
        user.get(&path)?,
        user.put(&path, &change)?,
        user.delete(&path)?,
    ] {
        said.not_found(&format!("Could not find Endpoint with 'id'={id}"))?;
    }
    Ok(())
}

fn the_type_follows_the_url(world: &World) -> Result<()> {
    let user = world.account();
    let kind = |said: &Value| said["data"]["attributes"]["type"].clone();
    for (name, url, given, expected) in [
        ("a", "http://example.org/", None, "Endpoints::HttpEndpoint"),
        (
            "b",
            "https://example.org/",
            None,
            "Endpoints::HttpsEndpoint",
        ),
        (
            "c",
            "HTTPS://example.org/",
            Some("::Endpoints::HttpEndpoint"),
            "Endpoints::HttpsEndpoint",
        ),
        (
            "d",
            "http://example.org/",
            Some("Endpoints::HttpsEndpoint"),
            "Endpoints::HttpEndpoint",
        ),
        (
            "e",
            "http://example.org/",
            Some("Endpoint"),
            "Endpoints::HttpEndpoint",
        ),
    ] {
        let mut fields = json!({"name": name, "url": url});
        if let Some(given) = given {
            fields["type"] = json!(given);
        }
        let made = user
            .post("/endpoints", &json!({"endpoint": fields}))?
            .with(201)?;
        ensure!(kind(&made.json) == expected, "{name}: {}", made.json);
        let path = format!("/endpoints/{}", text(&made.json["data"]["id"])?);
        for (url, expected) in [
            ("https://example.org/", "Endpoints::HttpsEndpoint"),
            ("http://example.org/", "Endpoints::HttpEndpoint"),
        ] {
            let changed = user
                .put(&path, &json!({"endpoint": {"url": url}}))?
                .with(200)?;
            ensure!(kind(&changed.json) == expected, "{}", changed.json);
        }
    }
    Ok(())
}

fn an_unknown_type_is_refused_by_its_name(world: &World) -> Result<()> {
    let user = world.account();
    let place = "/data/attributes/type";
    for kind in ["Foobar", "::Foobar", "Endpoints::FtpEndpoint", ""] {
        let fields = json!({"name": "a", "url": "http://example.org/", "type": kind});
        let said = user.post("/endpoints", &json!({"endpoint": fields}))?;
        said.refused(422, &format!("Cannot find an endpoint type: {kind}"), place)?;
    }
    let id = user.endpoint(&json!({"name": "a", "url": "http://example.org/"}))?;
    let change = json!({"endpoint": {"type": "Foobar"}});
    let said = user.put(&format!("/endpoints/{id}"), &change)?;
    said.refused(422, "Cannot find an endpoint type: Foobar", place)
}

fn a_url_of_another_scheme_is_refused(world: &World) -> Result<()> {
    for url in [
        "ftp://example.org/",
        "example.org",
        "http://",
        "javascript:alert(1)",
    ] {
        let body = json!({"endpoint": {"name": "a", "url": url}});
        let said = world.account().post("/endpoints", &body)?;
        said.refused(422, "is not an http or https URL", "/data/attributes/url")?;
    }
    let body = json!({"endpoint": {"name": "a", "url": "http://a%0ab:secret@example.org/"}});
    let said = world.account().post("/endpoints", &body)?;
    let detail = "has a user or a password: give them as `authorization` in `data`";
    said.refused(422, detail, "/data/attributes/url")
}

fn a_change_without_a_url_keeps_it(world: &World) -> Result<()> {
    let user = world.account();
    let id = user.endpoint(&json!({"name": "a", "url": "https://example.org/x"}))?;
    let change = json!({"endpoint": {"name": "b"}});
    let said = user.put(&format!("/endpoints/{id}"), &change)?.with(200)?;
    let attributes = &said.json["data"]["attributes"];
    ensure!(attributes["url"] == "https://example.org/x" && attributes["name"] == "b");
    ensure!(attributes["type"] == "Endpoints::HttpsEndpoint");
    Ok(())
}

fn a_name_is_unique_in_the_account(world: &World) -> Result<()> {
    let (user, other) = (world.account(), world.account());
    let place = "/data/attributes/name";
    let fields = json!({"name": "a", "url": "https://example.org/"});
    user.endpoint(&fields)?;
    other.endpoint(&fields)?;
    let body = json!({"endpoint": fields});
    user.post("/endpoints", &body)?
        .refused(422, "has already been taken", place)?;
    // Everything that is wrong is told at once.
    let said = user.post("/endpoints", &json!({"endpoint": {"name": "a"}}))?;
    ensure!(said.json["errors"].as_array().map(Vec::len) == Some(2));
    let id = user.endpoint(&json!({"name": "b", "url": "https://example.org/"}))?;
    let path = format!("/endpoints/{id}");
    user.put(&path, &body)?
        .refused(422, "has already been taken", place)?;
    user.put(&path, &json!({"endpoint": {"name": "b"}}))?
        .with(200)?;
    Ok(())
}

fn a_missing_name_or_url_is_named(world: &World) -> Result<()> {
    let user = world.account();
    for (fields, attribute) in [
        (json!({"url": "http://example.org/"}), "name"),
        (json!({"url": "http://example.org/", "name": " "}), "name"),
        (json!({"url": "http://example.org/", "name": null}), "name"),
        (json!({"name": "a"}), "url"),
        (json!({"name": "a", "url": ""}), "url"),
        (json!({}), "name"),
        (json!({}), "url"),
    ] {
        let said = user.post("/endpoints", &json!({"endpoint": fields}))?;
        let place = format!("/data/attributes/{attribute}");
        said.refused(422, "can't be blank", &place)?;
    }
    let id = user.endpoint(&json!({"name": "a", "url": "http://example.org/"}))?;
    let change = json!({"endpoint": {"name": "", "url": null}});
    let path = format!("/endpoints/{id}");
    for place in ["/data/attributes/name", "/data/attributes/url"] {
        user.put(&path, &change)?
            .refused(422, "can't be blank", place)?;
    }
    Ok(())
}

fn a_body_without_an_endpoint_is_a_bad_request(world: &World) -> Result<()> {
    let user = world.account();
    let id = user.endpoint(&json!({"name": "a", "url": "http://example.org/"}))?;
    let path = format!("/endpoints/{id}");
    for body in [
        json!({}),
        json!([]),
        json!({"endpoint": 7}),
        json!({"endpoint": null}),
        json!({"endpoint": {"name": 7}}),
        json!({"endpoint": {"active": "perhaps"}}),
        json!({"endpoint": {"filter": []}}),
    ] {
        for said in [user.post("/endpoints", &body)?, user.put(&path, &body)?] {
            said.refused(400, "Server cannot accept given parameters", "")?;
        }
    }
    Ok(())
}

/// A certificate that signs itself.
fn certificate() -> Result<String> {
    let key = rcgen::KeyPair::generate()?;
    let parameters = rcgen::CertificateParams::new(vec!["example.org".to_owned()])?;
    Ok(parameters.self_signed(&key)?.pem())
}

fn data_is_written_and_never_shown(world: &World) -> Result<()> {
    let user = world.account();
    let chain = format!("{}{}", certificate()?, certificate()?);
    let data = json!({"server_ca_certificate": chain, "anything": "else"});
    let fields = json!({"name": "a", "url": "https://example.org/", "data": data});
    let made = user
        .post("/endpoints", &json!({"endpoint": fields}))?
        .with(201)?;
    let path = format!("/endpoints/{}", text(&made.json["data"]["id"])?);
    for said in [made, user.get(&path)?, user.get("/endpoints")?] {
        let body = said.answer.body;
        ensure!(
            !body.contains("CERTIFICATE") && !body.contains("anything"),
            "{body}"
        );
    }
    let change = json!({"endpoint": {"data": {"server_ca_certificate": null}}});
    user.put(&path, &change)?.with(200)?;
    Ok(())
}

fn a_certificate_that_is_none_is_refused(world: &World) -> Result<()> {
    let user = world.account();
    let id = user.endpoint(&json!({"name": "b", "url": "https://example.org/"}))?;
    let broken = certificate()?.replacen("MII", "AAA", 1);
    let half = format!("{}-----BEGIN CERTIFICATE-----\nnonsense", certificate()?);
    for pem in ["nonsense", &broken, &half] {
        let data = json!({"server_ca_certificate": pem});
        let fields = json!({"name": "a", "url": "https://example.org/", "data": data});
        let detail = "attribute server_ca_certificate contains invalid certificate: ";
        let place = "/data/attributes/data";
        user.post("/endpoints", &json!({"endpoint": fields}))?
            .refused(422, detail, place)?;
        let change = json!({"endpoint": {"data": data}});
        user.put(&format!("/endpoints/{id}"), &change)?
            .refused(422, detail, place)?;
    }
    Ok(())
}

fn a_blank_certificate_does_not_remove_the_one_that_is_there(world: &World) -> Result<()> {
    let (builder, database) = world.fresh()?;
    let server = builder.start()?;
    let admin = bearer(&server, &server.admin_token()?);
    let token = json!({"token": {"name": "x", "scope": "account", "account_number": "one"}});
    let said = admin.post("/tokens", &token)?.with(201)?;
    let user = bearer(&server, &text(&said.json["meta"]["token"])?);
    let data = json!({"server_ca_certificate": certificate()?});
    let fields = json!({"name": "a", "url": "https://example.org/", "data": data});
    let path = format!("/endpoints/{}", user.endpoint(&fields)?);
    let kept = || {
        let statement = "SELECT COUNT(*) FROM endpoint WHERE settings LIKE '%server_ca_%'";
        database.count(&server, statement)
    };
    for pem in ["", " \n"] {
        let body = json!({"endpoint": {"data": {"server_ca_certificate": pem}}});
        let detail = "attribute server_ca_certificate can't be blank";
        user.put(&path, &body)?
            .refused(422, detail, "/data/attributes/data")?;
        ensure!(kept()? == 1);
    }
    let body = json!({"endpoint": {"data": {"server_ca_certificate": null}}});
    user.put(&path, &body)?.with(200)?;
    ensure!(kept()? == 0);
    Ok(())
}

fn data_that_is_no_object_is_refused_without_its_value(world: &World) -> Result<()> {
    let user = world.account();
    let id = user.endpoint(&json!({"name": "b", "url": "https://example.org/"}))?;
    let pem = certificate()?;
    for (data, detail) in [
        (json!("Bearer geheim"), "is not an object"),
        (json!(["geheim"]), "is not an object"),
        (json!([pem]), "is not an object"),
        (json!(271_828), "is not an object"),
        (
            json!({"server_ca_certificate": ["geheim"]}),
            "attribute server_ca_certificate is not a string",
        ),
        (
            json!({"server_ca_certificate": 271_828}),
            "attribute server_ca_certificate is not a string",
        ),
    ] {
        let fields = json!({"name": "a", "url": "https://example.org/", "data": data});
        let made = user.post("/endpoints", &json!({"endpoint": fields}))?;
        let change = json!({"endpoint": {"data": data}});
        let changed = user.put(&format!("/endpoints/{id}"), &change)?;
        for said in [made, changed] {
            let body = &said.answer.body;
            let is_told = ["geheim", "CERTIFICATE", "271828"].map(|value| body.contains(value));
            ensure!(is_told == [false; 3], "{body}");
            said.refused(422, detail, "/data/attributes/data")?;
        }
    }
    ensure!(user.names("")? == ["b"]);
    Ok(())
}

fn certificates_have_a_length_at_most(world: &World) -> Result<()> {
    let user = world.account();
    let id = user.endpoint(&json!({"name": "a", "url": "https://example.org/"}))?;
    let one = certificate()?;
    let fit = 64 * 1024 / one.len();
    let put = |count: usize| {
        let data = json!({"server_ca_certificate": one.repeat(count)});
        user.put(
            &format!("/endpoints/{id}"),
            &json!({"endpoint": {"data": data}}),
        )
    };
    put(fit)?.with(200)?;
    let detail = "attribute server_ca_certificate is too long (maximum is 65536 bytes)";
    put(fit + 1)?.refused(422, detail, "/data/attributes/data")
}

fn an_account_has_so_many_endpoints_at_most(world: &World) -> Result<()> {
    let server = world.fresh()?.0.http("max_endpoints = 2").start()?;
    let admin = bearer(&server, &server.admin_token()?);
    let account = |number: &str| -> Result<User<'_>> {
        let token = json!({"name": "x", "scope": "account", "account_number": number});
        let said = admin.post("/tokens", &json!({"token": token}))?.with(201)?;
        Ok(bearer(&server, &text(&said.json["meta"]["token"])?))
    };
    let fields = |name: &str| json!({"name": name, "url": "https://example.org/"});
    let (one, other) = (account("one")?, account("other")?);
    let first = format!("/endpoints/{}", one.endpoint(&fields("a"))?);
    one.endpoint(&fields("b"))?;
    let detail = "the account has 2 endpoints, and may have no more";
    one.post("/endpoints", &json!({"endpoint": fields("c")}))?
        .refused(422, detail, "/data")?;
    ensure!(one.names("")? == ["a", "b"]);
    // What is there can be changed, and makes room for another when it goes; others have their own.
    one.put(&first, &json!({"endpoint": {"name": "d"}}))?
        .with(200)?;
    other.endpoint(&fields("c"))?;
    one.delete(&first)?.with(204)?;
    one.endpoint(&fields("c"))?;
    ensure!(one.names("")? == ["b", "c"]);
    Ok(())
}

fn a_secret_is_shown_once_when_it_is_made(world: &World) -> Result<()> {
    let user = world.account();
    let body = json!({"endpoint": {"name": "a", "url": "https://example.org/"}});
    let made = user.post("/endpoints", &body)?.with(201)?;
    let first = text(&made.json["meta"]["signing_secret"])?;
    ensure!(first.starts_with("whsec_") && first.len() == 38, "{first}");
    let path = format!("/endpoints/{}", text(&made.json["data"]["id"])?);
    let rotated = user
        .ask("POST", &format!("{path}/secret"), None)?
        .with(200)?;
    let second = text(&rotated.json["meta"]["signing_secret"])?;
    ensure!(second.starts_with("whsec_") && second != first);
    ensure!(rotated.json["data"] == made.json["data"]);
    for said in [user.get(&path)?, user.get("/endpoints")?] {
        ensure!(!said.answer.body.contains("whsec_"), "{said:?}");
    }
    world
        .account()
        .ask("POST", &format!("{path}/secret"), None)?
        .not_found("Could not find Endpoint")
}

fn a_test_that_cannot_be_sent_says_why_and_changes_nothing(world: &World) -> Result<()> {
    let user = world.account();
    let id = user.endpoint(&json!({"name": "a", "url": "http://127.0.0.1:1024/"}))?;
    let path = format!("/endpoints/{id}");
    let before = user.get(&path)?;
    let said = user.ask("POST", &format!("{path}/test"), None)?.with(502)?;
    ensure!(
        said.json["errors"][0]["detail"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    ensure!(user.get(&path)?.json == before.json);
    world
        .account()
        .ask("POST", &format!("{path}/test"), None)?
        .not_found("Could not find Endpoint")
}

fn what_another_account_has_is_not_found(world: &World) -> Result<()> {
    let (user, other) = (world.account(), world.account());
    let fields = json!({"name": "a", "url": "http://example.org/", "filter": {}});
    let id = user.endpoint(&fields)?;
    let path = format!("/endpoints/{id}");
    let there = json!({"endpoint": {"name": "b"}});
    let nowhere = "/endpoints/00000000-0000-0000-0000-000000000000";
    for (theirs, none) in [
        (other.get(&path)?, other.get(nowhere)?),
        (other.put(&path, &there)?, other.put(nowhere, &there)?),
        (other.delete(&path)?, other.delete(nowhere)?),
    ] {
        ensure!(
            theirs.answer.body.replace(&id, "") == none.answer.body.replace(&nowhere[11..], "")
        );
        theirs.not_found("Could not find Endpoint with 'id'=")?;
    }
    other
        .get(&format!("{path}/filter"))?
        .not_found("Could not find Filter")?;
    ensure!(other.names("")?.is_empty());
    ensure!(user.names("")? == ["a"]);
    other
        .get("/endpoints/not-an-id")?
        .not_found("Could not find Endpoint")
}

fn a_retry_policy_is_default_or_hooks(world: &World) -> Result<()> {
    let user = world.account();
    let fields = json!({"name": "a", "url": "http://example.org/", "retry_policy": "hooks"});
    let id = user.endpoint(&fields)?;
    let path = format!("/endpoints/{id}");
    ensure!(user.get(&path)?.json["data"]["attributes"]["retry_policy"] == "hooks");
    let change = json!({"endpoint": {"retry_policy": "never"}});
    let place = "/data/attributes/retry_policy";
    user.put(&path, &change)?
        .refused(422, "`never` is neither `default` nor `hooks`", place)
}

fn texts_with_a_nul_character_are_refused(world: &World) -> Result<()> {
    let user = world.account();
    let body = json!({"endpoint": {"name": "a\u{0}b", "url": "http://example.org/"}});
    user.post("/endpoints", &body)?
        .refused(400, "NUL character", "")?;
    user.get("/endpoints?q=a%00b")?
        .refused(400, "NUL character", "")
}

fn of_many_who_want_a_name_at_once_one_gets_it(world: &World) -> Result<()> {
    let user = world.account();
    let body = json!({"endpoint": {"name": "a", "url": "http://example.org/"}});
    let said: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| user.post("/endpoints", &body)))
            .collect();
        asking
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect()
    });
    let mut made = 0;
    for said in said {
        let said = said.map_err(|_| anyhow::anyhow!("it panicked"))??;
        if said.answer.status == 201 {
            made += 1;
        } else {
            said.refused(422, "has already been taken", "/data/attributes/name")?;
        }
    }
    ensure!(made == 1, "{made}");
    Ok(())
}
