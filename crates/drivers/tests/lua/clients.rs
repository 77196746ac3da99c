//! Scripts that speak HTTP with Dovecot's client, `dovecot.http.client`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use dovecast_drivers::lua::Flavour;

use crate::cases;
use crate::receiver::Receiver;
use crate::script::{Script, mail};

cases!(
    the_client_of_dovecot_sends_what_a_script_says,
    a_script_of_2_4_sets_up_its_client_in_the_words_of_2_4,
    a_redirect_is_followed_as_far_as_the_script_says,
    an_answer_that_asks_for_it_has_the_request_sent_again,
    authorities_of_a_script_are_read_when_it_makes_its_client,
    what_fails_has_a_status_above_9000,
    wrong_settings_and_uses_of_the_client_are_errors,
);

async fn the_client_of_dovecot_sends_what_a_script_says() -> Result<()> {
    let receiver = Receiver::start("201 Created")?;
    let script = Script::with(
        "client",
        "
local client
function script_init() client = dovecot.http.client({timeout = 10000, debug = True, request_timeout_msecs = 5000}) end
function dovecot_lua_notify_begin_txn(user) say_into(user) return user:plugin_getenv('endpoint') end
function dovecot_lua_notify_event_message_new(to, event)
  local request = client:request({url = to .. 'a', method = 'POST'})
  request:add_header('content-type', 'text/one')
  request:add_header('Content-Type', 'text/plain')
  request:add_header('X-Gone', '1')
  request:remove_header('x-gone')
  request:set_payload('uid=' .. event.uid)
  local response = request:submit()
  say(response:status(), response:payload(), response:header('x-own'), response:header('none') == '')
  say(client:request({url = to .. 'b'}):submit():status())
end
function dovecot_lua_notify_end_txn() end
",
        |options| {
            let to = format!("http://{}/", receiver.address);
            options.plugin.insert("endpoint".to_owned(), to);
        },
    )?;
    script.done(&[mail(5)]).await?;
    assert_eq!(script.said()?, ["201 ok yes true", "201"]);
    let requests = receiver.take();
    let lines: Vec<_> = requests.iter().map(|it| &*it.line).collect();
    assert_eq!(lines, ["POST /a HTTP/1.1", "GET /b HTTP/1.1"]);
    assert_eq!(requests[0].body, "uid=5.0");
    let headers = &requests[0].headers;
    let types: Vec<_> = headers
        .iter()
        .filter(|it| it.starts_with("content-type"))
        .collect();
    assert_eq!(types, ["content-type: text/plain"]);
    assert!(
        !headers
            .iter()
            .any(|it| it.starts_with("x-gone") || it.starts_with("user-agent"))
    );
    Ok(())
}

async fn a_script_of_2_4_sets_up_its_client_in_the_words_of_2_4() -> Result<()> {
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = silent.local_addr()?;
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in silent.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            held.push(stream);
        }
    });
    let script = Script::with(
        "client_2_4",
        "
local client
function script_init(settings)
  client = dovecot.http.client({event_parent = dovecot.event(), request_max_attempts = 3,
    request_timeout = '200ms', connect_timeout = '2 secs', request_absolute_timeout = '45s',
    max_idle_time = 0, auto_redirect = 'no', ssl_min_protocol = 'TLSv1.2'})
end
function dovecot_lua_notify_begin_txn(user)
  say_into(user)
  local url = user:plugin_getenv('silent')
  say(client:request({url = url}):submit():status())
  local once = dovecot.http.client({request_timeout = '200ms', request_max_attempts = 3, auto_retry = 'no'})
  say(once:request({url = url}):submit():status())
  local function try(call) local _, error = pcall(call) say((tostring(error):match('[^\\n]*'))) end
  try(function() dovecot.http.client({timeout = 10000}) end)
  try(function() dovecot.http.client({request_timeout = 5000}) end)
end
function dovecot_lua_notify_event_message_new() end
function dovecot_lua_notify_end_txn() end
",
        |options| {
            options.flavour = Flavour::Dovecot24(BTreeMap::new());
            let plugin = &mut options.plugin;
            plugin.insert("silent".to_owned(), format!("http://{address}/"));
        },
    )?;
    script.done(&[mail(1)]).await?;
    let said = script.said()?;
    assert_eq!(said[..2], ["9008", "9008"]);
    assert!(
        said[2].ends_with("Invalid HTTP client setting: timeout is unknown setting"),
        "{said:?}"
    );
    assert!(said[3].contains("'5000' is missing units"), "{said:?}");
    assert_eq!(tries.load(Ordering::SeqCst), 3 + 1);
    Ok(())
}

async fn a_redirect_is_followed_as_far_as_the_script_says() -> Result<()> {
    let receiver = Receiver::start("302 Found\r\nLocation: /again")?;
    let script = Script::with(
        "redirect",
        "
function dovecot_lua_notify_begin_txn(user) say_into(user) return user:plugin_getenv('endpoint') end
function dovecot_lua_notify_event_message_new(url)
  for _, settings in ipairs({{}, {max_redirects = 1}, {no_auto_redirect = true}, {auto_redirect = 'no'}}) do
    local response = dovecot.http.client(settings):request({url = url}):submit()
    say(response:status(), response:header('location'))
  end
end
function dovecot_lua_notify_end_txn() end
",
        |options| {
            let to = format!("http://{}/", receiver.address);
            options.plugin.insert("endpoint".to_owned(), to);
        },
    )?;
    script.done(&[mail(1)]).await?;
    assert_eq!(
        script.said()?,
        ["9004 ", "9004 ", "302 /again", "302 /again"]
    );
    let requests = receiver.take();
    let lines = requests.iter().map(|it| &*it.line).collect::<Vec<_>>();
    let (first, again) = ("GET / HTTP/1.1", "GET /again HTTP/1.1");
    assert_eq!(lines, [first, first, again, first, first]);
    Ok(())
}

