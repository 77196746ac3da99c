//! Scripts that speak HTTP with the distribution's lua-socket.

use anyhow::Result;

use crate::cases;
use crate::receiver::Receiver;
use crate::script::{Script, event, mail};

cases!(
    lua_socket_posts_a_mail,
    lua_socket_posts_a_mailbox_with_its_status,
    the_example_of_the_documentation_runs,
);

async fn lua_socket_posts_a_mail() -> Result<()> {
    let receiver = Receiver::start("200 OK")?;
    let script = Script::with(
        "socket",
        "
local http = require('socket.http')
local url = require('socket.url')
function dovecot_lua_notify_begin_txn(user)
  say_into(user)
  return {to = user:plugin_getenv('endpoint'), who = user.username, mails = {}}
end
function dovecot_lua_notify_event_message_new(ctx, event) table.insert(ctx.mails, event) end
dovecot_lua_notify_event_message_append = dovecot_lua_notify_event_message_new
function dovecot_lua_notify_end_txn(ctx, success)
  for _, mail in ipairs(ctx.mails) do
    local body = 'from=' .. url.escape(mail.from) .. '&subject=' .. url.escape(mail.subject or '') ..
      '&user=' .. url.escape(ctx.who)
    local answer, code = http.request(ctx.to, body)
    say(answer, code)
  end
end
",
        |options| {
            let to = format!("http://{}/handler?x=1", receiver.address);
            options.plugin.insert("endpoint".to_owned(), to);
        },
    )?;
    script.done(&[mail(1), mail(2)]).await?;
    assert_eq!(script.said()?, ["ok 200", "ok 200"]);
    let requests = receiver.take();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].line, "POST /handler?x=1 HTTP/1.1");
    let body = "from=%3d%3futf%2d8%3fq%3fBob_%3dC3%3d84%3f%3d%20%3cbob%40example%2eorg%3e&\
        subject=Gr%c3%bc%c3%9fe&user=alice%40example%2ecom";
    assert_eq!(requests[0].body, body);
    let form = "content-type: application/x-www-form-urlencoded".to_owned();
    assert!(requests[0].headers.contains(&form), "{requests:?}");
    Ok(())
}

async fn lua_socket_posts_a_mailbox_with_its_status() -> Result<()> {
    let receiver = Receiver::start("202 Accepted")?;
    let script = Script::with(
        "ltn12",
        "
local http = require 'socket.http'
local ltn12 = require 'ltn12'
function script_init() return 0 end
function dovecot_lua_notify_begin_txn(user)
  return {user = user, event = dovecot.event(), to = user:plugin_getenv('endpoint'), seen = {}}
end
function dovecot_lua_notify_event_message_append(ctx, event)
  local mailbox = ctx.user:mailbox(event.mailbox)
  mailbox:sync()
  ctx.seen[event.mailbox] = mailbox:status(dovecot.storage.STATUS_UNSEEN, dovecot.storage.STATUS_MESSAGES)
  mailbox:free()
end
function dovecot_lua_notify_end_txn(ctx)
  for name, status in pairs(ctx.seen) do
    local e = dovecot.event(ctx.event)
    e:set_name('mailbox_finished')
    local body = status.mailbox .. ':' .. status.unseen .. ':' .. status.messages
    local _, code = http.request({method = 'PUT', url = ctx.to, source = ltn12.source.string(body),
      headers = {['content-type'] = 'text/plain', ['content-length'] = tostring(#body)}})
    e:add_int('result_code', code)
    e:log_info('status ' .. tostring(code))
  end
end
",
        |options| {
            let to = format!("http://{}/", receiver.address);
            options.plugin.insert("endpoint".to_owned(), to);
        },
    )?;
    let append = event(
        "MessageAppend",
        "Sent",
        serde_json::json!({"uidvalidity": 3, "uid": 1}),
    );
    script.done(&[append]).await?;
    let requests = receiver.take();
    assert_eq!(
        (&*requests[0].line, &*requests[0].body),
        ("PUT / HTTP/1.1", "Sent:2.0:3.0")
    );
    let log = script.log();
    assert!(
        log.contains("status 202") && log.contains("fields=\"result_code=202\""),
        "{log}"
    );
    Ok(())
}

/// The script of docs/drivers/lua.md.
async fn the_example_of_the_documentation_runs() -> Result<()> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/drivers/lua.md");
    let page = std::fs::read_to_string(page)?;
    let example = page
        .split("```lua\n")
        .nth(1)
        .and_then(|it| it.split("```").next());
    let example = example.ok_or_else(|| anyhow::anyhow!("no example"))?;
    for status in ["200 OK", "503 Service Unavailable"] {
        let receiver = Receiver::start(status)?;
        let script = Script::with(&format!("docs {status}"), example, |options| {
            let to = format!("http://{}/handler", receiver.address);
            options.plugin.insert("push_lua_url".to_owned(), to);
        })?;
        if status == "200 OK" {
            script.done(&[mail(1)]).await?;
        } else {
            let (reason, _) = script.fails(&[mail(1)]).await?;
            assert!(reason.contains("the endpoint says 503"), "{reason}");
        }
        let body = "user=alice%40example%2ecom&from=bob%40example%2eorg&unseen=2.0";
        let requests = receiver.take();
        assert_eq!(requests.len(), 1);
        assert_eq!(
            (&*requests[0].line, &*requests[0].body),
            ("POST /handler HTTP/1.1", body)
        );
    }
    Ok(())
}
