//! Accounts that are domains (`event_account = "domain"`): in which case a domain is written says
//! nothing, neither in the number of an account nor in the name of a user.

use anyhow::{Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

use crate::ox::{PASSWORD, login, mail, put};
use crate::setup::{User, World, bearer, cases, text};
use crate::sources::message;

cases![an_account_gets_the_mail_of_its_domain_in_whatever_case_that_is_written];

const ARRIVAL: std::time::Duration = dovecast_testkit::PATIENCE;

/// An account, and its endpoint that gets everything.
fn account<'a>(server: &'a Server, number: &str) -> Result<(User<'a>, HookEndpoint, String)> {
    let admin = bearer(server, &server.admin_token()?);
    let fields = json!({"token": {"name": "t", "scope": "account", "account_number": number}});
    let made = admin.post("/tokens", &fields)?.with(201)?;
    let user = bearer(server, &text(&made.json["meta"]["token"])?);
    let sink = HookEndpoint::start()?;
    let id = user.endpoint(&json!({"name": "e", "url": sink.url(), "filter": {}}))?;
    Ok((user, sink, id))
}

fn told(server: &Server, user: &str, uid: u32) -> Result<()> {
    let answer = put(server, Some(&login()), mail(user, uid).to_string())?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// Users of the mails, or applications of the messages, that have come.
fn come(sink: &HookEndpoint, count: usize) -> Result<Vec<String>> {
    let hooks = sink.wait_for(count, ARRIVAL)?;
    let name = |body: &str| -> Result<String> {
        let body: Value = serde_json::from_str(body)?;
        text(match &body["message"]["user"] {
            Value::Null => &body["application"],
            user => user,
        })
    };
    let mut names = hooks
        .iter()
        .map(|hook| name(&hook.body))
        .collect::<Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

fn an_account_gets_the_mail_of_its_domain_in_whatever_case_that_is_written(
    world: &World,
) -> Result<()> {
    let config = format!(
        "[dispatch]\nallowed_networks = ['127.0.0.0/8']\nevent_account = 'domain'\n\
         [ox]\nuser = 'dovecot'\npassword = '{PASSWORD}'"
    );
    let mut server = world.fresh()?.0.config(&config).start()?;
    {
        let (capital, of_capital, id) = account(&server, "X.Example")?;
        let (_, of_other, _) = account(&server, "y.example")?;
        told(&server, "a@x.example", 1)?;
        told(&server, "b@X.EXAMPLE", 2)?;
        told(&server, "c@y.example", 3)?;
        ensure!(come(&of_capital, 2)? == ["a@x.example", "b@X.EXAMPLE"]);
        ensure!(come(&of_other, 1)? == ["c@y.example"]);
        // What is read again later is matched by the filter itself.
        let path = format!("/endpoints/{id}");
        let pause = |paused: bool| {
            let change = json!({"endpoint": {"paused": paused}});
            capital.put(&path, &change)?.with(200)
        };
        pause(true)?;
        told(&server, "d@x.example", 4)?;
        told(&server, "e@y.example", 5)?;
        come(&of_other, 2)?;
        pause(false)?;
        come(&of_capital, 3)?;
        // Numbers in messages are what they are.
        let (_, of_small, _) = account(&server, "x.example")?;
        let admin = bearer(&server, &server.admin_token()?);
        for number in ["x.example", "X.Example"] {
            admin.post("/messages", &message(number))?.with(201)?;
        }
        told(&server, "f@x.example", 6)?;
        ensure!(come(&of_small, 2)? == ["a", "f@x.example"]);
        let expected = [
            "a",
            "a@x.example",
            "b@X.EXAMPLE",
            "d@x.example",
            "f@x.example",
        ];
        ensure!(come(&of_capital, 5)? == expected);
    }
    ensure!(server.stop()?.success());
    server.start_again()?;
    let line = "events of mail of one domain go to several accounts";
    server.log_with(&[line, "X.Example", "domain=\"x.example\""])?;
    Ok(())
}
