//! Several nodes on one Kafka and one PostgreSQL: they share the work, are restarted and killed,
//! are joined by others, are cut off, and their services go away and come back. Each case counts:
//! every notification arrives at each endpoint, what comes again has the same `webhook-id`, and in
//! the end nothing is owed, dead or uncommitted.
//!
//! Where there is no Kafka or no PostgreSQL each case says so and is counted as ignored.

mod anew;
mod cases;
mod cluster;
mod cuts;
mod limits;
mod listeners;
mod load;
mod order;
mod spread;
mod streams;
mod transactions;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use dovecast_testkit::Unavailable;
use dovecast_testkit::kafka::RealKafka;
use dovecast_testkit::postgres::Postgres;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use cases::{CASES, Case};
use cluster::{NODES, PARTITIONS, Services, TOPIC};

/// Started by the first case, and anew after one that has failed: who knows what it left.
type Shared = Arc<Mutex<Option<Services>>>;

fn main() -> ExitCode {
    let arguments = Arguments {
        // On the main thread, too, which lives as long as the services.
        test_threads: Some(1),
        ..Arguments::from_args()
    };
    let shared = Shared::default();
    let cases = CASES.iter().chain(cuts::CASES).chain(anew::CASES);
    let cases = cases.chain(order::CASES).chain(listeners::CASES);
    let cases = cases.chain(spread::CASES).chain(streams::CASES);
    let cases = cases.chain(transactions::CASES).chain(limits::CASES);
    let trials = cases.copied().map(|(name, case)| {
        let shared = Arc::clone(&shared);
        Trial::ignorable_test(name, move || match run(case, &shared) {
            Ok(Ok(())) => Ok(Completion::Completed),
            Ok(Err(unavailable)) => {
                println!("\n*** {name} SKIPPED: {unavailable}\n");
                Ok(Completion::ignored_with(unavailable.to_string()))
            }
            Err(error) => Err(Failed::from(dovecast_testkit::failure(&error))),
        })
    });
    let ended = libtest_mimic::run(&arguments, trials.collect());
    drop(shared);
    ended.exit_code()
}

fn run(case: Case, shared: &Shared) -> Result<Result<(), Unavailable>> {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let mut services = match shared.take() {
        Some(services) => services,
        None => match start()? {
            Ok(services) => services,
            Err(unavailable) => return Ok(Err(unavailable)),
        },
    };
    case(&mut services)?;
    *shared = Some(services);
    Ok(Ok(()))
}

fn start() -> Result<Result<Services, Unavailable>> {
    let postgres = match Postgres::start()? {
        Ok(postgres) => postgres,
        Err(unavailable) => return Ok(Err(unavailable)),
    };
    let kafka = match RealKafka::start_with_proxies(NODES)? {
        Ok(kafka) => kafka,
        Err(unavailable) => return Ok(Err(unavailable)),
    };
    kafka.create_topic(TOPIC, PARTITIONS)?;
    let to_postgres = (0..NODES).map(|_| postgres.proxy());
    Ok(Ok(Services {
        kafka,
        to_postgres: to_postgres.collect::<Result<_>>()?,
        postgres,
    }))
}
