//! What the plugin costs a real Dovecot: tables in markdown, on standard output.
//!
//! Every figure stands beside the same figure of the push-notification framework without a driver,
//! taken in the same run: the machine is noisy, so both are measured in turns and the ratio of each
//! turn is what counts.

mod arrival;
mod broker;
mod crash;
mod dispatch;
mod exit;
mod figures;
mod footprint;
mod gather;
mod latency;
mod lua;
mod proc;
mod receiver;
mod sessions;
mod ship;
mod subject;
mod webhook;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

use dovecast_testkit::debian;
use dovecast_testkit::dovecot::Installation;

use crate::subject::{Variant, World};

const USAGE: &str = "\
usage: dovecast-benches [--dovecot 2.3|2.4] [--quick] [--rounds N] [--config TEXT] [--only lmtp|store|receivers|lua|lua-memory|footprint|sessions|exit|arrival|webhook|ship|gather|dispatch|crash]
                        [--subject TEXT] [--against PLUGIN.so] [--options OPTIONS] [--setting NAME=VALUE]
  --dovecot  which one; 2.3 is the one installed here
  --quick    few rounds: shows that everything runs, not what it costs
  --rounds   how many rounds every table takes
  --config   appended to the configuration of every Dovecot, the baseline's included
  --only     one table
for lmtp, store and receivers:
  --subject  only what is named with TEXT in the first column
  --against  measures another build of the plugin beside this one
  --options  measures this plugin with other options of the driver instance (content=off) as well
  --setting  the same with a general setting (settings.linger.ms=0)
--config, --only and those below it may be given several times.";

/// Rounds of every table with `--quick`.
const QUICK_ROUNDS: usize = 3;

/// What is to be measured, and how thoroughly.
struct Options {
    dovecot: Installation,
    quick: bool,
    rounds: Option<usize>,
    config: String,
    only: Vec<String>,
    subjects: Vec<String>,
    variants: Vec<Variant>,
}

#[derive(Clone, Copy)]
enum Table {
    /// With a Dovecot.
    Mail(fn(&World) -> Result<()>),
    /// Server alone, without a Dovecot; gets the rounds that the command line says.
    Server(fn(Option<usize>) -> Result<()>),
}

const TABLES: [(&str, Table); 14] = [
    ("lmtp", Table::Mail(latency::lmtp)),
    ("store", Table::Mail(latency::store)),
    ("receivers", Table::Mail(latency::receivers)),
    ("lua", Table::Mail(lua::throughput)),
    ("lua-memory", Table::Server(lua::memory)),
    ("footprint", Table::Mail(footprint::run)),
    ("sessions", Table::Mail(sessions::run)),
    ("exit", Table::Mail(exit::run)),
    ("arrival", Table::Mail(arrival::run)),
    ("webhook", Table::Mail(webhook::run)),
    ("ship", Table::Mail(ship::run)),
    ("gather", Table::Server(gather::run)),
    ("dispatch", Table::Server(dispatch::run)),
    ("crash", Table::Server(crash::run)),
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
    let rounds = options.rounds.or(options.quick.then_some(QUICK_ROUNDS));
    let is_wanted =
        |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let wanted: Vec<_> = TABLES
        .into_iter()
        .filter(|(name, _)| is_wanted(name))
        .collect();
    let mut world = None;
    for (name, table) in wanted {
        let printed = match table {
            Table::Server(table) => table(rounds),
            Table::Mail(table) => {
                if world.is_none() {
                    world = Some(World::new(
                        options.dovecot,
                        rounds,
                        options.config.clone(),
                        options.subjects.clone(),
                        options.variants.clone(),
                    )?);
                }
                world.as_ref().map_or(Ok(()), table)
            }
        };
        printed.with_context(|| format!("table `{name}`"))?;
    }
    Ok(())
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        dovecot: Installation::default(),
        quick: false,
        rounds: None,
        config: String::new(),
        only: Vec::new(),
        subjects: Vec::new(),
        variants: Vec::new(),
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--dovecot" => match arguments.next().as_deref() {
                Some("2.3") => options.dovecot = Installation::default(),
                Some("2.4") => options.dovecot = Installation::unpacked(&debian::TRIXIE)??,
                _ => bail!(USAGE),
            },
            "--quick" => options.quick = true,
            "--rounds" => {
                let rounds = arguments.next().and_then(|count| count.parse().ok());
                options.rounds = Some(rounds.filter(|count| *count > 0).context(USAGE)?);
            }
            "--config" => {
                options.config.push_str(&arguments.next().context(USAGE)?);
                options.config.push('\n');
            }
            "--only" => {
                let name = arguments.next().context(USAGE)?;
                ensure!(
                    TABLES.iter().any(|(known, _)| *known == name),
                    "no table `{name}`\n{USAGE}"
                );
                options.only.push(name);
            }
            "--subject" => options.subjects.push(arguments.next().context(USAGE)?),
            "--against" => {
                let path = PathBuf::from(arguments.next().context(USAGE)?);
                options.variants.push(Variant::Build(path));
            }
            "--options" => {
                let text = arguments.next().context(USAGE)?;
                options.variants.push(Variant::Options(text));
            }
            "--setting" => {
                let text = arguments.next().context(USAGE)?;
                let (name, value) = text.split_once('=').context(USAGE)?;
                let setting = Variant::Setting(name.to_owned(), value.to_owned());
                options.variants.push(setting);
            }
            other => bail!("unknown argument `{other}`\n{USAGE}"),
        }
    }
    Ok(options)
}
