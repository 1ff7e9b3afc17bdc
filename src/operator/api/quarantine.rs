//! `GET /api/v1/quarantine`: files that are not served, look wrong, are no firmware, or are still read. The four
//! lists are paged as one, in this order.

use serde_json::{Map, Value, json};

use crate::firmware::catalog::{Catalog, Remark};
use crate::operator::context::OperatorContext;
use crate::operator::head::RequestHead;
use crate::operator::reply::Reply;

/// The lists, in the order of the pages.
const LISTS: [&str; 4] = ["quarantined", "warnings", "ignored", "waiting"];

/// `?after=&limit=`
pub(super) fn list(context: &OperatorContext, head: &RequestHead) -> Result<Reply, Reply> {
    let most = super::limit(head)?;
    let after = super::after(head, place)?;
    Ok(Reply::json(&page(&(context.catalog)(), after, most)))
}

/// The number of files that are not served because something is wrong with them.
pub(super) fn quarantined_files(catalog: &Catalog) -> usize {
    catalog.quarantined.len() + catalog.unlisted.quarantined
}

/// `LIST/PATH`: the number of a list and the last path that was shown of it.
fn place(after: &str) -> Option<(usize, &str)> {
    let (list, path) = after.split_once('/')?;
    let list = LISTS.iter().position(|name| *name == list)?;
    Some((list, path))
}

/// A page of `most` entries; a few more where one path has several remarks.
fn page(catalog: &Catalog, after: Option<(usize, &str)>, most: usize) -> Value {
    let remark = |key: &'static str| {
        move |remark: &Remark| {
            let entry = json!({"path": remark.path, key: remark.text});
            (remark.path.clone(), entry)
        }
    };
    let waiting = |path: &String| (path.clone(), Value::from(path.as_str()));
    let (first, first_after) = after.unwrap_or((0, ""));
    let mut page = Map::new();
    let mut left = most;
    let mut next = None;
    for (number, name) in LISTS.into_iter().enumerate() {
        let after = if number == first { first_after } else { "" };
        let mut entries = Vec::new();
        if number >= first && next.is_none() {
            let all: &mut dyn Iterator<Item = (String, Value)> = match number {
                0 => &mut catalog.quarantined.iter().map(remark("reason")),
                1 => &mut catalog.warnings.iter().map(remark("text")),
                2 => &mut catalog.ignored.iter().map(remark("text")),
                _ => &mut catalog.waiting.iter().map(waiting),
            };
            let mut last: Option<String> = None;
            for (path, entry) in all.filter(|(path, _)| after.is_empty() || &**path > after) {
                if left == 0 && last.as_ref() != Some(&path) {
                    // A list of which nothing is shown begins with the next page.
                    next = Some(format!("{name}/{}", last.as_deref().unwrap_or_default()));
                    break;
                }
                left = left.saturating_sub(1);
                entries.push(entry);
                last = Some(path);
            }
        }
        page.insert(name.to_owned(), entries.into());
    }
    let counts = json!({
        "quarantined": quarantined_files(catalog),
        "warnings": catalog.warnings.len(),
        "ignored": catalog.ignored.len() + catalog.unlisted.ignored,
        "waiting": catalog.waiting.len(),
    });
    page.insert("counts".to_owned(), counts);
    page.insert("next".to_owned(), next.into());
    Value::Object(page)
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