async fn an_answer_that_asks_for_it_has_the_request_sent_again() -> Result<()> {
    for (status, name, settings, requests) in [
        ("408 Request Timeout", "late", "{max_attempts = 3}", 3),
        (
            "503 Service Unavailable\r\nRetry-After: 0",
            "busy",
            "{request_max_attempts = 2}",
            2,
        ),
        (
            "503 Service Unavailable\r\nRetry-After: 9",
            "long",
            "{max_attempts = 2, max_auto_retry_delay_secs = 8}",
            1,
        ),
        ("503 Service Unavailable", "unsaid", "{max_attempts = 2}", 1),
        (
            "500 Internal Server Error",
            "broken",
            "{max_attempts = 2}",
            1,
        ),
    ] {
        let receiver = Receiver::start(status)?;
        let script = Script::with(
            name,
            &format!(
                "
function dovecot_lua_notify_begin_txn(user) say_into(user) return user:plugin_getenv('endpoint') end
function dovecot_lua_notify_event_message_new(url)
  local request = dovecot.http.client({settings}):request({{url = url}})
  local event = dovecot.event()
  say(request:get_event() ~= nil)
  request:set_event(event)
  say(request:get_event() == event)
  say(request:submit():status())
end
function dovecot_lua_notify_end_txn() end
"
            ),
            |options| {
                let to = format!("http://{}/", receiver.address);
                options.plugin.insert("endpoint".to_owned(), to);
            },
        )?;
        script.done(&[mail(1)]).await?;
        assert_eq!(script.said()?, ["true", "true", &status[..3]], "{status}");
        assert_eq!(receiver.take().len(), requests, "{status}");
    }
    Ok(())
}

/// That a script has said so many texts, with these in them.
fn has_said(script: &Script, expected: &[&str]) -> Result<()> {
    let said = script.said()?;
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.contains(expected), "{said}: {expected}");
    }
    assert_eq!(said.len(), expected.len());
    Ok(())
}

async fn authorities_of_a_script_are_read_when_it_makes_its_client() -> Result<()> {
    let script = Script::new(
        "authorities",
        "
function dovecot_lua_notify_begin_txn(user)
  say_into(user)
  local function try(settings) say((tostring(select(2, pcall(dovecot.http.client, settings))):match('[^\\n]*'))) end
  try({ssl_client_ca_file = '/nowhere/ca.pem'})
  try({ssl_client_ca_file = '/dev/null'})
end
function dovecot_lua_notify_event_message_new() end
function dovecot_lua_notify_end_txn() end
",
    )?;
    script.done(&[mail(1)]).await?;
    has_said(
        &script,
        &[
            "ssl_client_ca_file=/nowhere/ca.pem: open(/nowhere/ca.pem) failed: No such file",
            "ssl_client_ca_file=/dev/null: there is no certificate in it",
        ],
    )
}

async fn what_fails_has_a_status_above_9000() -> Result<()> {
    // Nobody listens on a port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let script = Script::with(
        "refused",
        "
function dovecot_lua_notify_begin_txn(user) say_into(user) return user end
function dovecot_lua_notify_event_message_new(user)
  local client = dovecot.http.client({request_timeout_msecs = 200, max_attempts = 2})
  for _, name in ipairs({'refused', 'silent'}) do
    say(client:request({url = user:plugin_getenv(name)}):submit():status())
  end
end
function dovecot_lua_notify_end_txn() end
",
        |options| {
            let plugin = &mut options.plugin;
            plugin.insert("refused".to_owned(), format!("http://127.0.0.1:{port}/"));
            let silent = silent.local_addr().map_or(0, |address| address.port());
            plugin.insert("silent".to_owned(), format!("http://127.0.0.1:{silent}/"));
        },
    )?;
    script.done(&[mail(1)]).await?;
    assert_eq!(script.said()?, ["9003", "9008"]);
    Ok(())
}

async fn wrong_settings_and_uses_of_the_client_are_errors() -> Result<()> {
    let script = Script::new(
        "wrong",
        "
function dovecot_lua_notify_begin_txn(user)
  say_into(user)
  local function try(call) local _, error = pcall(call) say((tostring(error):match('[^\\n]*'))) end
  local client = dovecot.http.client({})
  try(function() dovecot.http.client({max_attempts = -1}) end)
  try(function() dovecot.http.client({debug = 'yes'}) end)
  try(function() dovecot.http.client({user_agent = 1}) end)
  try(function() client:request({}) end)
  try(function() client:request({url = 'ftp://x/'}) end)
  try(function() client.request({}, {url = 'http://x/'}) end)
  local request = client:request({url = 'http://127.0.0.1:1/'})
  request:submit()
  try(function() request:submit() end)
end
function dovecot_lua_notify_event_message_new() end
function dovecot_lua_notify_end_txn() end
",
    )?;
    script.done(&[mail(1)]).await?;
    has_said(
        &script,
        &[
            "Invalid HTTP client setting: max_attempts: non-negative number expected",
            "Invalid HTTP client setting: debug: boolean expected",
            "Invalid HTTP client setting: user_agent: string expected",
            "cannot create request: url not specified",
            "Failed to parse url: it begins with neither http:// nor https://",
            "bad argument #1, expected struct http_client",
            "the request was submitted before",
        ],
    )
}
