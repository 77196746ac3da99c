//! What the kernel says of the process, by the names that Prometheus' own clients use.

use std::fs;
use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::{Exposition, seconds};

/// When the process began to count, by both clocks.
static STARTED: LazyLock<(SystemTime, Instant)> =
    LazyLock::new(|| (SystemTime::now(), Instant::now()));

/// Takes this for the start of the process.
pub(crate) fn start() {
    LazyLock::force(&STARTED);
}

pub(super) fn process(out: &mut Exposition) {
    let since = STARTED.0.duration_since(UNIX_EPOCH).unwrap_or_default();
    out.gauge(
        "process_start_time_seconds",
        "When the process was started, in seconds since 1970.",
    );
    let us = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
    out.sample(&[], seconds(us));
    if let Some(stat) = fs::read_to_string("/proc/self/stat")
        .ok()
        .as_deref()
        .and_then(Stat::read)
    {
        out.counter("process_cpu_seconds_total", "Time on processors.");
        out.sample(&[], seconds(stat.cpu_us));
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Memory that is in use, as the kernel has it.",
                stat.resident_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Address space that is in use.",
                stat.virtual_bytes,
            ),
            ("process_threads", "Threads of the process.", stat.threads),
        ] {
            out.gauge(name, help);
            out.sample(&[], value);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        out.gauge("process_open_fds", "Descriptors that are open.");
        // One is that of the directory that is read.
        out.sample(&[], open.count().saturating_sub(1));
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if let Some(most) = limit.current {
        out.gauge("process_max_fds", "Descriptors that may be open.");
        out.sample(&[], most);
    }
}

/// Parts of `/proc/self/stat`, see proc(5).
struct Stat {
    cpu_us: u64,
    threads: u64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl Stat {
    fn read(text: &str) -> Option<Self> {
        // The name in brackets may have blanks and brackets itself.
        let (_, rest) = text.rsplit_once(") ")?;
        // The first of these is field 3.
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        let page = u64::try_from(rustix::param::page_size()).ok()?;
        Some(Self {
            cpu_us: (number(14)? + number(15)?).saturating_mul(1_000_000) / ticks,
            threads: number(20)?,
            virtual_bytes: number(23)?,
            resident_bytes: number(24)?.saturating_mul(page),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_moves_no_field() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 200 100 0 0 20 0 9 0 1000 123456 42 1";
        let stat = Stat::read(text).expect("fields");
        assert_eq!((stat.threads, stat.virtual_bytes), (9, 123_456));
        let page = u64::try_from(rustix::param::page_size()).expect("a size");
        assert_eq!(stat.resident_bytes, 42 * page);
        assert!(stat.cpu_us > 0 && Stat::read("7 (a").is_none());
    }
}
