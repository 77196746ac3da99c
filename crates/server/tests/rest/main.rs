//! The REST API over HTTP against a running `dovecast serve`, on SQLite and on PostgreSQL.
//!
//! Each line of what hooks-backend does, and what was mended, has a case:
//!
//! | what | case |
//! | --- | --- |
//! | `GET /apps`, `GET /apps/:id` with event types and levels, for everybody who is known | `apps` |
//! | the name of a level is shown | `an_application_is_shown_with_its_event_types_and_levels` |
//! | `GET /endpoints`: `limit`, `offset`, `order`, `q` | `lists` |
//! | `POST`, `GET`, `PUT`, `DELETE` of endpoints; attributes | `an_endpoint_is_made_shown_changed_and_deleted` |
//! | `POST /endpoints/:id/test`: 502 with the reason, no trace | `a_test_that_cannot_be_sent_says_why_and_changes_nothing` |
//! | `GET /endpoints/:id/filter`, or 404 | `a_filter_is_made_and_shown_with_its_endpoint`, `an_endpoint_without_a_filter_has_none_to_show` |
//! | answers are `application/vnd.api+json` | `Said::with`, in all of them |
//! | `/v1/openapi.json`, `/api-docs` | `the_description_is_served_and_is_the_reviewed_one`, `a_page_to_read_the_description_needs_no_other_host` |
//! | anything else is 404 with its route | `anything_else_is_not_found_with_its_route` |
//! | `q=text`, `q=name~a,url~b`, case | `a_search_finds_text_in_name_or_url`, `a_search_by_fields_needs_all_of_them` |
//! | a field that is not searchable, a wrong form | `a_search_that_makes_no_sense_is_refused` |
//! | an unknown order | `an_unknown_order_is_refused` |
//! | `%` and `_` are literal | `percent_and_underscore_mean_themselves` |
//! | `meta`, `links` with the request's own parameters | `a_list_tells_how_much_there_is_and_leads_to_the_rest`, `links_keep_the_parameters_of_the_request` |
//! | the type follows the URL, `::` is accepted | `the_type_follows_the_url` |
//! | an unknown type | `an_unknown_type_is_refused_by_its_name` |
//! | `PUT` without a URL keeps it | `a_change_without_a_url_keeps_it` |
//! | one filter per endpoint; `PUT` replaces its sets | `a_change_of_a_filter_replaces_its_sets` |
//! | `_destroy` | `a_filter_that_is_destroyed_is_gone` |
//! | `enabled` can be set | `a_filter_is_switched_on_and_off` |
//! | an id that does not exist: 422 | `an_unknown_member_is_refused_when_made_and_when_changed` |
//! | names are unique in the account | `a_name_is_unique_in_the_account` |
//! | a missing name or URL | `a_missing_name_or_url_is_named` |
//! | not found and not allowed are the same | `what_another_account_has_is_not_found` |
//! | a bad request; a missing `endpoint` | `a_body_that_is_no_json_is_a_bad_request`, `a_body_without_an_endpoint_is_a_bad_request` |
//! | `data` is write-only, other keys are dropped | `data_is_written_and_never_shown` |
//! | `server_ca_certificate` | `a_certificate_that_is_none_is_refused` |
//! | 401 for a missing and for an unreadable identity | `a_request_that_says_nothing_is_unauthenticated`, `an_identity_that_cannot_be_read_is_unauthenticated` |
//! | accounts and users are made when first seen | `an_account_is_made_when_it_is_first_seen` |
//! | an identity is believed from proxies only; tokens | `identity` |
//! | registration in JSON and YAML | `an_application_is_registered_in_json`, `an_application_is_registered_in_yaml` |
//! | 403 with an identity; a token is needed | `a_request_with_an_identity_is_forbidden`, `only_an_admin_or_registration_token_registers` |
//! | found by name, title updated | `an_application_is_found_by_name_and_its_title_updated` |
//! | all but the name is changed: added, retitled, moved, removed, in JSON and YAML | `definitions` |
//! | rows are kept, unlisted ones go | `known_things_keep_their_ids_and_unlisted_ones_go` |
//! | the order of listing | `the_order_of_the_list_is_kept_and_shown` |
//! | `levels` may be `[]`, `{}` or absent | `levels_may_be_a_list_or_an_empty_object_or_absent_every_time` |
//! | duplicate ids, blank titles, missing event types | `what_is_wrong_is_named_and_nothing_is_done` |
//! | a removal never widens a filter | `a_removal_never_widens_a_filter`; what is delivered then: `definitions` |
//! | `dry_run` | `a_dry_run_tells_what_would_change_and_does_nothing` |
//! | what the commands list of it | `commands` |
//! | dead letters are delivered again | `redelivery` |
//! | one notification is explained, and rendered by the command | `rendering` |
//! | what one door can the other can, accounts apart | `doors`, `changing` |
//! | headers, credentials and a timeout of an endpoint | `requests` |
//! | endpoints that are no webhooks | `drivers`, `kafka_endpoints` |
//! | notifications over HTTP, Dovecot's own driver | `sources`, `ox`, `with_kafka` |
//! | accounts are seen and closed by an admin | `accounts` |
//! | users and passwords in URLs | `urls` |
//! | ports of networks, and what failures tell | `networks` |
//! | the attempt that began last | `began` |
//! | tokens of applications, that send, that end; who did what | `who`, `tokens` |
//! | how large an answer gets | `large_lists` |
//! | what an account may leave in the store, how many users may be new | `floods` |
//! | arrays of notifications, requests that are sent again | `messages`, `with_kafka` |
//! | else 500 with its text | `what_the_database_does_not_do_is_an_unexpected_error` |

