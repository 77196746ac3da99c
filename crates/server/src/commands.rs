//! The commands. Each prints what it was asked for on standard output.

mod accounts;
mod bench;
mod check_dovecot;
mod check_relay;
#[cfg(feature = "kafka")]
mod check_topics;
mod deliveries;
mod endpoints;
mod filters;
mod import_dovecot;
mod import_ox;
mod lists;
mod manual;
mod notification;
mod plan;
mod pretty;
mod push;
mod pushusers;
mod redeliver;
mod registry;
mod rendering;
mod search;
mod secrets;
mod send;
mod tail;
mod tokens;
mod trusted;

use std::future::Future;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use check_dovecot::OwnServer;

use crate::access::Access;
use crate::cli::{Arguments, Command, ConfigArguments, ServerPlace, Subject};
use crate::config::{Config, DEFAULT_FILE};
use crate::control::client::Client;
use crate::serve;

/// What the systemd unit starts the service with.
const SERVICE_CONFIG: &str = "/etc/dovecast/dovecast.toml";
const SERVICE_DATA_DIR: &str = "/var/lib/dovecast";

/// Standard output could not be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub(crate) struct OutputError(#[from] pub(crate) io::Error);

/// Does what the command line says.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let place = &arguments.place;
    let load = || of_running_server(place);
    match &arguments.command {
        Command::Serve => {
            let config = Config::load(place.config.as_deref(), place.data_dir.as_deref())?;
            let is_named = config.data_dir != Config::default().data_dir;
            if !is_named && config.data_dir.symlink_metadata().is_ok() {
                trusted::check_directory(&config)?;
            }
            serve::run(&config)?;
        }
        Command::Config(config) => check_config(config, place)?,
        Command::Doctor(doctor) => {
            return Ok(check_dovecot::run(doctor, &own_server(place)));
        }
        Command::ImportDovecot(of) => import_dovecot::run(of)?,
        Command::ImportOx(of) => import_ox::run(of)?,
        Command::Manual(manual) => manual::write(&manual.directory)?,
        Command::TemplateHost => dovecast_drivers::template::host::serve()?,
        #[cfg(feature = "lua")]
        Command::LuaHost => dovecast_drivers::lua::serve()?,
        Command::Tail(options) => wait(tail::run(&Access::new(&load()?)?, options))?,
        Command::Topics(topics) => {
            let (config, list) = (load()?, &topics.list);
            match &topics.remove {
                Some(name) => wait(lists::remove_topic(&client(&config), name))?,
                None => wait(lists::topics(&Access::to_list(&config, list.spool)?, list))?,
            }
        }
        Command::Groups(list) => {
            wait(lists::groups(&Access::to_list(&load()?, list.spool)?, list))?;
        }
        Command::Endpoints(of) => {
            let config = load()?;
            wait(endpoints::run(&client(&config), &config, of))?;
        }
        Command::Attempts(attempts) => wait(deliveries::attempts(&client(&load()?), attempts))?,
        Command::DeadLetters(of) => wait(deliveries::dead_letters(&client(&load()?), of))?,
        Command::Explain(explain) => {
            let config = load()?;
            wait(deliveries::explain(&client(&config), &config, explain))?;
        }
        Command::Redeliver(redeliver) => {
            let config = load()?;
            wait(redeliver::run(&client(&config), &config, redeliver))?;
        }
        Command::Apps(of) => wait(registry::apps(&client(&load()?), of))?,
        Command::Filters(of) => wait(filters::run(&client(&load()?), of))?,
        Command::Accounts(of) => wait(accounts::run(&client(&load()?), of))?,
        Command::Tokens(of) => wait(tokens::run(&client(&load()?), of))?,
        Command::Secrets(of) => wait(secrets::run(&client(&load()?), &of.subject))?,
        Command::Push(of) => return wait(push::run(&client(&load()?), &of.act)),
        Command::PushUsers(of) => {
            return pushusers::run(of, || Ok(client(&load()?)));
        }
        Command::Plan(plan) => plan::run(plan)?,
        Command::Bench(bench) => match &bench.subject {
            Subject::Dispatch(dispatch) => wait(bench::dispatch(load, dispatch))?,
        },
        Command::Send(send) => {
            let config = load()?;
            let record = send::record(send, &config.dispatch)?;
            let access = Access::new(&config)?;
            match send.count {
                1 => wait(send::run(&access, record))?,
                count => wait(send::run_many(&access, &record, count))?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The running server.
fn client(config: &Config) -> Client {
    Client::new(config)
}

/// The configuration of the server that a command is about. Where the command line does not say it,
/// that is a server that was started in this directory without options, or else the service of this
/// host.
fn of_running_server(place: &ServerPlace) -> Result<Config> {
    let is_said = place.config.is_some() || place.data_dir.is_some();
    if is_said {
        return Config::load(place.config.as_deref(), place.data_dir.as_deref());
    }
    let here = Config::default();
    if here.data_dir.symlink_metadata().is_ok() {
        trusted::check_here(&here)?;
        let mut config = Config::load(None, None)?;
        config.control.is_found = true;
        return Ok(config);
    }
    let service = Path::new(SERVICE_CONFIG);
    if service.exists() {
        return Config::load(Some(service), Some(Path::new(SERVICE_DATA_DIR)));
    }
    Config::load(None, None)
}

/// The server of this host, for who looks whether there is one.
fn own_server(place: &ServerPlace) -> OwnServer {
    let is_named = place.config.is_some() || place.data_dir.is_some();
    let is_there = Config::default().data_dir.exists() || Path::new(SERVICE_CONFIG).exists();
    let file = match &place.config {
        Some(file) => file.display().to_string(),
        None if is_named || Config::default().data_dir.exists() => {
            "the configuration (there is none: make a file and name it with `--config`)".to_owned()
        }
        None => SERVICE_CONFIG.to_owned(),
    };
    OwnServer {
        config: (is_named || is_there).then(|| of_running_server(place)),
        place: file,
    }
}

/// Runs a command that waits for sockets.
fn wait<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(command)
}

fn check_config(arguments: &ConfigArguments, place: &ServerPlace) -> Result<()> {
    let Some(file) = &arguments.check else {
        return print(DEFAULT_FILE);
    };
    let config = Config::load(Some(file), place.data_dir.as_deref())?;
    let checked = config.check();
    checked.with_context(|| format!("{} cannot be served", file.display()))?;
    let unknown = config.relay.unknown_users()?;
    let warnings = unknown
        .iter()
        .map(|user| format!("warning: `allow`: this host has no user `{user}`"));
    let mut lines: Vec<String> = warnings.collect();
    lines.extend(config.exposed.map(|exposed| format!("warning: {exposed}")));
    let verdict = match lines.len() {
        0 => "nothing is wrong".to_owned(),
        1 => "it can be served, with 1 warning".to_owned(),
        count => format!("it can be served, with {count} warnings"),
    };
    lines.push(format!("{}: {verdict}\n", file.display()));
    print(&lines.join("\n"))
}

/// What a file holds; `-` is standard input.
fn input(file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(file).map(|read| bytes = read)
    };
    read.with_context(|| format!("cannot read `{}`", file.display()))?;
    Ok(bytes)
}

/// Writes to standard output.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(OutputError)?;
    Ok(())
}
