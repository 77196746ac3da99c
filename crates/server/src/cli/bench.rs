//! The command line of `dovecast bench`.

use std::net::IpAddr;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    pub(crate) subject: Subject,
}

/// Part of dovecast to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Subject {
    /// Send notifications, and measure the time until an endpoint on this host has received all
    Dispatch(DispatchArguments),
}

#[derive(Debug, Args)]
pub(crate) struct DispatchArguments {
    /// How many notifications to send at a time: numbers, separated by commas
    #[arg(
        long, value_name = "N,N", value_delimiter = ',',
        default_values_t = [100, 500, 1000, 5000, 10_000],
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub(crate) counts: Vec<u32>,
    /// Address of the endpoint; the server must be allowed to send webhooks to it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) listen: IpAddr,
    /// Seconds without a delivery after which the benchmark gives up
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) patience: u64,
    #[arg(
        long,
        conflicts_with_all = ["config", "data_dir"],
        help = "Run a server for this benchmark alone, with an empty store in a temporary directory"
    )]
    pub(crate) start: bool,
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
}
