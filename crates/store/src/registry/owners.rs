//! Applications of tokens: which a token of the scope `registration` may register and remove, and
//! which one of the scope `send` may send for.

use std::collections::{BTreeSet, HashMap};

use super::{ApplicationId, TokenId};
use crate::connection::Connection;
use crate::error::{Result, StoreError};
use crate::feed::Change;
use crate::row;
use crate::statement::{ROWS, Statement};

/// Most applications of one token: a token that anybody has must not fill the store, and more than
/// this nobody keeps apart.
pub const MAX_APPLICATIONS: usize = 1000;

/// Most event types and levels of all applications of one token that registers: who lists
/// applications reads them all, and a thousand applications of ten thousand each nobody has.
pub const MAX_REGISTERED: usize = 20_000;

/// Event types and levels of the applications that a token has.
const REGISTERED: &str = "SELECT (SELECT COUNT(*) FROM token_application \
        JOIN application ON application.name = token_application.name \
        JOIN event_type ON event_type.application_id = application.id \
        WHERE token_id = $1 AND is_candidate = 0) \
    + (SELECT COUNT(*) FROM token_application \
        JOIN application ON application.name = token_application.name \
        JOIN event_type ON event_type.application_id = application.id \
        JOIN level ON level.event_type_id = event_type.id \
        WHERE token_id = $1 AND is_candidate = 0) AS total";

/// Who has an application, of the tokens that register.
const OWNERS: &str = "SELECT token_id, is_candidate FROM token_application \
    JOIN api_token ON api_token.id = token_id WHERE token_application.name = $1 AND scope = 'registration'";

/// Makes sure that an application is this token's. One that nobody has, and that is not there, is
/// so from now on; one of several candidates' as well, and the others' no more.
pub(super) async fn claim(
    change: &mut Change<'_>,
    token: TokenId,
    name: &str,
    is_there: bool,
) -> Result<()> {
    let owners = sqlx::query(OWNERS)
        .bind(name)
        .fetch_all(&mut *change.tx)
        .await?;
    let mut own = None;
    for row in &owners {
        if row::id::<TokenId>(row, "token_id")? == token {
            own = Some(row::truth(row, "is_candidate")?);
        }
    }
    match own {
        Some(false) => Ok(()),
        Some(true) => settle(change, token, &[name.to_owned()]).await,
        None if owners.is_empty() && !is_there => add(change, token, name).await,
        None => Err(StoreError::OthersApplication(name.to_owned())),
    }
}

/// Applications are one candidate's now, and the others' no more.
async fn settle(change: &mut Change<'_>, token: TokenId, names: &[String]) -> Result<()> {
    for (statement, of) in [
        (
            "DELETE FROM token_application WHERE is_candidate = 1 AND name IN (",
            ") AND token_id <> ",
        ),
        (
            "UPDATE token_application SET is_candidate = 0 WHERE is_candidate = 1 AND name IN (",
            ") AND token_id = ",
        ),
    ] {
        let mut settle = Statement::new(statement);
        settle.bind_list(names.iter().cloned(), ", ").push(of);
        settle.bind(token.to_string());
        settle.execute(&mut change.tx).await?;
    }
    Ok(())
}

/// Gives an application to a token.
async fn add(change: &mut Change<'_>, token: TokenId, name: &str) -> Result<()> {
    let most = i64::try_from(MAX_APPLICATIONS).unwrap_or(i64::MAX);
    let count = "SELECT COUNT(*) AS total FROM token_application WHERE token_id = $1";
    let count = sqlx::query(count).bind(token.to_string());
    let count = count.fetch_one(&mut *change.tx).await?;
    if row::number(&count, "total")? >= most {
        return Err(StoreError::TooManyApplications(MAX_APPLICATIONS));
    }
    give(change, token, &[name.to_owned()]).await
}

/// Gives applications that it does not have to a token.
async fn give(change: &mut Change<'_>, token: TokenId, names: &[String]) -> Result<()> {
    let mut give = Statement::new("WITH given (name) AS (VALUES (");
    give.bind_list(names.iter().cloned(), "), (");
    give.push(
        ")) INSERT INTO token_application (token_id, name, is_candidate) \
         SELECT id, given.name, 0 FROM api_token CROSS JOIN given WHERE id = ",
    );
    give.bind(token.to_string());
    // The token may have been deleted meanwhile.
    if give.execute(&mut change.tx).await? == 0 {
        let name = names.first().cloned().unwrap_or_default();
        return Err(StoreError::OthersApplication(name));
    }
    Ok(())
}

/// Makes sure that the applications of a token have no more event types and levels than they may,
/// with what its registration has added.
pub(super) async fn must_have_room(change: &mut Change<'_>, token: TokenId) -> Result<()> {
    let counted = sqlx::query(REGISTERED)
        .bind(token.to_string())
        .fetch_one(&mut *change.tx)
        .await?;
    if row::number(&counted, "total")? > i64::try_from(MAX_REGISTERED).unwrap_or(i64::MAX) {
        return Err(StoreError::TooManyRegistered(MAX_REGISTERED));
    }
    Ok(())
}

/// Gives a token exactly these applications; those that it registers are no candidate's any more.
pub(super) async fn put(
    change: &mut Change<'_>,
    (token, registers): (TokenId, bool),
    applications: &BTreeSet<String>,
) -> Result<()> {
    sqlx::query("DELETE FROM token_application WHERE token_id = $1")
        .bind(token.to_string())
        .execute(&mut *change.tx)
        .await?;
    if applications.len() > MAX_APPLICATIONS {
        return Err(StoreError::TooManyApplications(MAX_APPLICATIONS));
    }
    let names: Vec<String> = applications.iter().cloned().collect();
    for part in names.chunks(ROWS) {
        give(change, token, part).await?;
        if registers {
            settle(change, token, part).await?;
        }
    }
    Ok(())
}

/// Makes sure that an application is this token's alone to remove.
pub(super) async fn must_own(
    change: &mut Change<'_>,
    token: TokenId,
    id: ApplicationId,
) -> Result<()> {
    let found = sqlx::query("SELECT name FROM application WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(&mut *change.tx)
        .await?;
    let Some(found) = found else {
        // That it is not there is said by who looks for it next.
        return Ok(());
    };
    let name = row::text(&found, "name")?;
    let own = sqlx::query(
        "SELECT 1 AS own FROM token_application WHERE name = $1 AND token_id = $2 AND is_candidate = 0",
    )
    .bind(&name)
    .bind(token.to_string())
    .fetch_optional(&mut *change.tx)
    .await?;
    if own.is_none() {
        return Err(StoreError::OthersApplication(name));
    }
    Ok(())
}

/// The applications of all tokens, or of one.
pub(super) async fn of_tokens(
    connection: &mut Connection,
    token: Option<TokenId>,
) -> Result<HashMap<TokenId, Vec<String>>> {
    let mut statement = Statement::new("SELECT token_id, name FROM token_application");
    if let Some(token) = token {
        statement.push(" WHERE token_id = ").bind(token.to_string());
    }
    statement.push(" ORDER BY name");
    let mut names: HashMap<TokenId, Vec<String>> = HashMap::new();
    for row in statement.fetch_all(connection).await? {
        let token = row::id(&row, "token_id")?;
        names
            .entry(token)
            .or_default()
            .push(row::text(&row, "name")?);
    }
    Ok(names)
}
