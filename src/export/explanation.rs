//! An explanation as JSON, in the form that the API shows, and the columns of its CSV.

use serde_json::{Value, json};

use super::Column;
use crate::decision::Verdict;
use crate::explain::Explanation;

/// The columns of an explanation.
pub const EXPLANATION: &[Column] = &[
    ("verdict", "/verdict"),
    ("release", "/release"),
    ("package", "/package"),
    ("reason", "/reason"),
    ("http_status", "/http/status"),
    ("code", "/http/code"),
    ("udp", "/udp"),
    ("notes", "/notes/*/text"),
];

/// Returns an explanation as JSON. `remarks`: limits of the explanation, which follow its notes.
pub fn explanation(explanation: &Explanation<'_>, remarks: impl Iterator<Item = String>) -> Value {
    let (word, release, package, reason) = match &explanation.verdict {
        Verdict::Offer(offer) => (
            "offer",
            Some(offer.release),
            Some(&offer.package.path),
            format!("{} is offered", offer.release.version_text),
        ),
        Verdict::Refuse(refused) => ("refuse", refused.release, None, refused.to_string()),
    };
    let notes = explanation.notes.list().iter();
    let notes = notes.map(|note| json!({"release": note.release, "text": note.text}));
    let remarks = remarks.map(|text| json!({"release": "", "text": text}));
    json!({
        "verdict": word,
        "http": {"status": explanation.status, "code": explanation.code},
        "udp": explanation.udp,
        "release": release.map(|release| &release.version_text),
        "package": package,
        "reason": reason,
        "notes": notes.chain(remarks).collect::<Value>(),
    })
}
