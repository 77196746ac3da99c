//! `dovecast plan`: what an installation of a given size takes. Asks no server.

use anyhow::Result;
use dovecast_plan::{Plan, constants, measured};

use super::deliveries::print_json;
use super::print;
use crate::cli::PlanArguments;

pub(super) fn run(arguments: &PlanArguments) -> Result<()> {
    let Some(demand) = arguments.demand() else {
        return if arguments.json {
            print_json(&measured::ALL)
        } else {
            print(&constants())
        };
    };
    let plan = Plan::of(&demand)?;
    if arguments.json {
        return print_json(&plan);
    }
    let mut text = plan.to_string();
    if let Some(price) = arguments.machine.price {
        let (machines, cost) = (plan.machines, plan.cost(price));
        text = format!("{text}\n{machines} machines at {price}: {cost}\n");
    }
    print(&text)
}
