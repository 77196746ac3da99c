//! What an endpoint takes in memory as long as nothing is delivered to it: there may be hundreds of
//! thousands of them.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use dovecast_dispatch::driver::{Driver, Settings};
use dovecast_dispatch::{Directory, Endpoint};
use dovecast_drivers::guard::Guard;
use dovecast_drivers::http::sockets::Sockets;
use dovecast_drivers::template::Templates;
use dovecast_drivers::webhook::{PresetUrls, WebhookDriver};
use dovecast_notification::EndpointId;
use serde_json::{Map, Value, json};
use uuid::Uuid;

const ENDPOINTS: u128 = 10_000;
/// Most bytes of an endpoint, besides its filter.
const MAX_BYTES: u64 = 1_000;
/// What an allocator needs for itself for each allocation, and to make its size even.
const OVERHEAD_BYTES: u64 = 16;

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Endpoints of as many accounts, signed.
fn directory(driver: &WebhookDriver) -> Directory {
    let directory = Directory::default();
    let secret = map(json!({"signing_secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}));
    for number in 0..ENDPOINTS {
        let account = Arc::from(format!("account-{number}"));
        let open = map(json!({"url": format!("http://customer-{number}.example.org/hooks/new")}));
        let settings = Settings {
            account: &account,
            open: &open,
            secret: &secret,
        };
        let target = driver.target(&settings).expect("settings");
        let endpoint = Endpoint {
            concurrency: 16,
            ..Endpoint::new(EndpointId(Uuid::from_u128(number)), account, target)
        };
        directory.put(endpoint, None);
    }
    directory
}

#[test]
fn an_endpoint_takes_no_more_than_a_kilobyte() {
    let (guard, urls) = (Guard::new(&[]), PresetUrls::new());
    let driver = WebhookDriver::new(
        guard,
        Duration::from_secs(10),
        urls,
        Sockets::new(8192),
        Templates::Trusted,
    );
    // What all share is made once.
    drop(black_box(directory(&driver)));
    let mut made = None;
    let measured = allocation_counter::measure(|| made = Some(directory(&driver)));
    let directory = made.expect("endpoints");
    assert_eq!(directory.len() as u128, ENDPOINTS);
    let bytes = u64::try_from(measured.bytes_current).expect("more than before");
    let allocations = u64::try_from(measured.count_current).expect("more than before");
    let endpoints = u64::try_from(ENDPOINTS).expect("a number");
    let each = (bytes + allocations * OVERHEAD_BYTES) / endpoints;
    println!(
        "{each} bytes each, in {} allocations",
        allocations / endpoints
    );
    assert!(each <= MAX_BYTES, "{each} bytes each");
}
