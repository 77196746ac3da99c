//! The driver `lua` with real processes and the system's Lua: this program is `dovecast lua-host`,
//! too.
//!
//! What a script sees it writes to a file, whose name `plugin_getenv` tells it.

mod blocks;
mod calls;
mod clients;
mod dovecot;
mod faults;
mod files;
mod functions;
mod receiver;
mod requests;
mod script;

use libtest_mimic::{Arguments, Trial};

/// Test functions of a file, by their names.
macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        pub(crate) fn cases() -> Vec<libtest_mimic::Trial> {
            let name = module_path!().rsplit("::").next().unwrap_or_default();
            vec![$(libtest_mimic::Trial::test(
                format!("{name}::{}", stringify!($name)),
                || crate::script::run($name()),
            )),+]
        }
    };
}
pub(crate) use cases;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("lua-host") {
        if dovecast_lua_host::serve().is_err() {
            std::process::exit(1);
        }
        return;
    }
    script::collect_the_log();
    let trials: Vec<Trial> = [
        blocks::cases(),
        calls::cases(),
        clients::cases(),
        dovecot::cases(),
        faults::cases(),
        files::cases(),
        functions::cases(),
        requests::cases(),
    ]
    .into_iter()
    .flatten()
    .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
