//! A loopback address of its own for every server a test starts, so that fixed ports never collide.
//!
//! Linux answers on all of 127.0.0.0/8 without configuration. The address holds the process id and
//! a counter; two test processes at once would have to agree in 15 bits of their ids to meet.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A loopback address that no other caller in this process has, outside 127.0.0.0/24.
pub fn unique_address() -> Ipv4Addr {
    let serial = NEXT.fetch_add(1, Ordering::Relaxed) % 256;
    let host = (std::process::id() % 0x8000) << 8 | serial;
    let [_, high, middle, low] = (host | 0x0080_0000).to_be_bytes();
    Ipv4Addr::new(127, high, middle, low)
}
