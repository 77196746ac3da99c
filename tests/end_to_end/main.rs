//! End-to-end tests: people use mail through a real Dovecot with the plugin, and the topic is read.
//!
//! Every case is in the list of its file's `cases()`, and runs on Dovecot 2.3 and on 2.4 unless the
//! list says otherwise; on which ones of these says `case.rs`. What differs from one Dovecot to
//! another is the table in `differences.rs`. A case that cannot run on this machine says why,
//! loudly, and is counted as ignored.

mod case;
mod differences;
mod docs;
mod faults;
mod full;
mod headers;
mod instances;
mod large_fields;
mod limits;
mod load;
mod logs;
mod lua;
mod lua_faults;
mod mail_push;
mod mail_push_tls;
mod mail_sources;
mod options;
mod own_dlog;
mod own_drivers;
mod ox;
mod processes;
mod push_docs;
mod real_kafka;
mod real_outages;
mod relay;
mod relay_allow;
mod relay_users;
mod script;
mod services;
mod session;
mod settings_2_4;
mod ship;

mod setup;
mod steps;
mod story;
mod text;
mod valgrind;
mod versions;
mod webhook;
mod webhook_docs;

use std::process::ExitCode;

use case::TESTED;

fn main() -> ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    let cases = [
        docs::cases(),
        faults::cases(),
        full::cases(),
        headers::cases(),
        instances::cases(),
        large_fields::cases(),
        limits::cases(),
        load::cases(),
        logs::cases(),
        mail_push::cases(),
        mail_push_tls::cases(),
        mail_sources::cases(),
        options::cases(),
        lua::cases(),
        lua_faults::cases(),
        own_dlog::cases(),
        own_drivers::cases(),
        ox::cases(),
        push_docs::cases(),
        processes::cases(),
        real_kafka::cases(),
        real_outages::cases(),
        relay::cases(),
        relay_allow::cases(),
        relay_users::cases(),
        services::cases(),
        session::cases(),
        settings_2_4::cases(),
        ship::cases(),
        text::cases(),
        valgrind::cases(),
        versions::cases(),
        webhook::cases(),
        webhook_docs::cases(),
    ]
    .concat();
    let trials = TESTED
        .iter()
        .flat_map(|on| cases.iter().filter_map(|case| case.trial(on)))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    real_kafka::stop();
    conclusion.exit_code()
}
