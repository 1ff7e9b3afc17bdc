//! `/api/v1/quarantine`: what is not served, what looks wrong, what is no firmware, what is still read. The four
//! lists are paged as one, in this order.

use http_types::StatusCode;
use serde_json::{Map, Value};

use super::{limit, object, or_null, quarantined_files};
use crate::firmware::catalog::{Catalog, Remark};
use crate::operator::Desk;
use crate::operator::head::Asked;
use crate::operator::reply::Reply;

/// The lists, in the order of the pages.
const LISTS: [&str; 4] = ["quarantined", "warnings", "ignored", "waiting"];

/// `?after=&limit=`
pub(super) fn list(desk: &Desk, asked: &Asked) -> Reply {
    let most = match limit(asked, 100, 500) {
        Ok(limit) => limit,
        Err(reply) => return reply,
    };
    let after = match asked.target.asked("after") {
        None => None,
        Some(after) => match place(after) {
            Some(place) => Some(place),
            None => {
                return Reply::problem(
                    StatusCode::BadRequest,
                    "after must be what a page before said in next",
                );
            }
        },
    };
    let catalog: &Catalog = &(desk.catalog)();
    Reply::json(&page(catalog, after, most))
}

/// `LIST/PATH`: the list by its number, and the last path that was shown.
fn place(after: &str) -> Option<(usize, &str)> {
    let (list, path) = after.split_once('/')?;
    let list = LISTS.iter().position(|name| *name == list)?;
    Some((list, path))
}

/// A page of `most` entries; a few more where one path has several remarks.
fn page(catalog: &Catalog, after: Option<(usize, &str)>, most: usize) -> Value {
    let remark = |key: &'static str| {
        move |remark: &Remark| {
            let shown = object([
                ("path", remark.path.as_str().into()),
                (key, remark.text.as_str().into()),
            ]);
            (remark.path.clone(), shown)
        }
    };
    let waiting = |path: &String| (path.clone(), Value::from(path.as_str()));
    let mut map = Map::new();
    let mut left = most;
    let mut next = None;
    for (number, name) in LISTS.into_iter().enumerate() {
        let begins = match after {
            Some((list, _)) if number < list => None,
            Some((list, path)) if number == list => Some(path),
            _ => Some(""),
        };
        let mut shown = Vec::new();
        if let (Some(begins), None) = (begins, &next) {
            let is_new = |path: &str| begins.is_empty() || path > begins;
            let entries: &mut dyn Iterator<Item = (String, Value)> = match number {
                0 => &mut catalog.quarantined.iter().map(remark("reason")),
                1 => &mut catalog.warnings.iter().map(remark("text")),
                2 => &mut catalog.ignored.iter().map(remark("text")),
                _ => &mut catalog.waiting.iter().map(waiting),
            };
            let mut last: Option<String> = None;
            for (path, entry) in entries.filter(|(path, _)| is_new(path)) {
                if left == 0 && last.as_ref() != Some(&path) {
                    // Where nothing of this list was shown, it begins with the next page.
                    next = Some(format!("{name}/{}", last.as_deref().unwrap_or_default()));
                    break;
                }
                left = left.saturating_sub(1);
                shown.push(entry);
                last = Some(path);
            }
        }
        map.insert(name.to_owned(), shown.into());
    }
    let ignored = catalog.ignored.len();
    let counts = object([
        ("quarantined", quarantined_files(catalog).into()),
        ("warnings", catalog.warnings.len().into()),
        (
            "ignored",
            ignored.saturating_add(catalog.unlisted.ignored).into(),
        ),
        ("waiting", catalog.waiting.len().into()),
    ]);
    map.insert("counts".to_owned(), counts);
    map.insert("next".to_owned(), or_null(next));
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pages_together_are_the_lists_whatever_their_length() {
        let remarks = |name: &str, count: usize| -> Vec<Remark> {
            (0..count)
                .map(|n| Remark {
                    // Some paths have two remarks.
                    path: format!("{name}/{:03}", n / 3 * 2),
                    text: format!("{n}"),
                })
                .collect()
        };
        for (a, b, c, d) in [(0, 0, 0, 0), (7, 0, 5, 2), (10, 10, 10, 10), (1, 30, 0, 9)] {
            let mut catalog = Catalog::default();
            catalog.quarantined = remarks("q", a);
            catalog.warnings = remarks("w", b);
            catalog.ignored = remarks("i", c);
            catalog.waiting = (0..d).map(|n| format!("p/{n}")).collect();
            for most in [1, 2, 5, 10, 100] {
                let (mut found, mut next) = ([0; 4], None::<String>);
                for _ in 0..100 {
                    let after = next.as_deref().map(|after| place(after).unwrap());
                    let page = page(&catalog, after, most);
                    let mut shown = 0;
                    for (count, name) in found.iter_mut().zip(LISTS) {
                        let length = page[name].as_array().unwrap().len();
                        *count += length;
                        shown += length;
                    }
                    assert!(shown <= most + 2, "{page}");
                    next = page["next"].as_str().map(str::to_owned);
                    if next.is_none() {
                        break;
                    }
                }
                assert_eq!((found, next), ([a, b, c, d], None), "{most}");
            }
        }
    }
}
