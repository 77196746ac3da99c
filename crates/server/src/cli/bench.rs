//! The command line of `dovecast bench`.

use std::net::IpAddr;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    pub(crate) subject: Subject,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Subject {
    /// Send notifications, and take the time until an endpoint on this host has them all
    Dispatch(DispatchArguments),
}

#[derive(Debug, Args)]
pub(crate) struct DispatchArguments {
    /// How many notifications at a time, a comma list
    #[arg(
        long, value_name = "N,N", value_delimiter = ',',
        default_values_t = [100, 500, 1000, 5000, 10_000],
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub(crate) counts: Vec<u32>,
    /// The address of the endpoint; the server must be allowed to send there
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) listen: IpAddr,
    /// Give up when nothing has come for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) patience: u64,
    /// Run a server for this benchmark alone, with an empty store in a temporary directory
    #[arg(long, conflicts_with_all = ["config", "data_dir"])]
    pub(crate) start: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}
