//! Arguments of the commands that list what became of deliveries.

use clap::Args;
use uuid::Uuid;

use super::values;

#[derive(Debug, Args)]
pub(crate) struct DeliveryArguments {
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
    /// Most rows to print
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl DeliveryArguments {
    /// Most rows.
    pub(crate) fn limit(&self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX)
    }
}

#[derive(Debug, Args)]
pub(crate) struct AttemptsArguments {
    /// Id of the endpoint
    #[arg(value_parser = values::endpoint)]
    pub(crate) endpoint: Uuid,
    #[command(flatten)]
    pub(crate) list: DeliveryArguments,
}
