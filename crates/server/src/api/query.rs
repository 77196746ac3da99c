//! Queries: the part of a list that is wanted, search and order, and the links to other parts.

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::request::Parts;
use dovecast_store::{EndpointOrder, EndpointQuery, Search};
use url::form_urlencoded;

use super::Api;
use super::documents::{ListLinks, ListMeta};
use super::error::ApiError;
use super::forwarded;

/// Most resources in an answer where `limit` is not given.
const DEFAULT_LIMIT: i64 = 10;
/// Most resources in an answer, whatever `limit` says.
const MAX_LIMIT: i64 = 1000;

/// Longest `q`, in characters: SQLite bounds the length of patterns.
const MAX_SEARCH_CHARS: usize = 2048;
/// Most conditions in `q`: SQLite bounds the depth of expressions.
const MAX_CONDITIONS: usize = 20;

/// The parameters of a request, and what links begin with.
pub(crate) struct Query {
    base: String,
    parameters: Vec<(String, String)>,
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) limit: i64,
    pub(crate) offset: i64,
}

impl FromRequestParts<Api> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let uri = match parts.extensions.get::<OriginalUri>() {
            Some(OriginalUri(uri)) => uri.clone(),
            None => parts.uri.clone(),
        };
        let base = format!("{}{}", origin(parts, api), uri.path());
        Self::read(base, uri.query().unwrap_or_default())
    }
}

/// `http://HOST`, as the client sees it.
fn origin(parts: &Parts, api: &Api) -> String {
    let proxies = &api.trusted_proxies;
    let scheme = if forwarded::is_https(parts, proxies) {
        "https"
    } else {
        "http"
    };
    match forwarded::host(parts, proxies) {
        Some(host) => format!("{scheme}://{host}"),
        None => String::new(),
    }
}

impl Query {
    /// Reads what is behind the `?`; `base` is what is before it.
    pub(super) fn read(base: String, query: &str) -> Result<Self, ApiError> {
        let parameters: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        if parameters.iter().any(|(_, value)| value.contains('\0')) {
            return Err(ApiError::bad_request("the query contains a NUL character"));
        }
        Ok(Self { base, parameters })
    }

    /// What a parameter says, if it says anything.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let last = self.parameters.iter().rfind(|(key, _)| key == name);
        last.map(|(_, value)| &**value)
            .filter(|value| !value.is_empty())
    }

    /// Whether a parameter says `true`.
    pub(crate) fn is_set(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => Err(ApiError::parameter(
                name,
                format!("`{other}` is neither `true` nor `false`"),
            )),
        }
    }

    /// `limit` and `offset`.
    pub(crate) fn part(&self) -> Result<Part, ApiError> {
        self.part_of(DEFAULT_LIMIT)
    }

    /// `limit` of a list that has no total.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        // It is from 1 to MAX_LIMIT.
        Ok(usize::try_from(self.part()?.limit).unwrap_or_default())
    }

    /// `limit` and `offset` of a list that clients want as a whole: the default is the most.
    pub(crate) fn whole(&self) -> Result<Part, ApiError> {
        self.part_of(MAX_LIMIT)
    }

    fn part_of(&self, default_limit: i64) -> Result<Part, ApiError> {
        let number = |name: &str, default: i64, least: i64| match self.get(name) {
            None => Ok(default),
            Some(text) => match text.parse::<i64>() {
                Ok(number) if number >= least => Ok(number),
                _ => Err(ApiError::parameter(
                    name,
                    format!("`{text}` is not a number of at least {least}"),
                )),
            },
        };
        Ok(Part {
            limit: number("limit", default_limit, 1)?.min(MAX_LIMIT),
            offset: number("offset", 0, 0)?,
        })
    }

    /// Which endpoints are wanted.
    pub(crate) fn endpoints(&self) -> Result<EndpointQuery, ApiError> {
        let part = self.part()?;
        let (order, descending) = order(self.get("order").unwrap_or("name"))?;
        Ok(EndpointQuery {
            search: search(self.get("q").unwrap_or_default())?,
            order,
            descending,
            limit: part.limit,
            offset: part.offset,
        })
    }

    /// What the list says about itself.
    pub(crate) fn describe(&self, part: Part, total: i64) -> (ListMeta, ListLinks) {
        let Part { limit, offset } = part;
        let is_more = offset.saturating_add(limit) < total;
        let previous = Part {
            limit: limit.min(offset),
            offset: (offset - limit).max(0),
        };
        let links = ListLinks {
            first: self.link(Part { limit, offset: 0 }),
            last: self.link(Part {
                limit,
                offset: (total - limit).max(0),
            }),
            next: is_more.then(|| {
                self.link(Part {
                    limit,
                    offset: offset + limit,
                })
            }),
            previous: (offset > 0).then(|| self.link(previous)),
        };
        let meta = ListMeta {
            total,
            limit,
            offset,
        };
        (meta, links)
    }

    /// URL of the request with another value of a parameter.
    pub(crate) fn with(&self, name: &str, value: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let others = self.parameters.iter().filter(|(key, _)| key != name);
        query.extend_pairs(others);
        query.append_pair(name, value);
        format!("{}?{}", self.base, query.finish())
    }

    /// URL of the request with another part.
    fn link(&self, part: Part) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let others = self
            .parameters
            .iter()
            .filter(|(key, _)| key != "limit" && key != "offset");
        query.extend_pairs(others);
        query.append_pair("limit", &part.limit.to_string());
        query.append_pair("offset", &part.offset.to_string());
        format!("{}?{}", self.base, query.finish())
    }
}

