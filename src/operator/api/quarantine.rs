//! `GET /api/v1/quarantine`: files that are not served, look wrong, are not firmware, or are still being read. The four
//! lists are paged as one, in this order.

use serde_json::{Value, json};

use crate::firmware::catalog::{Catalog, Remark};
use crate::operator::context::OperatorContext;
use crate::operator::head::RequestHead;
use crate::operator::response::{ApiResult, Response};

/// The lists, in the order of the pages.
const LISTS: [&str; 4] = ["quarantined", "warnings", "ignored", "waiting"];

/// Returns a page of the lists (`?after=&limit=`).
pub(super) fn list(context: &OperatorContext, head: &RequestHead) -> ApiResult {
    let most = super::limit(head)?;
    let after = super::after(head, place)?;
    Ok(Response::json(&page(&(context.catalog)(), after, most)))
}

/// Returns the number of files that are not served because they have a fault.
pub(super) fn quarantined_files(catalog: &Catalog) -> usize {
    catalog.quarantined.len() + catalog.unlisted.quarantined
}

/// Parses `LIST/PATH`. Returns the number of the list, and the last path of it that was shown.
fn place(after: &str) -> Option<(usize, &str)> {
    let (list, path) = after.split_once('/')?;
    let list = LISTS.iter().position(|name| *name == list)?;
    Some((list, path))
}

/// Returns a page of `most` entries, or a few more if one path has several remarks.
fn page(catalog: &Catalog, after: Option<(usize, &str)>, most: usize) -> Value {
    fn entries(list: usize, remarks: &[Remark]) -> impl Iterator<Item = (usize, &str, &str)> {
        remarks
            .iter()
            .map(move |remark| (list, &*remark.path, &*remark.text))
    }
    let remarks = entries(0, &catalog.quarantined)
        .chain(entries(1, &catalog.warnings))
        .chain(entries(2, &catalog.ignored));
    let waiting = catalog.waiting.iter().map(|path| (3, path.as_str(), ""));
    let mut entries: Vec<(usize, &str, &str)> = Vec::new();
    let mut next = None;
    for entry in remarks.chain(waiting) {
        let (list, path, _) = entry;
        let last = entries.last().map(|(list, path, _)| (*list, *path));
        if entries.len() >= most && last != Some((list, path)) {
            next = last;
            break;
        }
        if Some((list, path)) > after {
            entries.push(entry);
        }
    }
    let remarks = |list: usize, key: &str| -> Value {
        let entries = entries.iter().filter(|(other, ..)| *other == list);
        entries
            .map(|(_, path, text)| json!({"path": path, key: text}))
            .collect()
    };
    let waiting = entries.iter().filter(|(list, ..)| *list == 3);
    let next = next.map(|(list, path)| format!("{}/{path}", LISTS.get(list).unwrap_or(&"")));
    json!({
        "quarantined": remarks(0, "reason"),
        "warnings": remarks(1, "text"),
        "ignored": remarks(2, "text"),
        "waiting": waiting.map(|(_, path, _)| *path).collect::<Value>(),
        "counts": {
            "quarantined": quarantined_files(catalog),
            "warnings": catalog.warnings.len(),
            "ignored": catalog.ignored.len() + catalog.unlisted.ignored,
            "waiting": catalog.waiting.len(),
        },
        "next": next,
    })
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
