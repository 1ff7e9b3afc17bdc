//! Script packages that are built from a `.soc` file or from script files (feature `pack`).
//!
//! This module does no input or output; `cli::pack` reads and writes the files. The order of the steps:
//!
//! 1. [`soc`] reads `info.json` and the script image from a `.soc` file, within limits.
//! 2. [`luadb`] reads a LuaDB image, or builds one from files; [`script`] finds `PROJECT` and `VERSION` in it.
//! 3. [`plan`] decides what is built: chip, name, address, and the longest image that the core has room for.
//! 4. [`package`] makes the package: [`ec`] for EC7xx and EC618, [`air8101`] for Air8101. It unpacks the result again
//!    and checks it with the server's own inspector before it returns it.
//!
//! The layouts are those of docs/protocol.md 5a and 9f.

pub mod air8101;
pub mod ec;
pub mod luadb;
mod lzma;
pub mod plan;
pub mod script;
pub mod show;
pub mod soc;
#[cfg(test)]
mod tests;

use std::fmt;

pub use plan::{Plan, PlanOptions, ScriptTarget, package};

/// An error as a sentence for a person, without a full stop: what is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackError(pub String);

impl PackError {
    fn new(sentence: impl Into<String>) -> PackError {
        PackError(sentence.into())
    }
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PackError {}

/// Maximum length of a script image in bytes. The largest script region of a known core is smaller.
pub const MAX_IMAGE: usize = 8 << 20;
