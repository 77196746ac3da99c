//! Dispatching to a local sink beside a bare HTTP client against the same sink, and matching with
//! many filters.
//!
//! Tables in markdown, on standard output. `--quick` shows only that it runs; `dispatch` or `match`
//! runs one part.

#![expect(
    clippy::cast_precision_loss,
    reason = "figures are not exact to so many digits"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dovecast_dispatch::{
    Clock, Directory, DispatchOptions, Dispatcher, Endpoint, EvaluatorLimits, Source,
};
use dovecast_drivers::guard::Guard;
use dovecast_drivers::http::sockets::Sockets;
use dovecast_drivers::http::{BodyLimits, Connection, Origin};
use dovecast_drivers::webhook::{Webhook, WebhookOptions};
use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{Log, NewRecord};
use dovecast_notification::filter::EventType;
use dovecast_notification::{Choice, EndpointId, Filter, Index, Notification, NotificationId};
use dovecast_store::{DatabasePlace, Store, StoreOptions};
use http_body_util::Full;
use hyper::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// What the bare client reads of an answer, as the driver does.
const ANSWER_LIMITS: BodyLimits = BodyLimits {
    bytes: 1024,
    time: Duration::from_secs(10),
};
const CONNECTIONS: usize = 64;
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OUTBOX: &str = "hooks.outbox";
/// Keys of the notifications, in turn.
const KEYS: u64 = 10_000;

/// Who gets the notifications.
#[derive(Clone, Copy)]
struct To {
    endpoints: u64,
    /// Whether those of a key go one after the other.
    is_ordered: bool,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let parts = ["dispatch", "match"];
    let is_all = !arguments
        .iter()
        .any(|argument| parts.contains(&argument.as_str()));
    let wants = |part: &str| is_all || arguments.iter().any(|argument| argument == part);
    if wants("match") {
        matching(is_quick)?;
    }
    if wants("dispatch") {
        let runtime = tokio::runtime::Runtime::new()?;
        let count = if is_quick { 2_000 } else { 200_000 };
        runtime.block_on(dispatching(count, if is_quick { 1 } else { 3 }))?;
    }
    Ok(())
}

/// Answers every request with 204; as cheap as can be, as it runs on the same processors.
async fn sink() -> Result<(std::net::SocketAddr, Arc<AtomicU64>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let taken = Arc::<AtomicU64>::default();
    let counter = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::clone(&counter)));
        }
    });
    Ok((address, taken))
}

async fn answer(mut stream: TcpStream, taken: Arc<AtomicU64>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut buffer = vec![0; 16 * 1024];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.ok()?;
        if read == 0 {
            return None;
        }
        filled += read;
        while let Some(length) = request_length(&buffer[..filled]) {
            buffer.copy_within(length..filled, 0);
            filled -= length;
            taken.fetch_add(1, Ordering::Relaxed);
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .await
                .ok()?;
        }
    }
}

/// Length of the whole request that the bytes begin with.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let mut lines = text.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: "))?;
    let whole = head + length.parse::<usize>().ok()?;
    (whole <= bytes.len()).then_some(whole)
}

fn loopback() -> Result<Guard> {
    Ok(Guard::new(&["127.0.0.0/8".parse()?]))
}