fn order(text: &str) -> Result<(EndpointOrder, bool), ApiError> {
    let unknown = || ApiError::parameter("order", format!("Unknown sort order '{text}'"));
    let (field, direction) = text.split_once(' ').unwrap_or((text, "asc"));
    let order = match field {
        "name" => EndpointOrder::Name,
        "url" => EndpointOrder::Url,
        "active" => EndpointOrder::Active,
        _ => return Err(unknown()),
    };
    match &*direction.to_ascii_lowercase() {
        "asc" => Ok((order, false)),
        "desc" => Ok((order, true)),
        _ => Err(unknown()),
    }
}

/// `text`, or `name~a,url~b`.
fn search(text: &str) -> Result<Search, ApiError> {
    if text.is_empty() {
        return Ok(Search::All);
    }
    if text.chars().count() > MAX_SEARCH_CHARS {
        let detail = format!("is too long (maximum is {MAX_SEARCH_CHARS} characters)");
        return Err(ApiError::parameter("q", detail));
    }
    if !text.contains(['~', ',']) {
        return Ok(Search::Either(text.to_owned()));
    }
    if text.split(',').count() > MAX_CONDITIONS {
        let detail = format!("has too many conditions (maximum is {MAX_CONDITIONS})");
        return Err(ApiError::parameter("q", detail));
    }
    let (mut name, mut url) = (Vec::new(), Vec::new());
    for condition in text.split(',') {
        // Spelled as clients know it.
        let malformed =
            || format!("{condition} is not valid search codition, should be field~value");
        let (field, value) = condition
            .split_once('~')
            .filter(|(field, value)| !field.is_empty() && !value.is_empty())
            .ok_or_else(|| ApiError::parameter("q", malformed()))?;
        match field {
            "name" => name.push(value.to_owned()),
            "url" => url.push(value.to_owned()),
            _ => {
                let detail = format!("{field} is not marked searchable");
                return Err(ApiError::parameter("q", detail));
            }
        }
    }
    Ok(Search::Each { name, url })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(parameters: &[(&str, &str)]) -> Query {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Query {
            base: "http://host/list".to_owned(),
            parameters: parameters.iter().map(own).collect(),
        }
    }

    #[test]
    fn links_keep_the_other_parameters_and_lead_to_the_other_parts() {
        for (limit, offset, total, next, previous, last) in [
            (10, 0, 0, None, None, (10, 0)),
            (10, 0, 10, None, None, (10, 0)),
            (10, 0, 11, Some((10, 10)), None, (10, 1)),
            (2, 2, 5, Some((2, 4)), Some((2, 0)), (2, 3)),
            (10, 3, 5, None, Some((3, 0)), (10, 0)),
            (10, i64::MAX, 5, None, Some((10, i64::MAX - 10)), (10, 0)),
        ] {
            let query = query(&[("q", "a&b"), ("limit", "99"), ("x", "")]);
            let (meta, links) = query.describe(Part { limit, offset }, total);
            assert_eq!(
                (meta.total, meta.limit, meta.offset),
                (total, limit, offset)
            );
            let link = |(limit, offset): (i64, i64)| {
                format!("http://host/list?q=a%26b&x=&limit={limit}&offset={offset}")
            };
            assert_eq!(links.first, link((limit, 0)));
            assert_eq!(links.last, link(last));
            assert_eq!(links.next, next.map(link));
            assert_eq!(links.previous, previous.map(link));
        }
    }

    #[test]
    fn a_search_is_text_or_conditions() {
        let text = |text: &str| text.to_owned();
        let each = |name: &[&str], url: &[&str]| Search::Each {
            name: name.iter().copied().map(text).collect(),
            url: url.iter().copied().map(text).collect(),
        };
        for (query, expected) in [
            ("", Search::All),
            ("a b", Search::Either(text("a b"))),
            ("name~a", each(&["a"], &[])),
            ("name~a,url~b,name~c", each(&["a", "c"], &["b"])),
            ("url~a~b", each(&[], &["a~b"])),
        ] {
            assert_eq!(search(query).expect(query), expected);
        }
        for query in ["a,b", "name~", "~a", "name~a,", "title~a", ","] {
            assert!(search(query).is_err(), "{query}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for (name, value) in [
            ("limit", "0"),
            ("limit", "-1"),
            ("limit", "many"),
            ("offset", "-1"),
            ("offset", "99999999999999999999"),
        ] {
            assert!(query(&[(name, value)]).part().is_err(), "{name}={value}");
        }
        let part = query(&[("limit", "5000"), ("offset", "7")]).part();
        let expected = Part {
            limit: 1000,
            offset: 7,
        };
        assert_eq!(part.expect("a part"), expected);
    }
}
