//! The examples of docs/push-api.md: each is asked for, and answered as the page says. A text that
//! ends with `...` stands for all that begin so.

use serde_json::Value;

use super::World;
use crate::config::Config;

const PAGE: &str = include_str!("../../../../../docs/push-api.md");

/// An example: the request with its body, the status and the body of the answer.
struct Example {
    method: String,
    path: String,
    body: Option<Value>,
    status: u16,
    answer: Option<Value>,
}

fn examples() -> Vec<Example> {
    let blocks = PAGE.split("```http\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap_or_default());
    let json = |text: &str| {
        let text = text.trim();
        (!text.is_empty()).then(|| serde_json::from_str(text).expect(text))
    };
    let examples = blocks.map(|block| {
        let (request, answer) = block.split_once("\n\n").expect("an answer");
        let (line, body) = request.split_once('\n').unwrap_or((request, ""));
        let (status, shown) = answer.split_once('\n').unwrap_or((answer, ""));
        let (method, path) = line.split_once(' ').expect("a request");
        Example {
            method: method.to_owned(),
            path: path.to_owned(),
            body: json(body),
            status: status.trim().parse().expect("a status"),
            answer: json(shown),
        }
    });
    examples.collect()
}

/// Whether an answer is what the page shows.
fn is_shown(shown: &Value, answer: &Value) -> bool {
    match (shown, answer) {
        (Value::String(shown), Value::String(text)) => match shown.strip_suffix("...") {
            Some(beginning) => text.starts_with(beginning),
            None => shown == text,
        },
        (Value::Array(shown), Value::Array(list)) => {
            let pairs = shown.iter().zip(list);
            shown.len() == list.len() && pairs.into_iter().all(|(one, other)| is_shown(one, other))
        }
        (Value::Object(shown), Value::Object(fields)) => {
            shown.len() == fields.len()
                && shown
                    .iter()
                    .all(|(name, one)| fields.get(name).is_some_and(|other| is_shown(one, other)))
        }
        (shown, answer) => shown == answer,
    }
}

#[tokio::test]
async fn the_examples_of_the_page_are_answered_as_it_says() {
    let world = World::new().await;
    let mut door = world.door(&Config::default());
    let mut id = String::new();
    let examples = examples();
    assert!(examples.len() >= 10, "{}", examples.len());
    for example in examples {
        let Example {
            method,
            path,
            body,
            status,
            answer,
        } = example;
        let path = path.replace("{id}", &id);
        let (said, json) = door.ask(&method, &path, body.as_ref()).await;
        assert_eq!(said.as_u16(), status, "{method} {path} {json}");
        let shown = answer.unwrap_or(Value::Null);
        assert!(
            is_shown(&shown, &json),
            "{method} {path}: {json} instead of {shown}"
        );
        if let Some(session) = json["session"].as_str() {
            door.token = Some(session.to_owned());
        }
        if let Some(made) = json["subscription"]["id"].as_str() {
            made.clone_into(&mut id);
        }
    }
}