/// A client that does nothing else: requests a second.
async fn bare(address: std::net::SocketAddr, count: u64) -> Result<f64> {
    let origin = Origin {
        host: url::Host::Ipv4([127, 0, 0, 1].into()),
        port: address.port(),
        tls: None,
    };
    let body = Bytes::from(vec![b'x'; 1024]);
    let sockets = Sockets::new(CONNECTIONS * 4).of_account(&Arc::from("bare"));
    let start = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (origin, body, guard) = (origin.clone(), body.clone(), loopback()?);
        let sockets = sockets.clone();
        clients.spawn(async move {
            let addresses = guard.addresses(&origin.host, origin.port).await?;
            let place = sockets.place().await;
            let connection = Connection::open(&addresses, &origin, (place, &sockets)).await;
            let mut connection = connection?;
            for _ in 0..count / CONNECTIONS as u64 {
                let mut request = Request::new(Full::new(body.clone()));
                *request.method_mut() = Method::POST;
                request
                    .headers_mut()
                    .insert("host", hyper::header::HeaderValue::from_static("sink"));
                let answer = connection.exchange(request).await?;
                ensure!(
                    connection.finish(answer, ANSWER_LIMITS).await,
                    "the answer did not end"
                );
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// CPU seconds of this process.
fn cpu_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks: f64 = fields.get(11).context("no utime")?.parse::<f64>()?
        + fields.get(12).context("no stime")?.parse::<f64>()?;
    Ok(ticks / 100.0)
}

/// Deliveries a second, and CPU seconds for a thousand, the sink's included.
async fn dispatch(
    address: std::net::SocketAddr,
    count: u64,
    to: To,
    taken: &AtomicU64,
) -> Result<(f64, f64)> {
    let fan_out = to.endpoints;
    let dir = tempfile::tempdir()?;
    let log = Embedded::open(&dir.path().join("log"), &EmbeddedOptions::default())?;
    let place = DatabasePlace::Sqlite(dir.path().join("state.db"));
    let store = Store::open(&StoreOptions::new(place)).await?;
    let directory = Arc::<Directory>::default();
    for number in 0..fan_out {
        let id = EndpointId(Uuid::from_u128(number.into()));
        let webhook = Webhook::new(&WebhookOptions {
            url: format!("http://{address}/"),
            secrets: vec![SECRET.to_owned()],
            timeout: Duration::from_secs(10),
            ..WebhookOptions::default()
        })?;
        let target = webhook.target(loopback()?, Sockets::default());
        let endpoint = Endpoint {
            concurrency: CONNECTIONS / usize::try_from(fan_out)?.clamp(1, 8),
            is_ordered: to.is_ordered,
            ..Endpoint::new(id, "1".into(), target)
        };
        directory.put(endpoint, Some(open_filter(id, "1")));
    }
    let message = "x".repeat(900);
    let notifications = count / fan_out;
    for first in (0..notifications).step_by(1000) {
        let record = |number: u64| NewRecord {
            topic: Arc::from(OUTBOX),
            key: Some(Bytes::from((number % KEYS).to_string())),
            value: Bytes::from(format!(
                r#"{{"application":"a","event_type":"e","level":null,"timestamp":"2026-11-20T00:00:00Z","message":"{message}","account_id":"1"}}"#
            )),
            headers: Vec::new(),
            timestamp_ms: 0,
            id: None,
        };
        let last = (first + 1000).min(notifications);
        log.append((first..last).map(record).collect()).await?;
    }
    let before = taken.load(Ordering::Relaxed);
    let cpu = cpu_seconds()?;
    let start = Instant::now();
    let dispatcher = Dispatcher::start(
        log.clone(),
        store.clone(),
        directory,
        DispatchOptions {
            group: "dispatch".to_owned(),
            sources: BTreeMap::from([(OUTBOX.to_owned(), Source::Outbox)]),
            in_flight: 10_000,
            in_flight_bytes: 256 * 1024 * 1024,
            readers: 16,
            longest_attempt: Duration::from_mins(1),
            conditions: EvaluatorLimits::default(),
            clock: Clock::default(),
        },
    );
    let wanted = notifications * fan_out;
    while taken.load(Ordering::Relaxed) - before < wanted {
        ensure!(
            start.elapsed() < Duration::from_mins(5),
            "not everything arrives"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let rate = wanted as f64 / start.elapsed().as_secs_f64();
    let cpu = (cpu_seconds()? - cpu) / (wanted as f64 / 1000.0);
    dispatcher.stop().await;
    store.close().await;
    log.close().await;
    Ok((rate, cpu))
}

async fn dispatching(count: u64, rounds: usize) -> Result<()> {
    println!("\n### Dispatching 1 kB of {KEYS} keys to a local sink, {CONNECTIONS} connections\n");
    println!(
        "| round | bare client, 1/s | fan-out 1, 1/s | ratio | CPU s per 1000 | fan-out 10, 1/s | ratio | CPU s per 1000 | fan-out 1 in order, 1/s | ratio to no order | CPU s per 1000 |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for round in 1..=rounds {
        let (address, taken) = sink().await?;
        let limit = bare(address, count).await?;
        let to = |endpoints, is_ordered| To {
            endpoints,
            is_ordered,
        };
        let (one, one_cpu) = dispatch(address, count, to(1, false), &taken).await?;
        let (ten, ten_cpu) = dispatch(address, count, to(10, false), &taken).await?;
        let (order, order_cpu) = dispatch(address, count, to(1, true), &taken).await?;
        println!(
            "| {round} | {limit:.0} | {one:.0} | {:.2} | {one_cpu:.3} | {ten:.0} | {:.2} | {ten_cpu:.3} | {order:.0} | {:.2} | {order_cpu:.3} |",
            one / limit,
            ten / limit,
            order / one
        );
    }
    Ok(())
}

fn open_filter(endpoint: EndpointId, account: &str) -> Filter {
    Filter {
        endpoint,
        account: account.into(),
        mail_account: None,
        enabled: true,
        applications: Choice::Any,
        event_types: Choice::Any,
        levels: Choice::Any,
        condition: None,
    }
}

/// The cost of a match with few and with many filters, of as many accounts, and all of one account.
fn matching(is_quick: bool) -> Result<()> {
    println!("\n### Matching\n");
    println!("| filters | of accounts | ns per notification | ratio to 1,000 | bytes per filter |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    let sizes: &[u64] = if is_quick {
        &[1_000]
    } else {
        &[1_000, 100_000, 1_000_000]
    };
    for is_one_account in [false, true] {
        let mut first = None;
        for size in sizes {
            let before = resident()?;
            let index = filled(*size, is_one_account);
            let bytes = resident()?.saturating_sub(before) / size;
            let ns = match_cost(&index, *size, is_one_account, is_quick);
            let base = *first.get_or_insert(ns);
            let accounts = if is_one_account { 1 } else { *size };
            println!(
                "| {size} | {accounts} | {ns:.0} | {:.2} | {bytes} |",
                ns / base
            );
        }
    }
    Ok(())
}

fn resident() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages = text.split(' ').nth(1).context("no resident pages")?;
    Ok(pages.parse::<u64>()? * 4096)
}

fn filled(size: u64, is_one_account: bool) -> Index<EndpointId> {
    let mut index = Index::default();
    for number in 0..size {
        let id = EndpointId(Uuid::from_u128(number.into()));
        let account = if is_one_account { 0 } else { number };
        // In one account each filter wants an event type of its own.
        let wanted = EventType {
            application: "app".into(),
            name: number.to_string().into(),
        };
        let event_types = if is_one_account {
            Choice::These(vec![wanted])
        } else {
            Choice::Any
        };
        let filter = Filter {
            event_types,
            ..open_filter(id, &format!("account-{account}"))
        };
        index.insert(Arc::new(filter), id);
    }
    index
}

fn match_cost(index: &Index<EndpointId>, size: u64, is_one_account: bool, is_quick: bool) -> f64 {
    let step = 7_919;
    let notification = |place: u64| {
        let number = place * step % size;
        let account = if is_one_account { 0 } else { number };
        Notification {
            id: NotificationId(Uuid::from_u128(number.into())),
            application: "app".into(),
            event_type: number.to_string().into(),
            level: None,
            account: format!("account-{account}").into(),
            timestamp: Bytes::from_static(b"0"),
            message: Bytes::from_static(b"0"),
            key: None,
            headers: Vec::new(),
        }
    };
    let notifications: Vec<Notification> = (0..10_000).map(notification).collect();
    let rounds = if is_quick { 1 } else { 50 };
    let start = Instant::now();
    let mut found = 0_u64;
    for _ in 0..rounds {
        for notification in &notifications {
            index.matches(notification, |_| found += 1);
        }
    }
    assert_eq!(found, rounds * 10_000);
    start.elapsed().as_nanos() as f64 / found as f64
}