mod accounts;
mod apps;
mod as_it_stands;
mod began;
mod changes;
mod changing;
mod commands;
mod content;
mod definitions;
mod deliveries;
mod disabling;
mod domains;
mod doors;
mod drivers;
mod endpoints;
mod filters;
mod first_steps;
mod floods;
mod flow;
mod follow;
mod forms;
mod identity;
#[cfg(feature = "kafka")]
mod kafka_endpoints;
mod large_lists;
#[cfg(feature = "kafka")]
mod limits;
mod lists;
mod mended;
mod messages;
mod networks;
mod numbers;
mod ox;
mod quotas;
mod receivers;
mod redelivery;
mod registration;
mod rendering;
mod requests;
mod retention;
mod secrets;
mod setup;
mod shape;
mod sources;
mod tokens;
mod urls;
mod warnings;
mod who;
#[cfg(feature = "kafka")]
mod with_kafka;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use dovecast_testkit::Unavailable;
use dovecast_testkit::postgres::Postgres;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use setup::{Case, World};

/// Servers, or what they lack.
type Shared = Result<Arc<World>, Unavailable>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // Started here and dropped here: they must not outlive the process.
    let worlds = if arguments.list {
        Vec::new()
    } else {
        start().expect("servers to test")
    };
    let cases: Vec<Case> = [
        accounts::CASES,
        apps::CASES,
        as_it_stands::CASES,
        began::CASES,
        changes::CASES,
        changing::CASES,
        commands::CASES,
        content::CASES,
        definitions::CASES,
        disabling::CASES,
        domains::CASES,
        doors::CASES,
        deliveries::CASES,
        drivers::CASES,
        endpoints::CASES,
        filters::CASES,
        first_steps::CASES,
        floods::CASES,
        flow::CASES,
        follow::CASES,
        forms::CASES,
        identity::CASES,
        #[cfg(feature = "kafka")]
        kafka_endpoints::CASES,
        large_lists::CASES,
        #[cfg(feature = "kafka")]
        limits::CASES,
        lists::CASES,
        mended::CASES,
        messages::CASES,
        networks::CASES,
        numbers::CASES,
        ox::CASES,
        quotas::CASES,
        receivers::CASES,
        redelivery::CASES,
        registration::CASES,
        rendering::CASES,
        requests::CASES,
        retention::CASES,
        secrets::CASES,
        shape::CASES,
        sources::CASES,
        tokens::CASES,
        urls::CASES,
        who::CASES,
        warnings::CASES,
        #[cfg(feature = "kafka")]
        with_kafka::CASES,
    ]
    .concat();
    let mut trials = Vec::new();
    for (place, database) in ["sqlite", "postgres"].into_iter().enumerate() {
        for (name, case) in cases.iter().copied() {
            let name = format!("{database}::{name}");
            let world = worlds.get(place).cloned();
            trials.push(Trial::ignorable_test(name.clone(), move || {
                run(&name, case, world)
            }));
        }
    }
    let ended = libtest_mimic::run(&arguments, trials);
    drop(worlds);
    ended.exit_code()
}

fn start() -> Result<Vec<Shared>> {
    let postgres = match Postgres::start()? {
        Ok(postgres) => Ok(Arc::new(World::start(Some(Arc::new(postgres)))?)),
        Err(unavailable) => Err(unavailable),
    };
    Ok(vec![Ok(Arc::new(World::start(None)?)), postgres])
}

fn run(
    name: &str,
    case: fn(&World) -> Result<()>,
    world: Option<Shared>,
) -> Result<Completion, Failed> {
    match world {
        Some(Ok(world)) => match case(&world) {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => Err(Failed::from(dovecast_testkit::failure(&error))),
        },
        Some(Err(unavailable)) => {
            println!("\n*** {name} SKIPPED: {unavailable}\n");
            Ok(Completion::ignored_with(unavailable.to_string()))
        }
        None => Err("only listed".into()),
    }
}
