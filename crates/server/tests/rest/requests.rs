//! What requests to an endpoint carry and how long they may take: `data` and `timeout_seconds`, and
//! what arrives.

use std::fmt::Display;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::{Hook, HookEndpoint};
use serde_json::{Value, json};

use crate::deliveries::{ARRIVAL, account, fields, send};
use crate::setup::{World, cases, unique};

cases![
    what_is_in_data_arrives_byte_for_byte,
    headers_that_cannot_be_sent_are_refused_where_they_stand,
    headers_that_say_who_somebody_is_are_refused,
    credentials_that_cannot_be_sent_are_refused_where_they_stand,
    credentials_and_a_header_of_them_are_refused_together,
    nothing_of_data_is_shown_or_logged,
    an_endpoint_has_a_timeout_of_its_own,
    a_timeout_out_of_bounds_is_refused,
];

/// Fails unless the request consists of these lines besides what each request has.
fn check(hook: &Hook, path: &str, more: &[&str]) -> Result<()> {
    let of = |name: &str| {
        let value = hook.header(name).with_context(|| format!("no {name}"))?;
        Ok::<_, anyhow::Error>(format!("{name}: {value}"))
    };
    let mut expected = vec![
        format!("POST {path} HTTP/1.1"),
        of("host")?,
        "content-type: application/json".to_owned(),
        of("webhook-id")?,
        of("webhook-timestamp")?,
        of("webhook-signature")?,
        format!("content-length: {}", hook.body.len()),
    ];
    if !more.iter().any(|line| line.starts_with("user-agent: ")) {
        expected.push(format!(
            "user-agent: dovecast/{}",
            env!("CARGO_PKG_VERSION")
        ));
    }
    expected.extend(more.iter().map(|line| (*line).to_owned()));
    let mut found = hook.head.clone();
    found.sort();
    expected.sort();
    ensure!(found == expected, "{found:#?} instead of {expected:#?}");
    Ok(())
}

fn what_is_in_data_arrives_byte_for_byte(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let mut made = fields(&sink, &json!({}));
    made["data"] = json!({
        "headers": {"X-Api-Key": "k\u{9}e; \"y\"", "x-empty": "", "USER-AGENT": "me/1"},
        "authorization": {"type": "basic", "username": "j\u{f6}", "password": "p:w \u{20ac}"}});
    let id = user.endpoint(&made)?;
    let path = format!("/endpoints/{id}");
    let own = ["x-api-key: k\u{9}e; \"y\"", "x-empty: ", "user-agent: me/1"];
    let basic = "authorization: Basic asO2OnA6dyDigqw=";
    let bearer = "authorization: Bearer abc.def-1==";
    let with = |authorization| [&own[..], &[authorization]].concat();
    let mut arrived = 0;
    for (change, expected) in [
        (json!({}), with(basic)),
        // What is not named stays.
        (json!({"name": unique("other"), "data": {}}), with(basic)),
        (
            json!({"data": {"authorization": {"type": "bearer", "token": "abc.def-1=="}}}),
            with(bearer),
        ),
        (
            json!({"data": {"headers": {"x-a": "1"}}}),
            vec!["x-a: 1", bearer],
        ),
        (json!({"data": {"headers": null}}), vec![bearer]),
        (
            json!({"data": {"authorization": null, "headers": {"x-b": "2"}}}),
            vec!["x-b: 2"],
        ),
        (json!({"data": null}), vec![]),
    ] {
        user.put(&path, &json!({"endpoint": change}))?.with(200)?;
        // A delivery, and a test.
        send(&world.server, &number, &[])?;
        arrived += 1;
        sink.wait_for(arrived, ARRIVAL)?;
        user.post(&format!("{path}/test"), &json!({}))?.with(204)?;
        arrived += 1;
        let hooks = sink.wait_for(arrived, ARRIVAL)?;
        for hook in &hooks[arrived - 2..] {
            check(hook, "/hook", &expected).with_context(|| change.to_string())?;
        }
    }
    Ok(())
}

/// Fails unless such `data` is refused at this place with this text, when it is made and when it is
/// changed.
fn refused<P: Display>(world: &World, cases: &[(Value, P, &str)]) -> Result<()> {
    let user = world.account();
    let id = user.endpoint(&json!({"name": "b", "url": "https://example.org/"}))?;
    for (data, place, detail) in cases {
        let place = format!("/data/attributes/data/{place}");
        let made = json!({"name": "a", "url": "https://example.org/", "data": data});
        let change = json!({"endpoint": {"data": data}});
        for said in [
            user.post("/endpoints", &json!({"endpoint": made}))?,
            user.put(&format!("/endpoints/{id}"), &change)?,
        ] {
            ensure!(!said.answer.body.contains("geheim"), "{said:?}");
            said.refused(422, detail, &place)?;
        }
    }
    ensure!(user.names("")? == ["b"]);
    Ok(())
}

