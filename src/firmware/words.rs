//! A release's rules in words for people: in the lines at the start, in `luat-ota check`, and on the
//! operator's page.

use crate::firmware::catalog::Release;

/// The modules that a release has packages for.
pub fn whom(release: &Release) -> String {
    let mut platforms: Vec<&str> = Vec::new();
    let mut everyone = false;
    for package in &release.packages {
        match package.platform.as_deref() {
            Some(platform) if !platforms.contains(&platform) => platforms.push(platform),
            Some(_) => {}
            None => everyone = true,
        }
    }
    match everyone || platforms.is_empty() {
        true => "every module of the project".to_owned(),
        false => format!("modules on {}", platforms.join(", ")),
    }
}

/// The rules of a release, in a few words each.
pub fn rules(release: &Release) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(reason) = &release.held_back {
        words.push(format!("held back: {reason}"));
    }
    words.extend(release.rules.words());
    words
}
