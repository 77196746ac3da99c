//! `dovecast topics` and `dovecast groups`: what there is, and a topic that is to go.

use anyhow::Result;

use super::pretty::printable;
use super::print;
use crate::access::Access;
use crate::cli::ListArguments;
use crate::control::client::Client;
use crate::control::json;

pub(super) async fn topics(access: &Access, arguments: &ListArguments) -> Result<()> {
    let topics: Vec<_> = access
        .topics()
        .await?
        .into_iter()
        .map(json::Topic::from)
        .collect();
    if arguments.json {
        return print(&(serde_json::to_string(&topics)? + "\n"));
    }
    let mut rows = vec![["TOPIC", "PARTITION", "BEGIN", "END", "RECORDS"].map(str::to_owned)];
    for topic in topics {
        for partition in topic.partitions {
            rows.push([
                topic.topic.clone(),
                partition.partition.to_string(),
                partition.begin.to_string(),
                partition.end.to_string(),
                partition.end.saturating_sub(partition.begin).to_string(),
            ]);
        }
    }
    print(&aligned(&rows, 1))
}

/// Removes a topic of the running server's own log.
pub(super) async fn remove_topic(client: &Client, name: &str) -> Result<()> {
    client.remove_topic(name).await?;
    print(&format!("the topic `{}` is removed\n", printable(name)))
}

pub(super) async fn groups(access: &Access, arguments: &ListArguments) -> Result<()> {
    let groups: Vec<_> = access
        .groups()
        .await?
        .into_iter()
        .map(json::GroupPlace::from)
        .collect();
    if arguments.json {
        return print(&(serde_json::to_string(&groups)? + "\n"));
    }
    let mut rows =
        vec![["GROUP", "TOPIC", "PARTITION", "COMMITTED", "END", "LAG"].map(str::to_owned)];
    rows.extend(groups.into_iter().map(|group| {
        [
            group.group,
            group.topic,
            group.partition.to_string(),
            group.committed.to_string(),
            group.end.to_string(),
            group.lag.to_string(),
        ]
    }));
    print(&aligned(&rows, 2))
}

/// A table; the first `texts` columns are text, the others numbers.
pub(super) fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]], texts: usize) -> String {
    // Names and reasons are others': nothing of them steers a terminal.
    let rows: Vec<[String; COLUMNS]> = rows
        .iter()
        .map(|row| std::array::from_fn(|column| printable(&row[column])))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut table = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                if column < texts {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
        table.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_steers_no_terminal() {
        let rows = [["a\u{1b}[2Jb\r\n", "1"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows, 1), "a\u{fffd}[2Jb    1\n");
    }

    #[test]
    fn texts_stand_at_the_left_and_numbers_at_the_right() {
        let rows = [["TOPIC", "END"], ["dovecot", "5"], ["x", "12345"]];
        let rows = rows.map(|row| row.map(str::to_owned));
        assert_eq!(
            aligned(&rows, 1),
            "TOPIC      END\ndovecot      5\nx        12345\n"
        );
    }
}
