//! `PROJECT` and `VERSION` of a script, from the literals in its main file.

mod compiled;
mod source;
#[cfg(test)]
mod tests;

use super::PackError;
use super::luadb::ImageFile;

pub use compiled::IntegerSize;

/// Project and version of a script. `None` if the main file has no literal for the value, or different ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `PROJECT`.
    pub project: Option<String>,
    /// `VERSION`.
    pub version: Option<String>,
}

impl Identity {
    /// Parses `main.lua` or `main.luac`.
    pub fn read(files: &[ImageFile<'_>]) -> Result<Identity, PackError> {
        let main = |name: &str| files.iter().find(|file| file.name == name);
        if let Some(compiled) = main("main.luac") {
            return Ok(compiled::identity(compiled.data));
        }
        let source = main("main.lua").ok_or_else(|| {
            PackError::new(
                "there is no main.lua and no main.luac among the scripts, and a module begins with it: add it",
            )
        })?;
        Ok(source::identity(source.data))
    }

    /// Records an assignment. After two different assignments, the value is unknown.
    fn note(&mut self, assigned: &mut Vec<&'static str>, name: &[u8], value: Option<&[u8]>) {
        let (name, field) = match name {
            b"PROJECT" => ("PROJECT", &mut self.project),
            b"VERSION" => ("VERSION", &mut self.version),
            _ => return,
        };
        let value = value.and_then(|value| String::from_utf8(value.to_vec()).ok());
        let is_first = !assigned.contains(&name);
        if is_first {
            assigned.push(name);
            *field = value;
        } else if *field != value {
            *field = None;
        }
    }
}

/// Checks that every compiled script fits a core with integers of this size, if the size is known. Only needed for
/// scripts that a person names: those in a `.soc` file were made for its core.
pub fn check_compiled(
    files: &[ImageFile<'_>],
    wanted: Option<IntegerSize>,
) -> Result<(), PackError> {
    for ImageFile { name, data } in files {
        if !name.ends_with(".luac") {
            continue;
        }
        let found = compiled::integer_size(data).ok_or_else(|| {
            PackError::new(format!(
                "`{name}` is not a compiled script of Lua 5.3: compile it with Luatools, or take the source"
            ))
        })?;
        if let Some(wanted) = wanted
            && wanted != found
        {
            return Err(PackError::new(format!(
                "`{name}` was compiled for integers of {} bits, and this core has {}: compile it for this core, or \
                 take the source",
                found.bits(),
                wanted.bits()
            )));
        }
    }
    Ok(())
}
