//! Lists: search, order, parts and the links between them.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::setup::{User, World, cases, text};

cases![
    a_list_tells_how_much_there_is_and_leads_to_the_rest,
    links_keep_the_parameters_of_the_request,
    links_are_what_the_client_of_a_trusted_proxy_sees,
    a_list_is_sorted_by_name_url_or_active,
    an_unknown_order_is_refused,
    a_search_finds_text_in_name_or_url,
    a_search_by_fields_needs_all_of_them,
    a_search_that_makes_no_sense_is_refused,
    a_search_has_so_many_conditions_and_characters_at_most,
    percent_and_underscore_mean_themselves,
    a_part_that_is_no_number_is_refused,
];

fn filled<'a>(world: &'a World, names: &[&str]) -> Result<User<'a>> {
    let user = world.account();
    for name in names {
        user.endpoint(&json!({"name": name, "url": format!("http://{name}.example/")}))?;
    }
    Ok(user)
}

fn a_list_tells_how_much_there_is_and_leads_to_the_rest(world: &World) -> Result<()> {
    let user = filled(world, &["a", "b", "c", "d", "e"])?;
    let said = user.get("/endpoints")?.with(200)?;
    ensure!(said.json["meta"] == json!({"total": 5, "limit": 10, "offset": 0}));
    let links = &said.json["links"];
    ensure!(links["next"] == Value::Null && links["previous"] == Value::Null);
    // From the first part to the last, and back.
    let address = world.server.address()?;
    let base = format!("http://{address}/api/hooks/endpoints");
    let mut link = format!("{base}?limit=2");
    let mut seen = Vec::new();
    let last = loop {
        let path = link.strip_prefix(&format!("http://{address}/api/hooks"));
        let said = user.get(path.unwrap_or_default())?.with(200)?;
        for one in said.json["data"].as_array().into_iter().flatten() {
            seen.push(text(&one["attributes"]["name"])?);
        }
        match said.json["links"]["next"].as_str() {
            Some(next) => next.clone_into(&mut link),
            None => break said,
        }
    };
    ensure!(seen == ["a", "b", "c", "d", "e"], "{seen:?}");
    ensure!(last.json["meta"] == json!({"total": 5, "limit": 2, "offset": 4}));
    let expected = json!({
        "first": format!("{base}?limit=2&offset=0"), "last": format!("{base}?limit=2&offset=3"),
        "previous": format!("{base}?limit=2&offset=2")});
    ensure!(last.json["links"] == expected, "{}", last.json["links"]);
    Ok(())
}

fn links_keep_the_parameters_of_the_request(world: &World) -> Result<()> {
    let user = filled(world, &["a", "b", "c"])?;
    let said = user.get("/endpoints?order=url+desc&q=example&limit=1&offset=1&x=%26")?;
    let links = &said.with(200)?.json["links"];
    for name in ["first", "last", "next", "previous"] {
        let link = text(&links[name])?;
        ensure!(
            link.contains("?order=url+desc&q=example&x=%26&limit=1&offset="),
            "{link}"
        );
    }
    Ok(())
}

fn links_are_what_the_client_of_a_trusted_proxy_sees(world: &World) -> Result<()> {
    let forwarded = |user: User<'_>| -> Result<String> {
        let user = user
            .header("X-Forwarded-Proto", "https")
            .header("X-Forwarded-Host", "hooks.example.org");
        text(&user.get("/apps")?.with(200)?.json["links"]["first"])
    };
    let link = forwarded(world.account())?;
    ensure!(
        link.starts_with("https://hooks.example.org/api/hooks/apps?"),
        "{link}"
    );
    let link = forwarded(world.strict_admin())?;
    let address = world.strict.address()?;
    ensure!(
        link.starts_with(&format!("http://{address}/api/")),
        "{link}"
    );
    Ok(())
}

fn a_list_is_sorted_by_name_url_or_active(world: &World) -> Result<()> {
    let user = world.account();
    for (name, url, active) in [
        ("b", "http://1/", true),
        ("a", "http://3/", true),
        ("c", "http://2/", false),
    ] {
        user.endpoint(&json!({"name": name, "url": url, "active": active}))?;
    }
    for (query, expected) in [
        ("", ["a", "b", "c"]),
        ("order=name", ["a", "b", "c"]),
        ("order=name%20asc", ["a", "b", "c"]),
        ("order=name+DESC", ["c", "b", "a"]),
        ("order=url", ["b", "c", "a"]),
        ("order=url+desc", ["a", "c", "b"]),
        ("order=active", ["c", "b", "a"]),
        ("order=active+desc", ["b", "a", "c"]),
    ] {
        let names = user.names(query)?;
        ensure!(names == expected, "{query}: {names:?}");
    }
    Ok(())
}

