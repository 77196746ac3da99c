//! Arguments of `dovecast push`.

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct PushArguments {
    #[command(subcommand)]
    pub(crate) act: PushAct,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PushAct {
    /// Send a test to each device, and print what its service answers
    Test(PushDevicesArguments),
    /// List the devices, with the last answer of the service of each
    Devices(PushDevicesArguments),
    /// Say hop by hop why a device did not ring
    Why(PushDevicesArguments),
}

#[derive(Debug, Args)]
pub(crate) struct PushDevicesArguments {
    /// Context of the person
    #[arg(short, long, value_name = "CONTEXT")]
    pub(crate) context: String,
    /// The user in the context
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: String,
    /// Devices of this client only
    #[arg(short = 'i', long, value_name = "CLIENT")]
    pub(crate) client: Option<String>,
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
}
