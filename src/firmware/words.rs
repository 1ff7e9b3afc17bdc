//! Descriptions of a release's rules for people, used in the log at the start, by `luat-ota check`
//! and on the operator page.

use crate::firmware::catalog::Release;

/// Describes the modules that a release has packages for.
pub fn audience_text(release: &Release) -> String {
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

/// Describes each rule of a release in a few words.
pub fn rules(release: &Release) -> Vec<String> {
    conditions(release)
        .into_iter()
        .map(|(_, text)| text)
        .collect()
}

/// Returns each rule of a release as its key in release.json (or `held_back`) and a description.
pub fn conditions(release: &Release) -> Vec<(&'static str, String)> {
    let held_back = release.held_back.as_ref();
    let held_back = held_back.map(|reason| ("held_back", format!("held back: {reason}")));
    held_back.into_iter().chain(release.rules.words()).collect()
}