fn headers_that_cannot_be_sent_are_refused_where_they_stand(world: &World) -> Result<()> {
    let many: serde_json::Map<String, Value> = (0..21)
        .map(|n| (format!("x-{n}"), json!("geheim")))
        .collect();
    let too_long = json!({"x": "g".repeat(8192)});
    let ours = "is a header that cannot be set";
    let value = "has a value that is not ASCII";
    let cases = [
        (json!([]), "headers", "is not an object"),
        (json!("geheim"), "headers", "is not an object"),
        (
            Value::Object(many),
            "headers",
            "are too many (maximum is 20)",
        ),
        (too_long, "headers", "are too long (maximum is 8192 bytes)"),
        (json!({"x": 7}), "headers/x", "is not a string"),
        (json!({"x": null}), "headers/x", "is not a string"),
        (
            json!({"a/b~c": "x"}),
            "headers/a~1b~0c",
            "is not the name of a header",
        ),
        (json!({"": "x"}), "headers/", "is not the name of a header"),
        (
            json!({"X-A": "1", "x-a": "2"}),
            "headers/x-a",
            "is there more than once",
        ),
        (json!({"x": "geheim\r\nhost: a"}), "headers/x", value),
        (json!({"x": "geheim "}), "headers/x", value),
        (json!({"x": "gr\u{fc}n"}), "headers/x", value),
        (json!({"Host": "a"}), "headers/Host", ours),
        (
            json!({"Content-Length": "1"}),
            "headers/Content-Length",
            ours,
        ),
        (json!({"content-type": "a/b"}), "headers/content-type", ours),
        (json!({"Connection": "close"}), "headers/Connection", ours),
        (
            json!({"Transfer-Encoding": "chunked"}),
            "headers/Transfer-Encoding",
            ours,
        ),
        (
            json!({"Webhook-Signature": "v1,a"}),
            "headers/Webhook-Signature",
            ours,
        ),
        (json!({"webhook-x": "a"}), "headers/webhook-x", ours),
    ];
    let cases = cases.map(|(headers, place, detail)| (json!({"headers": headers}), place, detail));
    refused(world, &cases)
}

/// What a receiver, or what it is behind, takes for a statement of who asks.
fn headers_that_say_who_somebody_is_are_refused(world: &World) -> Result<()> {
    let ours = "is a header that cannot be set";
    let with_underscore = "has a `_`, which many servers read as `-`";
    let mut cases = Vec::new();
    for (name, detail) in [
        ("X-RH-IDENTITY", ours),
        ("X_RH_IDENTITY", with_underscore),
        ("x_forwarded_for", with_underscore),
        ("webhook_id", with_underscore),
        ("Webhook_Signature", with_underscore),
        ("Content_Length", with_underscore),
        ("X-Forwarded-For", ours),
        ("X-Forwarded-User", ours),
        ("X-Forwarded-Client-Cert", ours),
        ("X-Remote-User", ours),
        ("X-Original-URL", ours),
        ("X-HTTP-Method-Override", ours),
        ("Metadata-Flavor", ours),
        ("X-aws-ec2-metadata-token", ours),
        ("Expect", ours),
        ("Proxy-X", ours),
    ] {
        let data = json!({"headers": {name: "geheim"}});
        cases.push((data, format!("headers/{name}"), detail));
    }
    refused(world, &cases)
}

fn credentials_that_cannot_be_sent_are_refused_where_they_stand(world: &World) -> Result<()> {
    let basic = |username: Value, password: Value| json!({"type": "basic", "username": username, "password": password});
    let bearer = |token: Value| json!({"type": "bearer", "token": token});
    let (secret, neither) = (json!("geheim"), "is neither `basic` nor `bearer`");
    let long = json!("g".repeat(4097));
    let cases = [
        (json!("Bearer geheim"), "", "is not an object"),
        (json!({}), "/type", neither),
        (json!({"type": "geheim"}), "/type", neither),
        (
            basic(json!("u"), Value::Null),
            "/password",
            "can't be blank",
        ),
        (
            basic(Value::Null, secret.clone()),
            "/username",
            "can't be blank",
        ),
        (
            basic(json!(1), secret.clone()),
            "/username",
            "is not a string",
        ),
        (basic(json!("a:b"), secret), "", "the user name has a colon"),
        (
            basic(json!("u"), json!("geheim\n")),
            "",
            "the password has a control character",
        ),
        (bearer(Value::Null), "/token", "can't be blank"),
        (
            bearer(json!("geheim geheim")),
            "",
            "the token is empty or has characters",
        ),
        (
            bearer(long),
            "/token",
            "is too long (maximum is 4096 bytes)",
        ),
    ];
    let cases = cases.map(|(fields, place, detail)| {
        let data = json!({"authorization": fields});
        (data, format!("authorization{place}"), detail)
    });
    refused(world, &cases)
}

