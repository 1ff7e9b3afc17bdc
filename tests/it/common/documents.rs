//! The documents of the repository as tests see them: which there are, their fenced blocks, and the
//! commands with the output that they promise.

use std::path::Path;

/// The repository.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What is written for people: README in both languages, docs/ and the like. Paths in the repository.
pub fn documents() -> Vec<(String, String)> {
    let mut names: Vec<String> = super::files_under(Path::new(ROOT).join("docs").as_path())
        .into_iter()
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    for name in [
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "README.md",
        "README.zh-CN.md",
        "SECURITY.md",
        "firmware/README.md",
        "packaging/README.md",
    ] {
        names.push(name.to_owned());
    }
    names
        .into_iter()
        .map(|name| (name.clone(), read(&name)))
        .collect()
}

/// The text of a document.
pub fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The contents of the fenced blocks of a language, in order.
pub fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside: Option<String> = None;
    let mut wanted = false;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut inside) {
            (Some(_), Some(block)) => {
                if wanted {
                    found.push(std::mem::take(block));
                }
                inside = None;
            }
            (Some(of), None) => {
                wanted = of.trim() == language;
                inside = Some(String::new());
            }
            (None, Some(block)) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(inside.is_none(), "a block is not closed");
    found
}

/// The document without its fenced blocks.
pub fn prose(text: &str) -> String {
    let mut fenced = false;
    text.lines()
        .filter(|line| {
            let fence = line.starts_with("```");
            fenced ^= fence;
            !fence && !fenced
        })
        .map(|line| format!("{line}\n"))
        .collect()
}

/// A command of a `console` block, and the lines that it prints, if the document shows them.
pub struct Typed {
    pub command: String,
    pub prints: Vec<String>,
}

/// All commands of a document, in order.
pub fn commands(text: &str) -> Vec<Typed> {
    let mut typed: Vec<Typed> = Vec::new();
    for block in blocks(text, "console") {
        let before = typed.len();
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => typed.push(Typed {
                    command: command.to_owned(),
                    prints: Vec::new(),
                }),
                None => {
                    assert!(typed.len() > before, "output before a command: {line}");
                    typed.last_mut().unwrap().prints.push(line.to_owned());
                }
            }
        }
    }
    typed
}
