//! Web Pushes that one core seals in a second, by their size.
//!
//! A table in markdown, on standard output. Time is that of the thread on its core, so that others
//! on the same machine do not count. `--quick` shows only that it runs.

use std::hint::black_box;
use std::time::Duration;

use dovecast_drivers::push::{BrowserKeys, seal};
use dovecast_testkit::push::Browser;
use rustix::time::{ClockId, clock_gettime};

/// Bytes of a closing push, of an envelope, of one with a snippet, and of the largest one.
const SIZES: [usize; 4] = [100, 500, 1_000, 3_993];

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let rounds: u32 = if is_quick { 10 } else { 20_000 };
    let browser = Browser::new(String::new()).expect("a browser");
    let keys = BrowserKeys::read(&browser.p256dh, &browser.auth).expect("keys");
    println!("| bytes | us | sealed in a second |\n| ---: | ---: | ---: |");
    for size in SIZES {
        let plain = vec![b'x'; size];
        let begun = on_core();
        for _ in 0..rounds {
            black_box(seal(&keys, black_box(&plain))).expect("sealed");
        }
        let each = on_core().saturating_sub(begun).as_secs_f64() / f64::from(rounds);
        println!("| {size} | {:.0} | {:.0} |", each * 1e6, 1.0 / each);
    }
}

/// Time that this thread has had of a core.
fn on_core() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(time.tv_sec.unsigned_abs(), nanoseconds)
}
