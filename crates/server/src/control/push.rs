//! Listeners and registrations of mail push over the control socket.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use dovecast_log::Log;
use dovecast_operations::push::{PushUser, TestedDevice, said};
use dovecast_store::SubscriptionRecord;

use super::deliveries::body;
use super::{Control, Failure, json};

/// `GET /v1/push/users`.
pub(super) async fn users(
    State(control): State<Control>,
) -> Result<Json<Vec<json::PushUserLine>>, Failure> {
    let (acts, operator) = control.push()?;
    let users = acts.push_users(&operator).await?;
    Ok(Json(users.iter().map(json::PushUserLine::from).collect()))
}

/// `GET /v1/push/clients`.
pub(super) async fn clients(
    State(control): State<Control>,
) -> Result<Json<Vec<json::PushClientLine>>, Failure> {
    let (acts, operator) = control.push()?;
    let clients = acts.push_clients(&operator).await?;
    let line = |one: dovecast_store::PushClient| json::PushClientLine {
        context: one.person.context.to_string(),
        user: one.person.user.to_string(),
        client: one.client,
    };
    Ok(Json(clients.into_iter().map(line).collect()))
}

/// `POST /v1/push/unregister`.
pub(super) async fn unregister(
    State(control): State<Control>,
    named: Result<Json<json::PushRegistration>, JsonRejection>,
) -> Result<Json<json::Unregistered>, Failure> {
    let named = body(named)?;
    let (acts, operator) = control.push()?;
    let whose = (&*named.context, &*named.user);
    let deleted = acts.unregister(&operator, whose, &named.client).await?;
    Ok(Json(json::Unregistered { deleted }))
}

/// `POST /v1/push/explain`.
pub(super) async fn explain(
    State(control): State<Control>,
    person: Result<Json<json::PushPerson>, JsonRejection>,
) -> Result<Json<json::ExplainedListener>, Failure> {
    let person = body(person)?;
    let (acts, operator) = control.push()?;
    let whose = (&*person.context, &*person.user);
    let decision = acts.explain_listener(&operator, whose).await?;
    Ok(Json(json::ExplainedListener {
        source: decision.outcome.ok().map(|kind| kind.name().to_owned()),
        steps: decision.steps,
    }))
}

/// `POST /v1/push/devices`.
pub(super) async fn devices(
    State(control): State<Control>,
    named: Result<Json<json::PushDevices>, JsonRejection>,
) -> Result<Json<Vec<json::DeviceLine>>, Failure> {
    let named = body(named)?;
    let (acts, operator) = control.push()?;
    let client = named.client.as_deref();
    let found = acts.devices(&operator, whose(&named), client).await?;
    Ok(Json(found.iter().map(json::DeviceLine::from).collect()))
}

/// `POST /v1/push/test`.
pub(super) async fn test(
    State(control): State<Control>,
    named: Result<Json<json::PushDevices>, JsonRejection>,
) -> Result<Json<Vec<json::TestedLine>>, Failure> {
    let named = body(named)?;
    let (acts, operator) = control.push()?;
    let client = named.client.as_deref();
    let tested = acts.test_devices(&operator, whose(&named), client).await?;
    let line = |tested: &TestedDevice| json::TestedLine {
        device: (&tested.record).into(),
        accepted: matches!(&tested.test, Ok(test) if test.is_accepted),
        answer: match &tested.test {
            Ok(test) => said(&test.answer),
            Err(reason) => reason.clone(),
        },
    };
    Ok(Json(tested.iter().map(line).collect()))
}

/// `POST /v1/push/why`.
pub(super) async fn why(
    State(control): State<Control>,
    named: Result<Json<json::PushDevices>, JsonRejection>,
) -> Result<Json<json::WhySilent>, Failure> {
    let named = body(named)?;
    let (acts, operator) = control.push()?;
    let client = named.client.as_deref();
    let history = acts.why_silent(&operator, whose(&named), client).await?;
    let decision = acts.explain_listener(&operator, whose(&named)).await?;
    let user = acts.push_user(&operator, whose(&named)).await?;
    let mut person = vec![events(&control).await?];
    person.extend(decision.steps.into_iter().next_back());
    person.push(heard(user.as_ref()));
    let silent = history.into_iter().map(|one| json::SilentDevice {
        device: (&one.record).into(),
        hops: one.hops,
    });
    Ok(Json(json::WhySilent {
        person,
        devices: silent.collect(),
    }))
}

