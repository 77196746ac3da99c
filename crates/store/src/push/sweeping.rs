//! Rows of persons that are swept now and then: found by reading, which nobody waits for, and
//! changed by their keys, some at a time, if what they were found by holds still.

#[cfg(test)]
mod tests;

use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::statement::Statement;

/// Rows that are found and changed at a time: the statement stays short.
const AT_A_TIME: i64 = 200;

/// A condition on the rows of a table: their person has no subscription, and no session that ends
/// after `$1`.
macro_rules! has_nothing {
    ($table:literal) => {
        concat!(
            "NOT EXISTS (SELECT 1 FROM push_subscription AS s WHERE s.context = ",
            $table,
            ".context AND s.user_name = ",
            $table,
            ".user_name) AND NOT EXISTS (SELECT 1 FROM push_session AS s WHERE s.context = ",
            $table,
            ".context AND s.user_name = ",
            $table,
            ".user_name AND s.expires_ms > $1)"
        )
    };
}
pub(super) use has_nothing;

/// What is swept.
pub(super) struct Sweep {
    /// The table, with a row for each person.
    pub(super) table: &'static str,
    /// What is done with rows, up to its condition.
    pub(super) act: &'static str,
    /// Which rows it is done with.
    pub(super) condition: &'static str,
}

impl Sweep {
    fn find(&self, numbers: &[i64]) -> Statement {
        let mut find = Statement::of_numbered("SELECT context, user_name FROM ", numbers);
        find.push(self.table).push(" WHERE ").push(self.condition);
        find.push(" LIMIT ").bind(AT_A_TIME);
        find
    }

    /// What is done with the rows of these persons, each a context and a user.
    fn act_on(&self, numbers: &[i64], persons: Vec<(String, String)>) -> Statement {
        let mut act = Statement::of_numbered(self.act, numbers);
        act.push(" WHERE ").push(self.condition);
        // Each by itself: SQLite takes no index for a list of pairs.
        let mut or = " AND ((context = ";
        for (context, user) in persons {
            act.push(or).bind(context);
            act.push(" AND user_name = ").bind(user).push(")");
            or = " OR (context = ";
        }
        act.push(")");
        act
    }
}

impl Store {
    /// Sweeps rows of persons; how many there were. The numbers are those of `$1` and what follows.
    pub(super) async fn sweep_persons(&self, sweep: &Sweep, numbers: &[i64]) -> Result<u64> {
        let mut swept = 0;
        loop {
            let mut connection = self.database.pool.acquire().await?;
            let rows = sweep.find(numbers).fetch_all(&mut connection).await?;
            drop(connection);
            if rows.is_empty() {
                return Ok(swept);
            }
            let is_last = i64::try_from(rows.len()).is_ok_and(|found| found < AT_A_TIME);
            let person = |found| Ok((row::text(found, "context")?, row::text(found, "user_name")?));
            let persons = rows.iter().map(person).collect::<Result<_>>()?;
            let act = sweep.act_on(numbers, persons);
            let changed = act.execute_on(&self.database.pool).await?;
            swept += changed;
            // Where none was changed others are at it.
            if is_last || changed == 0 {
                return Ok(swept);
            }
        }
    }
}