fn an_unknown_order_is_refused(world: &World) -> Result<()> {
    for (query, shown) in [
        ("bogus", "bogus"),
        ("name+up", "name up"),
        ("name+asc+x", "name asc x"),
        ("id", "id"),
        ("name;drop", "name;drop"),
    ] {
        let said = world.account().get(&format!("/endpoints?order={query}"))?;
        said.refused(422, &format!("Unknown sort order '{shown}'"), "order")?;
    }
    Ok(())
}

fn a_search_finds_text_in_name_or_url(world: &World) -> Result<()> {
    let user = world.account();
    for (name, url) in [
        ("good", "http://one/"),
        ("bad", "http://Good/"),
        ("other", "http://two/"),
    ] {
        user.endpoint(&json!({"name": name, "url": url}))?;
    }
    for (query, expected) in [
        ("q=good", &["bad", "good"][..]),
        ("q=GOOD", &["bad", "good"]),
        ("q=http", &["bad", "good", "other"]),
        ("q=", &["bad", "good", "other"]),
        ("q=nothing", &[]),
    ] {
        let names = user.names(query)?;
        ensure!(names == expected, "{query}: {names:?}");
    }
    Ok(())
}

fn a_search_by_fields_needs_all_of_them(world: &World) -> Result<()> {
    let user = filled(world, &["alpha", "beta"])?;
    for (query, expected) in [
        ("q=name~ALPHA", &["alpha"][..]),
        ("q=url~beta", &["beta"]),
        ("q=name~a,url~b", &["beta"]),
        ("q=name~a,url~example", &["alpha", "beta"]),
        ("q=name~alpha,url~beta", &[]),
    ] {
        let names = user.names(query)?;
        ensure!(names == expected, "{query}: {names:?}");
    }
    let said = user.get("/endpoints?q=name~alpha")?;
    ensure!(said.json["meta"]["total"] == 1);
    Ok(())
}

fn a_search_that_makes_no_sense_is_refused(world: &World) -> Result<()> {
    for (query, detail) in [
        ("test_field~test_val", "test_field is not marked searchable"),
        ("active~true", "active is not marked searchable"),
        (
            "test,bleh",
            "test is not valid search codition, should be field~value",
        ),
        (
            "name~a,bleh",
            "bleh is not valid search codition, should be field~value",
        ),
        (
            "name~",
            "name~ is not valid search codition, should be field~value",
        ),
    ] {
        let said = world.account().get(&format!("/endpoints?q={query}"))?;
        said.refused(422, detail, "q")?;
    }
    Ok(())
}

fn a_search_has_so_many_conditions_and_characters_at_most(world: &World) -> Result<()> {
    let user = filled(world, &["alpha"])?;
    let conditions = |count: usize| vec!["name~a"; count].join(",");
    ensure!(user.names(&format!("q={}", conditions(20)))? == ["alpha"]);
    for count in [21, 290] {
        let said = user.get(&format!("/endpoints?q={}", conditions(count)))?;
        said.refused(422, "has too many conditions (maximum is 20)", "q")?;
    }
    // As long in the pattern as it can be: each is escaped, or becomes more in lower case.
    for longest in ["_".repeat(2048), "%C4%B0".repeat(2048)] {
        ensure!(user.names(&format!("q={longest}"))?.is_empty());
        ensure!(
            user.names(&format!("q=name~{}", &longest[..1200]))?
                .is_empty()
        );
    }
    for count in [2049, 20_001] {
        let said = user.get(&format!("/endpoints?q={}", "x".repeat(count)))?;
        said.refused(422, "is too long (maximum is 2048 characters)", "q")?;
    }
    Ok(())
}

fn percent_and_underscore_mean_themselves(world: &World) -> Result<()> {
    let user = world.account();
    for name in ["100%", "a_b", "acb", "back\\slash"] {
        user.endpoint(&json!({"name": name, "url": "http://example.org/"}))?;
    }
    for (query, expected) in [
        ("q=%25", &["100%"][..]),
        ("q=_", &["a_b"]),
        ("q=name~a_b", &["a_b"]),
        ("q=%5C", &["back\\slash"]),
    ] {
        let names = user.names(query)?;
        ensure!(names == expected, "{query}: {names:?}");
    }
    Ok(())
}

fn a_part_that_is_no_number_is_refused(world: &World) -> Result<()> {
    for (query, parameter) in [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=many", "limit"),
        ("offset=-1", "offset"),
        ("offset=1e3", "offset"),
    ] {
        let said = world.account().get(&format!("/endpoints?{query}"))?;
        said.refused(422, "is not a number of at least", parameter)?;
    }
    let said = world
        .account()
        .get("/endpoints?limit=5000&offset=7")?
        .with(200)?;
    ensure!(said.json["meta"] == json!({"total": 0, "limit": 1000, "offset": 7}));
    Ok(())
}
