//! The documents of the repository as tests see them: their names, their fenced blocks, and the commands
//! with the output that they promise.

use std::path::Path;

use super::parts::{Kind, parts};

/// The root folder of the repository.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The documents for people: README in both languages, docs/ and similar files. Each has its path in the
/// repository and its text.
pub fn documents() -> Vec<(String, String)> {
    let mut names: Vec<String> = super::files_under(Path::new(ROOT).join("docs").as_path())
        .into_iter()
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    for name in [
        "CHANGELOG.md",
        "CODE_OF_CONDUCT.md",
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

/// A document's mark of a block that is neither a command for a clone nor an example that a test reads in
/// every document. CONTRIBUTING.md has the convention.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// `<!-- not run: REASON -->`
    NotRun(String),
    /// `<!-- run by FILE -->`: a script or a test reads the block out of the document.
    RunBy(String),
}

impl Mark {
    fn of(comment: &str) -> Option<Mark> {
        let text = comment.strip_prefix("<!--")?.strip_suffix("-->")?.trim();
        if text.contains('\n') {
            return None;
        }
        let reason = text.strip_prefix("not run:").map(str::trim);
        let file = text.strip_prefix("run by ").map(str::trim);
        reason
            .map(|reason| Mark::NotRun(reason.to_owned()))
            .or(file.map(|file| Mark::RunBy(file.to_owned())))
    }
}

/// A code block, fenced or indented.
#[derive(Debug, PartialEq)]
pub struct Block {
    /// Number of the block's first line in the document.
    pub line: usize,
    /// The text after the fence; `None` if the block is indented.
    pub language: Option<String>,
    pub mark: Option<Mark>,
    /// The lines without the fences and the indentation.
    pub text: String,
}

/// All code blocks of a document, in order, and the line numbers of marks that no block follows.
pub fn code_blocks(text: &str) -> (Vec<Block>, Vec<usize>) {
    let mut found: Vec<Block> = Vec::new();
    let mut stray = Vec::new();
    // A mark and the number of its line. A blank line may follow the mark.
    let mut mark: Option<(usize, Mark)> = None;
    for part in parts(text) {
        let language = match part.kind {
            Kind::Block(language) => Some(language),
            Kind::Indented => None,
            _ => {
                stray.extend(mark.take().map(|(line, _)| line));
                mark = Mark::of(&part.text).map(|mark| (part.line, mark));
                let starts = ["<!-- not run", "<!-- run"];
                let meant = starts.iter().any(|start| part.text.starts_with(start));
                stray.extend((meant && mark.is_none()).then_some(part.line));
                continue;
            }
        };
        found.push(Block {
            line: part.line,
            language,
            mark: mark.take().map(|(_, mark)| mark),
            text: part.text,
        });
    }
    stray.extend(mark.map(|(line, _)| line));
    (found, stray)
}

/// The contents of the fenced blocks of a language, in order.
pub fn blocks(text: &str, language: &str) -> Vec<String> {
    let blocks = code_blocks(text).0.into_iter();
    blocks
        .filter(|block| block.language.as_deref() == Some(language))
        .map(|block| block.text)
        .collect()
}

/// Like [`blocks`], without the blocks that have a mark.
pub fn unmarked(text: &str, language: &str) -> Vec<String> {
    let blocks = code_blocks(text).0.into_iter();
    blocks
        .filter(|block| block.mark.is_none() && block.language.as_deref() == Some(language))
        .map(|block| block.text)
        .collect()
}

/// The document without its fenced blocks.
pub fn prose(text: &str) -> String {
    let mut fenced = false;
    text.lines()
        .filter(|line| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            !fence && !fenced
        })
        .map(|line| format!("{line}\n"))
        .collect()
}

/// A command of a `console` block, and the lines that it prints if the document shows them.
pub struct ConsoleCommand {
    pub command: String,
    pub prints: Vec<String>,
}

/// The commands of `console` blocks, in order. A `\` at the end of a line continues the command in the next line.
pub fn parse_console(blocks: &[String]) -> Vec<ConsoleCommand> {
    let mut typed: Vec<ConsoleCommand> = Vec::new();
    for block in blocks {
        let before = typed.len();
        for line in block.lines() {
            let open = match &typed[before..] {
                [.., last] => last.prints.is_empty() && last.command.ends_with('\\'),
                [] => false,
            };
            match (line.strip_prefix("$ "), typed.last_mut()) {
                (Some(command), _) => typed.push(ConsoleCommand {
                    command: command.to_owned(),
                    prints: Vec::new(),
                }),
                (None, Some(last)) if open => {
                    last.command.push('\n');
                    last.command.push_str(line);
                }
                (None, _) => {
                    assert!(typed.len() > before, "output before a command: {line}");
                    typed.last_mut().unwrap().prints.push(line.to_owned());
                }
            }
        }
    }
    typed
}

/// All commands of a document.
pub fn commands(text: &str) -> Vec<ConsoleCommand> {
    parse_console(&blocks(text, "console"))
}

/// The commands that work in a clone of the repository.
pub fn commands_to_run(text: &str) -> Vec<ConsoleCommand> {
    parse_console(&unmarked(text, "console"))
}

/// The anchor that Markdown viewers give a heading.
pub fn anchor(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            c if c.is_alphanumeric() => Some(c),
            _ => None,
        })
        .collect()
}

/// Path in the repository that a document's link points to, without a fragment.
pub fn resolve(document: &str, link: &str) -> String {
    let file = link.split('#').next().unwrap_or_default();
    let whole = match (file, document.rsplit_once('/')) {
        ("", _) => document.to_owned(),
        (file, Some((folder, _))) => format!("{folder}/{file}"),
        (file, None) => file.to_owned(),
    };
    let mut path: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            ".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    path.join("/")
}