/// How far the events of the log are read.
async fn events(control: &Control) -> Result<String, Failure> {
    if !control.is_dispatched {
        return Ok("events: are read from Kafka".to_owned());
    }
    let group = format!("{}-push", control.dispatch.group);
    let groups = control.log.groups().await?;
    let behind: u64 = groups
        .iter()
        .filter(|one| one.group == group)
        .map(|one| one.end.saturating_sub(one.committed))
        .sum();
    Ok(match behind {
        0 => "events: all of the log are read".to_owned(),
        count => format!("events: {count} records of the log are not read yet"),
    })
}

/// By which source and on which node a mailbox is heard.
fn heard(user: Option<&PushUser>) -> String {
    let Some(user) = user else {
        return "heard: by no source".to_owned();
    };
    let source = user.source.name();
    let how_long = if user.is_permanent {
        "with or without a session"
    } else {
        "as long as there is a session"
    };
    let node = match &user.node {
        Some(node) => format!("on the node `{node}`"),
        None => "on no node yet".to_owned(),
    };
    let trouble = user.trouble.as_ref().map(|(trouble, since_ms)| {
        let since = jiff::Timestamp::from_millisecond(*since_ms).unwrap_or_default();
        format!(", but not since {since:.0}: {trouble}")
    });
    let trouble = trouble.unwrap_or_default();
    format!("heard: by `{source}`, {how_long}, {node}{trouble}")
}

fn whose(named: &json::PushDevices) -> (&str, &str) {
    (&named.context, &named.user)
}

impl From<&SubscriptionRecord> for json::DeviceLine {
    fn from(record: &SubscriptionRecord) -> Self {
        let one = &record.subscription;
        let answer = record.answer.as_ref().map(|answer| json::DeviceAnswer {
            time_ms: answer.time_ms,
            status: answer.status,
            reason: answer.reason.clone(),
        });
        Self {
            id: one.id.to_string(),
            client: one.client.clone(),
            transport: one.transport.name().to_owned(),
            topics: one.wishes.topics.names().map(str::to_owned).collect(),
            last_four: record.last_four.clone(),
            created_ms: record.created_ms,
            expires_ms: one.expires_ms,
            answer,
        }
    }
}

impl From<&PushUser> for json::PushUserLine {
    fn from(user: &PushUser) -> Self {
        Self {
            context: user.person.context.to_string(),
            user: user.person.user.to_string(),
            permanent: user.is_permanent,
            source: user.source.name().to_owned(),
            node: user.node.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use dovecast_mail_push::Person;
    use dovecast_mail_push::listener::SourceKind;

    use super::*;

    #[test]
    fn source_and_node_of_who_is_heard_are_named() {
        let mut user = PushUser {
            person: Person::new("3", "11", "11@3").expect("a person"),
            is_permanent: true,
            source: SourceKind::ImapIdle,
            node: Some("mx1/7".to_owned()),
            trouble: None,
        };
        assert_eq!(
            heard(Some(&user)),
            "heard: by `imapidle`, with or without a session, on the node `mx1/7`"
        );
        user.trouble = Some(("no connection".to_owned(), 1_700_000_000_123));
        assert_eq!(
            heard(Some(&user)),
            "heard: by `imapidle`, with or without a session, on the node `mx1/7`, but not since 2023-11-14T22:13:20Z: no connection"
        );
        (user.is_permanent, user.node, user.trouble) = (false, None, None);
        assert_eq!(
            heard(Some(&user)),
            "heard: by `imapidle`, as long as there is a session, on no node yet"
        );
        assert_eq!(heard(None), "heard: by no source");
    }
}