fn credentials_and_a_header_of_them_are_refused_together(world: &World) -> Result<()> {
    let user = world.account();
    let header = json!({"headers": {"authorization": "Key geheim"}});
    let bearer = json!({"authorization": {"type": "bearer", "token": "geheim"}});
    let mut both = header.clone();
    both["authorization"] = bearer["authorization"].clone();
    let made = |name: &str, data: &Value| json!({"name": name, "url": "https://example.org/", "data": data});
    let detail = "cannot be set together with `authorization`";
    let place = "/data/attributes/data/headers/Authorization";
    user.post("/endpoints", &json!({"endpoint": made("a", &both)}))?
        .refused(422, detail, place)?;
    for (first, second) in [(&header, &bearer), (&bearer, &header)] {
        let path = format!("/endpoints/{}", user.endpoint(&made(&unique("x"), first))?);
        let change = json!({"endpoint": {"data": second}});
        user.put(&path, &change)?.refused(422, detail, place)?;
        let mut instead = json!({"headers": null, "authorization": null});
        for (key, value) in second.as_object().context("no object")? {
            instead[key] = value.clone();
        }
        user.put(&path, &json!({"endpoint": {"data": instead}}))?
            .with(200)?;
    }
    Ok(())
}

fn nothing_of_data_is_shown_or_logged(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    sink.answer(500);
    let mut made = fields(&sink, &json!({}));
    made["data"] = json!({
        "headers": {"x-key": "s3cretheader"},
        "authorization": {"type": "basic", "username": "s3cretuser", "password": "s3cretword"}});
    let made = user
        .post("/endpoints", &json!({"endpoint": made}))?
        .with(201)?;
    let id = made.json["data"]["id"]
        .as_str()
        .context("no id")?
        .to_owned();
    let path = format!("/endpoints/{id}");
    let changed = user.put(&path, &json!({"endpoint": {"active": true}}))?;
    let tested = user.post(&format!("{path}/test"), &json!({}))?.with(502)?;
    let mut shown: Vec<String> = [
        made,
        changed,
        tested,
        user.get(&path)?,
        user.get("/endpoints")?,
    ]
    .into_iter()
    .map(|said| said.answer.body)
    .collect();
    sink.answer(404);
    send(&world.server, &number, &[])?;
    crate::deliveries::shows(&user, &id, "last_delivery_status", &json!("failure"))?;
    for command in [
        &["endpoints", "--json"][..],
        &["attempts", &id, "--json"],
        &["dead-letters", "--json", "--limit", "1000"],
    ] {
        shown.push(world.server.run(command)?);
    }
    shown.push(world.server.server_log());
    // Basic of the two, and each of them.
    let encoded = "czNjcmV0dXNlcjpzM2NyZXR3b3Jk";
    for text in shown {
        ensure!(
            !text.contains("s3cret") && !text.contains(encoded),
            "{text}"
        );
    }
    Ok(())
}

fn an_endpoint_has_a_timeout_of_its_own(world: &World) -> Result<()> {
    let (user, _) = account(world)?;
    // The system takes connections for it, and nobody ever answers.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let url = format!("http://{}/", silent.local_addr()?);
    let id = user.endpoint(&json!({"name": "a", "url": url, "timeout_seconds": 2}))?;
    let path = format!("/endpoints/{id}");
    let shown = || -> Result<Value> {
        let said = user.get(&path)?.with(200)?;
        Ok(said.json["data"]["attributes"]["timeout_seconds"].clone())
    };
    let test = |ms: u32| {
        let said = user.post(&format!("{path}/test"), &json!({}))?;
        said.refused(502, &format!("no answer within {ms} ms"), "")
    };
    ensure!(shown()? == 2);
    test(2000)?;
    user.put(&path, &json!({"endpoint": {"timeout_seconds": 1}}))?
        .with(200)?;
    user.put(&path, &json!({"endpoint": {"name": "b"}}))?
        .with(200)?;
    ensure!(shown()? == 1);
    test(1000)?;
    user.put(&path, &json!({"endpoint": {"timeout_seconds": null}}))?
        .with(200)?;
    ensure!(shown()? == Value::Null);
    Ok(())
}

fn a_timeout_out_of_bounds_is_refused(world: &World) -> Result<()> {
    let user = world.account();
    let id = user.endpoint(&json!({"name": "b", "url": "https://example.org/"}))?;
    for timeout in [
        json!(0),
        json!(46),
        json!(-1),
        json!(1.5),
        json!("7"),
        json!(u64::MAX),
    ] {
        let made = json!({"name": "a", "url": "https://example.org/", "timeout_seconds": timeout});
        let change = json!({"endpoint": {"timeout_seconds": timeout}});
        for said in [
            user.post("/endpoints", &json!({"endpoint": made}))?,
            user.put(&format!("/endpoints/{id}"), &change)?,
        ] {
            let place = "/data/attributes/timeout_seconds";
            said.refused(422, "is not a number from 1 to 45", place)?;
        }
    }
    Ok(())
}
