//! Endpoints that can be saved and will never receive anything: what is said of them.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::setup::{World, cases, text};

cases![
    an_endpoint_that_will_receive_nothing_is_made_with_a_warning,
    a_change_that_leaves_an_endpoint_without_anything_is_warned_of,
    a_misspelled_attribute_is_refused_and_what_answers_have_is_not,
    ports_of_other_services_are_refused,
];

const NO_FILTER: &str = "has no filter";
const NOT_ENABLED: &str = "is not enabled";
const NOT_ALLOWED: &str = "`allowed_networks` of [dispatch]";

fn an_endpoint_that_will_receive_nothing_is_made_with_a_warning(world: &World) -> Result<()> {
    let user = world.account();
    for (number, (endpoint, expected)) in [
        (json!({"url": "http://127.0.0.1:1024/"}), &[NO_FILTER][..]),
        (json!({"url": "http://127.0.0.1:1024/", "filter": {}}), &[]),
        (
            json!({"url": "http://127.0.0.1:1024/", "filter": {"enabled": false}}),
            &[NOT_ENABLED],
        ),
        (
            json!({"url": "http://10.1.2.3/", "filter": {}}),
            &[NOT_ALLOWED],
        ),
        (json!({"url": "http://[::1]/"}), &[NO_FILTER, NOT_ALLOWED]),
        // Nobody finds this name, today.
        (json!({"url": "http://nowhere.invalid/", "filter": {}}), &[]),
        (
            json!({"url": "http://127.0.0.1:1024/", "paused": true, "filter": {}}),
            &[],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut endpoint = endpoint;
        endpoint["name"] = format!("endpoint {number}").into();
        let made = user
            .post("/endpoints", &json!({"endpoint": endpoint}))?
            .with(201)?;
        warned(&made.json, expected)?;
    }
    Ok(())
}

fn a_change_that_leaves_an_endpoint_without_anything_is_warned_of(world: &World) -> Result<()> {
    let user = world.account();
    let made =
        user.endpoint(&json!({"name": "a", "url": "http://127.0.0.1:1024/", "filter": {}}))?;
    let path = format!("/endpoints/{made}");
    for (change, expected) in [
        (json!({"url": "http://192.168.0.1/"}), &[NOT_ALLOWED][..]),
        (json!({"url": "http://127.0.0.1:1025/"}), &[]),
        (json!({"filter": {"_destroy": true}}), &[NO_FILTER]),
        (json!({"filter": {"enabled": true}}), &[]),
    ] {
        let changed = user.put(&path, &json!({"endpoint": change}))?.with(200)?;
        warned(&changed.json, expected)?;
    }
    Ok(())
}

fn warned(answer: &Value, expected: &[&str]) -> Result<()> {
    let warnings = answer["meta"]["warnings"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let warnings: Vec<&str> = warnings.iter().filter_map(Value::as_str).collect();
    ensure!(
        warnings.len() == expected.len(),
        "{answer:#}, not {expected:?}"
    );
    let all = expected
        .iter()
        .all(|text| warnings.iter().any(|warning| warning.contains(text)));
    ensure!(all, "{answer:#}, not {expected:?}");
    Ok(())
}

fn a_misspelled_attribute_is_refused_and_what_answers_have_is_not(world: &World) -> Result<()> {
    let user = world.account();
    let good = json!({"name": "a", "url": "http://127.0.0.1:1024/", "filter": {}});
    for misspelled in ["aktive", "filters", "retry-delays", "urls"] {
        let mut endpoint = good.clone();
        endpoint[misspelled] = json!([]);
        let said = user.post("/endpoints", &json!({"endpoint": endpoint}))?;
        let place = format!("/data/attributes/{misspelled}");
        said.refused(422, "is not an attribute of an endpoint", &place)?;
    }
    let made = user
        .post("/endpoints", &json!({"endpoint": good}))?
        .with(201)?;
    let id = text(&made.json["data"]["id"])?;
    // As a client sends back what it was shown.
    let mut shown = made.json["data"]["attributes"].clone();
    shown["id"] = id.as_str().into();
    if let Some(shown) = shown.as_object_mut() {
        shown.remove("settings");
    }
    let path = format!("/endpoints/{id}");
    user.put(&path, &json!({"endpoint": shown}))?.with(200)?;
    let said = user.put(&path, &json!({"endpoint": {"pausd": true}}))?;
    said.refused(
        422,
        "is not an attribute of an endpoint",
        "/data/attributes/pausd",
    )
}

/// What listens there does as anybody says; nothing is sent to find that out.
fn ports_of_other_services_are_refused(world: &World) -> Result<()> {
    let user = world.account();
    let good = json!({"name": "a", "url": "https://example.org:8443/"});
    let path = format!("/endpoints/{}", user.endpoint(&good)?);
    for port in [22, 25, 143, 993, 2375, 6379, 9200, 10080] {
        let change = json!({"url": format!("http://example.org:{port}/")});
        let mut made = change.clone();
        made["name"] = "b".into();
        let detail = format!("port {port} is not one of webhooks");
        for said in [
            user.post("/endpoints", &json!({"endpoint": made}))?,
            user.put(&path, &json!({"endpoint": change}))?,
        ] {
            said.refused(422, &detail, "/data/attributes/url")?;
        }
    }
    ensure!(user.names("")? == ["a"]);
    Ok(())
}
