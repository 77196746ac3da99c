//! What the plugin costs a real Dovecot: tables in markdown, on standard output.
//!
//! Every figure stands beside the same figure of the push-notification framework without a driver, taken in the same
//! run: the machine is noisy, so both are measured in turns and the ratio of each turn is what counts.

mod broker;
mod exit;
mod figures;
mod footprint;
mod latency;
mod proc;
mod sessions;
mod subject;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

use crate::subject::World;

const USAGE: &str = "\
usage: dovecast-benches [--quick] [--only lmtp|store|footprint|sessions|exit] [--against PLUGIN.so]
  --quick    few rounds: shows that everything runs, not what it costs
  --only     one table; may be given several times
  --against  measures another build of the plugin beside this one (lmtp and store)";

/// What is to be measured, and how thoroughly.
struct Options {
    quick: bool,
    only: Vec<String>,
    against: Option<PathBuf>,
}

const TABLES: [(&str, fn(&World) -> Result<()>); 5] = [
    ("lmtp", latency::lmtp),
    ("store", latency::store),
    ("footprint", footprint::run),
    ("sessions", sessions::run),
    ("exit", exit::run),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nfailed: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some(broker::SUBCOMMAND) {
        return broker::serve(arguments.next().as_deref());
    }
    if matches!(first.as_deref(), Some("--help" | "-h")) {
        println!("{USAGE}");
        return Ok(());
    }
    let options = parse(first.into_iter().chain(arguments))?;
    let world = World::new(options.quick, options.against)?;
    for (name, table) in TABLES {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            table(&world).with_context(|| format!("table `{name}`"))?;
        }
    }
    Ok(())
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        quick: false,
        only: Vec::new(),
        against: None,
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => options.quick = true,
            "--only" => {
                let name = arguments.next().context(USAGE)?;
                ensure!(
                    TABLES.iter().any(|(known, _)| *known == name),
                    "no table `{name}`\n{USAGE}"
                );
                options.only.push(name);
            }
            "--against" => {
                options.against = Some(PathBuf::from(arguments.next().context(USAGE)?));
            }
            other => bail!("unknown argument `{other}`\n{USAGE}"),
        }
    }
    Ok(options)
}
