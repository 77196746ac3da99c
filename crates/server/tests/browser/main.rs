//! A real browser at a real server: the page `/push/` by the keyboard and its buttons, SSE,
//! WebSocket, and the service worker with pushes that are handed to it
//! (`ServiceWorker.deliverPushMessage`). Its push service is a stand-in: the real one cannot be
//! reached.
//!
//! Chromium is installed by `make test`; `CHROMIUM` names another one. Where there is none, the
//! cases say so, loudly, and count as ignored; with `DOVECAST_TESTS=all` they fail.

mod chromium;
#[path = "../streams/client.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod client;

use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::PATIENCE;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::push::WebPushService;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::{Value, json};

use chromium::{Chromium, Page};
use client::World;

/// A case: a page of the server, a token of 11@3, and the world.
type Case = fn(&mut Page, &World, &str) -> Result<()>;

fn main() -> ExitCode {
    let cases: [(&str, Case); 4] = [
        (
            "a_person_logs_in_by_the_keyboard_and_sees_events",
            events_are_shown,
        ),
        ("a_window_is_told_by_a_web_socket", a_web_socket_tells),
        (
            "the_worker_shows_a_push_and_closes_it_by_its_tag",
            the_worker_shows_and_closes,
        ),
        (
            "a_person_has_this_browser_notified_tests_it_and_stops_it",
            the_browser_is_notified,
        ),
    ];
    let trials = cases.map(|(name, case)| {
        Trial::ignorable_test(name, move || {
            let Some(program) = Chromium::program() else {
                println!("\n*** {name} SKIPPED: there is no Chromium\n");
                if env::var("DOVECAST_TESTS").is_ok_and(|which| which == "all") {
                    return Err(Failed::from("there is no Chromium"));
                }
                return Ok(Completion::ignored_with("there is no Chromium"));
            };
            run(&program, case)
                .map(|()| Completion::Completed)
                .map_err(|error| Failed::from(format!("{error:?}")))
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

fn run(program: &str, case: Case) -> Result<()> {
    let world = World::start(
        "[mail_push.webpush]\nsubject = 'mailto:postmaster@example.org'\n\
         [dispatch]\nallowed_networks = ['127.0.0.0/8']",
    );
    let (token, _) = world.token("3", "11");
    let mut browser = Chromium::start(program)?;
    let address = world.server.address()?;
    let mut page = browser.page(&format!("http://{address}/push/"))?;
    page.until("document.readyState === 'complete'")?;
    case(&mut page, &world, &token).with_context(|| world.server.server_log())
}

/// Logs in with a token by the keyboard alone.
fn log_in(page: &mut Page, token: &str) -> Result<()> {
    for _ in 0..3 {
        page.key("Tab")?;
    }
    let focused = page.evaluate("document.activeElement.id")?;
    ensure!(focused == "token", "the third field is {focused}");
    page.text(token)?;
    page.key("Enter")?;
    page.until("document.getElementById('live-state').textContent === 'Connected.'")
}

fn events_are_shown(page: &mut Page, world: &World, token: &str) -> Result<()> {
    log_in(page, token)?;
    world.streams(1);
    world.mail("11@3", 113);
    page.until("document.querySelector('#events code')?.textContent.includes('\"uid\":113')")?;
    let shown = page.evaluate("document.querySelector('#events code').textContent")?;
    let shown = shown.as_str().context("a text")?;
    ensure!(shown.starts_with("mail:new {"), "{shown}");
    // By the keyboard again: the focus is at the button that logs out.
    page.key("Enter")?;
    page.until("!document.getElementById('login-form').hidden")?;
    world.streams(0);
    // Nothing was refused by the policy of the page.
    ensure!(page.errors() == Vec::<String>::new(), "{:?}", page.errors());
    Ok(())
}

fn a_web_socket_tells(page: &mut Page, world: &World, token: &str) -> Result<()> {
    let open = format!(
        "new Promise((opened, failed) => {{ window.told = []; const socket = new WebSocket(`ws://${{location.host}}\
         /api/push/v1/ws?session={token}&content=ids`); socket.onopen = () => opened(true); socket.onerror = failed; \
         socket.onmessage = ({{ data }}) => window.told.push(JSON.parse(data)); }})"
    );
    ensure!(page.evaluate(&open)? == true, "no WebSocket");
    world.mail("11@3", 5);
    page.until("window.told.length === 1")?;
    let told = page.evaluate("window.told[0]")?;
    let data = json!({"person": {"context": "3", "user": "11"}, "mailbox": "INBOX", "uidvalidity": 7, "uid": 5, "unseen": 4});
    ensure!(
        told["topic"] == "mail:new" && told["data"] == data,
        "{told}"
    );
    Ok(())
}

fn the_worker_shows_and_closes(page: &mut Page, _: &World, _: &str) -> Result<()> {
    page.allow_notifications()?;
    let registered = page.evaluate(
        "navigator.serviceWorker.register('worker.js', { scope: '/push/' })\
         .then(() => navigator.serviceWorker.ready).then(() => Notification.permission)",
    )?;
    ensure!(registered == "granted", "{registered}");
    // It is ready before it is activated, and tells a page only that it controls.
    page.until("navigator.serviceWorker.ready.then(({ active }) => active.state === 'activated')")?;
    page.until("navigator.serviceWorker.controller !== null")?;
    page.evaluate(
        "window.taken = 0; navigator.serviceWorker.addEventListener('message', () => { window.taken += 1; }); \
         navigator.serviceWorker.startMessages()",
    )?;
    let registration = page.registration()?;
    let shown = "navigator.serviceWorker.ready.then((registration) => registration.getNotifications())\
        .then((all) => all.map(({ title, body, tag, data }) => ({ title, body, tag, data })))";
    let push = |tag: &str, title: &str| {
        json!({"web_push": 8030, "notification": {"title": title, "body": "Lunch?", "navigate": "/", "tag": tag,
            "data": {"uid": 5}}, "app_badge": 4, "mutable": true})
    };
    for (tag, title) in [("one", "Alice"), ("two", "Bob"), ("one", "Alice again")] {
        page.push(&registration, &push(tag, title))?;
    }
    // Whoever asks Chromium for notifications while one is on its way to the screen removes it: the
    // worker tells the page when it is done with one, and then they are asked for.
    page.until("window.taken === 3")?;
    let has = |count: usize| {
        format!(
            "({shown}).then((all) => all.length === {count} && !all.some(({{ title }}) => title === 'Alice'))"
        )
    };
    page.until(&has(2))
        .with_context(|| format!("registration {registration}"))?;
    let close = json!({"topic": "mail:close", "id": "one", "close": true, "badge": 1});
    page.push(&registration, &close)?;
    page.until("window.taken === 4")?;
    page.until(&has(1))?;
    let expected = json!([{"title": "Bob", "body": "Lunch?", "tag": "two",
        "data": {"navigate": "/", "message": {"uid": 5}}}]);
    let left: Value = page.evaluate(shown)?;
    ensure!(left == expected, "{left}");
    Ok(())
}

/// Chromium's own subscriptions need Google's service: the page gets one of the stand-in instead,
/// by the call by which it asks for one, and does all else by itself.
fn the_browser_is_notified(page: &mut Page, world: &World, token: &str) -> Result<()> {
    let service = WebPushService::start()?;
    page.allow_notifications()?;
    log_in(page, token)?;
    let key = page.evaluate(&format!(
        "fetch('/api/push/v1/vapid', {{ headers: {{ authorization: 'Bearer {token}' }} }})\
         .then((answer) => answer.json()).then((answer) => answer.public_key)"
    ))?;
    let key = key.as_str().context("no public key")?;
    let browser = service.subscribe(key)?;
    let made = json!({"endpoint": browser.endpoint, "keys": {"p256dh": browser.p256dh, "auth": browser.auth}});
    page.evaluate(&format!(
        "window.subscribed = null; const made = {{ toJSON: () => ({made}), \
         unsubscribe: async () => {{ window.subscribed = null; return true; }} }}; \
         PushManager.prototype.getSubscription = async () => window.subscribed; \
         PushManager.prototype.subscribe = async (options) => {{ window.asked = options; window.subscribed = made; return made; }}; true"
    ))?;
    let press = |page: &mut Page, button: &str, says: &str| -> Result<()> {
        page.evaluate(&format!("document.getElementById('{button}').click()"))?;
        let shown = format!("document.getElementById('status').textContent === '{says}'");
        page.until(&shown).with_context(|| {
            let status = page.evaluate("document.getElementById('status').textContent");
            format!("{button}: {status:?}, refused: {:?}", service.refused())
        })
    };
    let is =
        |state: &str| format!("document.getElementById('browser-state').textContent === '{state}'");
    press(
        page,
        "subscribe",
        "This browser is notified of new mail from now on.",
    )?;
    page.until(&is("This browser is notified of new mail."))?;
    let asked = page.evaluate("window.asked")?;
    let expected = json!({"userVisibleOnly": true, "applicationServerKey": key});
    ensure!(asked == expected, "{asked}");
    press(page, "test", "The push service has accepted a test.")?;
    ensure!(service.taken().len() == 1, "{:?}", service.taken());
    world.mail("11@3", 7);
    page.until("document.querySelector('#events code')?.textContent.includes('\"uid\":7')")?;
    let told = poll_until(PATIENCE, || service.taken().into_iter().nth(1));
    let told = told.with_context(|| format!("not told: {:?}", service.refused()))?;
    ensure!(told.message["notification"]["title"] == "Alice", "{told:?}");
    press(
        page,
        "unsubscribe",
        "This browser gets no notifications any more.",
    )?;
    page.until(&is("This browser gets no notifications."))?;
    let left = page.evaluate("window.subscribed === null")?;
    ensure!(left == true, "the browser keeps its subscription");
    ensure!(page.errors() == Vec::<String>::new(), "{:?}", page.errors());
    Ok(())
}
