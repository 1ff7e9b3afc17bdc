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

/// What a document says about a block that is neither a command for a clone nor an example that a test reads
/// in every document. CONTRIBUTING.md has the convention.
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
    /// Number of its first line in the document.
    pub line: usize,
    /// What stands behind the fence; `None` if the block is indented.
    pub language: Option<String>,
    pub mark: Option<Mark>,
    /// Its lines without the fences and the indentation.
    pub text: String,
}

/// Number of spaces at the start of a line.
fn spaces(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Column from which a line's text is a code block, below a list item or not.
fn code_column(line: &str, before: usize) -> usize {
    let indent = spaces(line);
    let text = &line[indent..];
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = digits.len() < text.len() && digits.starts_with(". ");
    let marker = if numbered {
        text.len() - digits.len() + 2
    } else if text.starts_with("- ") || text.starts_with("* ") {
        2
    } else {
        return if indent == 0 { 4 } else { before };
    };
    indent + marker + 4
}

/// All code blocks of a document, in order, and the lines of marks that belong to none.
pub fn code_blocks(text: &str) -> (Vec<Block>, Vec<usize>) {
    let mut found: Vec<Block> = Vec::new();
    let mut stray = Vec::new();
    // A mark, with its line; a blank line may follow it.
    let mut mark: Option<(usize, Mark)> = None;
    let mut column = 4;
    let mut blank = true;
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        let indent = spaces(line);
        let body = &line[indent..];
        let mut block = Block {
            line: at + 1,
            language: None,
            mark: None,
            text: String::new(),
        };
        let mut push = |line: &str, indent: usize| {
            block.text.push_str(&line[spaces(line).min(indent)..]);
            block.text.push('\n');
        };
        if let Some(language) = body.strip_prefix("```") {
            let mut closed = false;
            for (_, line) in lines.by_ref() {
                closed = line.trim() == "```";
                if closed {
                    break;
                }
                push(line, indent);
            }
            assert!(closed, "the block of line {} is not closed", at + 1);
            block.language = Some(language.trim().to_owned());
        } else if blank && indent >= column {
            push(line, column);
            let code = |line: &str| line.trim().is_empty() || spaces(line) >= column;
            while let Some((_, line)) = lines.next_if(|(_, line)| code(line)) {
                push(line, column);
            }
            let end = block.text.trim_end().len();
            block.text.truncate(end);
            block.text.push('\n');
        } else {
            if !body.is_empty() {
                stray.extend(mark.take().map(|(line, _)| line));
                column = code_column(line, column);
                mark = Mark::of(body).map(|mark| (at + 1, mark));
                let meant = body.starts_with("<!-- not run") || body.starts_with("<!-- run");
                stray.extend((meant && mark.is_none()).then_some(at + 1));
            }
            // A comment ends with its line: what follows may be an indented block.
            blank = body.is_empty() || body.ends_with("-->");
            continue;
        }
        block.mark = mark.take().map(|(_, mark)| mark);
        found.push(block);
        blank = true;
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

/// The same, without those that have a mark.
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

/// A command of a `console` block, and the lines that it prints, if the document shows them.
pub struct Typed {
    pub command: String,
    pub prints: Vec<String>,
}

/// The commands of `console` blocks, in order. A command goes on in the next line behind a `\`.
pub fn typed(blocks: &[String]) -> Vec<Typed> {
    let mut typed: Vec<Typed> = Vec::new();
    for block in blocks {
        let before = typed.len();
        for line in block.lines() {
            let open = match &typed[before..] {
                [.., last] => last.prints.is_empty() && last.command.ends_with('\\'),
                [] => false,
            };
            match (line.strip_prefix("$ "), typed.last_mut()) {
                (Some(command), _) => typed.push(Typed {
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
pub fn commands(text: &str) -> Vec<Typed> {
    typed(&blocks(text, "console"))
}

/// The commands that work in a clone of the repository.
pub fn commands_to_run(text: &str) -> Vec<Typed> {
    typed(&unmarked(text, "console"))
}
