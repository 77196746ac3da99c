//! What a registered application may change, in JSON and in YAML, and what it does to filters: told
//! by a dry run, shown, and delivered or not.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use serde_json::{Value, json};

use crate::deliveries::{ARRIVAL, account, fields, messages, send};
use crate::registration::shape;
use crate::setup::{Said, User, World, cases, text, unique};

cases![
    all_but_the_name_is_changed_by_json,
    all_but_the_name_is_changed_by_yaml,
    what_json_removes_is_delivered_no_more_and_nothing_else_instead,
    what_yaml_removes_is_delivered_no_more_and_nothing_else_instead,
];

/// In which form applications say what they send.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Yaml,
}

/// What an application says: ids and titles.
struct Definition {
    name: String,
    title: &'static str,
    event_types: Vec<EventType>,
}

type EventType = (&'static str, &'static str, &'static [Level]);
type Level = (&'static str, &'static str);

const LOW: Level = ("low", "Low");
const HIGH: Level = ("high", "High");
const PLAIN: EventType = ("plain", "Plain", &[]);
const GRADED: EventType = ("graded", "Graded", &[LOW, HIGH]);

impl Definition {
    fn json(&self) -> Value {
        let list = |of: &[Level]| -> Value {
            let list = of
                .iter()
                .map(|(id, title)| json!({"id": id, "title": title}));
            list.collect()
        };
        let event_types = self
            .event_types
            .iter()
            .map(|(id, title, levels)| json!({"id": id, "title": title, "levels": list(levels)}));
        json!({
            "application": {"name": self.name, "title": self.title},
            "event_types": event_types.collect::<Vec<_>>()})
    }

    /// As hooks-backend's description writes it.
    fn yaml(&self) -> Result<String> {
        let (name, title) = (&self.name, self.title);
        let mut yaml = format!("---\napplication:\n  name: {name}\n  title: {title}\n");
        yaml.push_str(if self.event_types.is_empty() {
            "event_types: []\n"
        } else {
            "event_types:\n"
        });
        for (id, title, levels) in &self.event_types {
            writeln!(yaml, "  - id: {id}\n    title: {title}")?;
            if levels.is_empty() {
                yaml.push_str("    levels: {} # This event type has no levels\n");
                continue;
            }
            yaml.push_str("    levels:\n");
            for (id, title) in *levels {
                writeln!(yaml, "      - id: {id}\n        title: {title}")?;
            }
        }
        Ok(yaml)
    }

    fn post(&self, world: &World, form: Form, query: &str) -> Result<Said> {
        let path = format!("/apps/register{query}");
        let said = match form {
            Form::Json => world.admin().post(&path, &self.json())?,
            Form::Yaml => {
                let user = world.admin().header("Content-Type", "application/yaml");
                user.ask("POST", &path, Some(&self.yaml()?))?
            }
        };
        said.with(200)
    }

    /// Asks what would change, then changes it; both have to say the same.
    fn register(&self, world: &World, form: Form) -> Result<Said> {
        let dry = self.post(world, form, "?dry_run=true")?;
        let done = self.post(world, form, "")?;
        for told in ["changes", "filters"] {
            let (dry, done) = (&dry.json["meta"][told], &done.json["meta"][told]);
            ensure!(dry == done, "{dry:#} would be, {done:#} is");
        }
        Ok(done)
    }
}

/// `+event_type graded low`, `-...`, `~...`, one by one.
fn changes(said: &Said) -> Vec<String> {
    let list = said.json["meta"]["changes"].as_array();
    let told = list.into_iter().flatten().map(|change| {
        let sign = match change["change"].as_str() {
            Some("added") => "+",
            Some("removed") => "-",
            Some("retitled") => "~",
            _ => "?",
        };
        let names = ["type", "event_type", "level"].map(|key| change[key].as_str());
        let names: Vec<&str> = names.into_iter().flatten().collect();
        format!("{sign}{}", names.join(" "))
    });
    told.collect()
}

fn all_but_the_name_is_changed_by_json(world: &World) -> Result<()> {
    all_but_the_name_is_changed(world, Form::Json)
}

fn all_but_the_name_is_changed_by_yaml(world: &World) -> Result<()> {
    all_but_the_name_is_changed(world, Form::Yaml)
}

fn all_but_the_name_is_changed(world: &World, form: Form) -> Result<()> {
    let name = unique("app");
    let mut id = Value::Null;
    // Title, event types; what is told, and what is there then.
    let steps: [(&str, &[EventType], &[&str], &str); 10] = [
        (
            "One",
            &[PLAIN, GRADED],
            &[
                "+app",
                "+event_type plain",
                "+event_type graded",
                "+level graded low",
                "+level graded high",
            ],
            "plain[] graded[low high]",
        ),
        // At each start, whether anything is different or not.
        ("One", &[PLAIN, GRADED], &[], "plain[] graded[low high]"),
        (
            "Two",
            &[PLAIN, GRADED],
            &["~app"],
            "plain[] graded[low high]",
        ),
        // The order alone is nothing to tell of, and is shown.
        ("Two", &[GRADED, PLAIN], &[], "graded[low high] plain[]"),
        (
            "Two",
            &[("graded", "Graded", &[HIGH, LOW]), PLAIN],
            &[],
            "graded[high low] plain[]",
        ),
        (
            "Two",
            &[("graded", "Ranked", &[("high", "Higher"), LOW]), PLAIN],
            &["~event_type graded", "~level graded high"],
            "graded[high low] plain[]",
        ),
        // A level of this name is another one in another event type.
        (
            "Two",
            &[
                ("graded", "Ranked", &[("high", "Higher")]),
                ("plain", "Plain", &[LOW]),
                ("new", "New", &[]),
            ],
            &["-level graded low", "+level plain low", "+event_type new"],
            "graded[high] plain[low] new[]",
        ),
        (
            "Two",
            &[("plain", "Plain", &[LOW])],
            &["-event_type graded", "-event_type new"],
            "plain[low]",
        ),
        ("Two", &[], &["-event_type plain"], ""),
        ("Two", &[PLAIN], &["+event_type plain"], "plain[]"),
    ];
    for (title, event_types, told, there) in steps {
        let definition = Definition {
            name: name.clone(),
            title,
            event_types: event_types.to_vec(),
        };
        let said = definition.register(world, form)?;
        ensure!(changes(&said) == told, "{:#}", said.json["meta"]);
        ensure!(shape(&said) == there, "{}", shape(&said));
        ensure!(said.json["data"]["attributes"] == json!({"name": name, "title": title}));
        let found = &said.json["data"]["id"];
        ensure!(id.is_null() || id == *found, "it is another application");
        id = found.clone();
        let shown = world.account().get(&format!("/apps/{}", text(&id)?))?;
        ensure!(shown.json["data"] == said.json["data"]);
        ensure!(shown.json["included"] == said.json["included"]);
    }
    // By another name it is another application, and this one stays.
    let other = Definition {
        name: unique("app"),
        title: "Two",
        event_types: vec![PLAIN],
    };
    ensure!(other.register(world, form)?.json["data"]["id"] != id);
    world
        .account()
        .get(&format!("/apps/{}", text(&id)?))?
        .with(200)?;
    Ok(())
}

/// An endpoint with a filter, and what has come.
struct Watched {
    id: String,
    name: String,
    sink: HookEndpoint,
    /// Messages that are to have come by now.
    expected: Vec<String>,
}

impl Watched {
    fn new(user: &User<'_>, filter: &Value) -> Result<Self> {
        let sink = HookEndpoint::start()?;
        let made = fields(&sink, filter);
        Ok(Self {
            id: user.endpoint(&made)?,
            name: text(&made["name"])?,
            sink,
            expected: Vec::new(),
        })
    }
}

/// Sends one notification of each kind; an endpoint is to get those that stand beside it, by event
/// type and level.
fn deliver(
    world: &World,
    (number, app): (&str, &str),
    round: &str,
    wanted: &mut [(&mut Watched, &[&str])],
) -> Result<()> {
    for kind in [
        "plain",
        "plain low",
        "graded",
        "graded low",
        "graded high",
        "other",
    ] {
        let (event_type, level) = kind.split_once(' ').unwrap_or((kind, ""));
        let message = format!("{round}: {kind}");
        let mut words = vec!["--application", app, "--event-type", event_type];
        words.extend(["--message", &message]);
        if !level.is_empty() {
            words.extend(["--level", level]);
        }
        let mut explain = vec!["explain", "--account-id", number];
        explain.extend(&words);
        let explained = world.server.run(explain)?;
        for (watched, kinds) in &mut *wanted {
            let line = explained.lines().find(|line| line.starts_with(&watched.id));
            let line = line.context("it is not told of")?;
            let is_wanted = kinds.contains(&kind);
            ensure!(line.ends_with("yes") == is_wanted, "{message}: {line}");
            if is_wanted {
                watched.expected.push(message.clone());
            }
        }
        send(&world.server, number, &words)?;
    }
    Ok(())
}

fn what_json_removes_is_delivered_no_more_and_nothing_else_instead(world: &World) -> Result<()> {
    what_is_removed_is_delivered_no_more(world, Form::Json)
}

fn what_yaml_removes_is_delivered_no_more_and_nothing_else_instead(world: &World) -> Result<()> {
    what_is_removed_is_delivered_no_more(world, Form::Yaml)
}

fn what_is_removed_is_delivered_no_more(world: &World, form: Form) -> Result<()> {
    let (user, number) = account(world)?;
    let mut definition = Definition {
        name: unique("app"),
        title: "T",
        event_types: vec![PLAIN, GRADED],
    };
    let app = crate::setup::App::of(&definition.register(world, form)?)?;
    let name = definition.name.clone();
    let about = (&*number, &*name);
    let both = json!({"app_ids": [app.id], "event_type_ids": [app.plain], "level_ids": [app.low]});
    let mut watched = [
        Watched::new(&user, &json!({"event_type_ids": [app.plain, app.graded]}))?,
        Watched::new(&user, &json!({"level_ids": [app.low, app.high]}))?,
        Watched::new(&user, &both)?,
        Watched::new(&user, &json!({"app_ids": [app.id]}))?,
    ];
    let all = [
        "plain",
        "plain low",
        "graded",
        "graded low",
        "graded high",
        "other",
    ];
    let (low, high) = (["graded low"], ["graded low", "graded high"]);
    let round = |number, kinds: [&[&str]; 4], watched: &mut [Watched; 4]| {
        let mut wanted: Vec<_> = watched.iter_mut().zip(kinds).collect();
        deliver(world, about, number, &mut wanted)
    };
    // The filter of the third names a level of another event type: nothing is both.
    round("1", [&all[..5], &high, &[], &all], &mut watched)?;

    // A level goes: the rest of the set stays.
    definition.event_types = vec![PLAIN, ("graded", "Graded", &[LOW])];
    stale(&definition.register(world, form)?, &[(&watched[1], &[])])?;
    round("2", [&all[..5], &low, &[], &all], &mut watched)?;

    // An event type goes, and with it all levels that anybody has chosen: what is empty now matches
    // nothing.
    definition.event_types = vec![PLAIN];
    let said = definition.register(world, form)?;
    let levels: &[&str] = &["levels"];
    let told = [(0, &[][..]), (1, levels), (2, levels)];
    stale(&said, &told.map(|(place, sets)| (&watched[place], sets)))?;
    round("3", [&all[..2], &[], &[], &all], &mut watched)?;

    definition.event_types = vec![];
    let said = definition.register(world, form)?;
    let types: &[&str] = &["event_types"];
    stale(&said, &[(&watched[0], types), (&watched[2], types)])?;
    round("4", [&[], &[], &[], &all], &mut watched)?;

    // What is registered again under the same names is what was chosen, and nothing more.
    definition.event_types = vec![PLAIN, GRADED];
    let said = definition.register(world, form)?;
    let restored = [0, 1, 2].map(|place| (&watched[place], &[][..]));
    stale(&said, &restored)?;
    round("5", [&all[..5], &high, &[], &all], &mut watched)?;

    // Only a person makes them match anything else.
    let again = crate::setup::App::of(&said)?;
    let filters = [
        json!({"event_type_ids": [again.plain]}),
        json!({"level_ids": [again.high]}),
        json!({"app_ids": [again.id]}),
        json!({}),
    ];
    for (watched, filter) in watched.iter().zip(&filters) {
        let change = json!({"endpoint": {"filter": filter}});
        user.put(&format!("/endpoints/{}", watched.id), &change)?
            .with(200)?;
    }
    round("6", [&all[..2], &["graded high"], &all, &all], &mut watched)?;
    for mut watched in watched {
        let count = watched.expected.len();
        let mut found = messages(&watched.sink.wait_for(count, ARRIVAL)?)?;
        found.sort();
        watched.expected.sort();
        let (name, expected) = (&watched.name, &watched.expected);
        ensure!(found == *expected, "{name}: {found:#?}, not {expected:#?}");
    }
    Ok(())
}

/// Fails unless the registration has told of these filters, and of what is empty in them now.
fn stale(said: &Said, expected: &[(&Watched, &[&str])]) -> Result<()> {
    let list = said.json["meta"]["filters"].as_array().context("no list")?;
    let told = |filter: &Value| {
        (
            filter["endpoint_id"].clone(),
            filter["becomes_stale"].clone(),
        )
    };
    let mut told: Vec<_> = list.iter().map(told).collect();
    let mut expected: Vec<_> = expected
        .iter()
        .map(|(watched, sets)| (json!(watched.id), json!(sets)))
        .collect();
    told.sort_by_key(|(id, _)| id.to_string());
    expected.sort_by_key(|(id, _)| id.to_string());
    ensure!(told == expected, "{told:?}, not {expected:?}");
    Ok(())
}
