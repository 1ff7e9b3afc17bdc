//! `luat-ota pack`: builds a script package from a `.soc` file, or from scripts for the core of one.

use std::fmt::Write;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::CommandResult;
use super::args::PackArgs;
use crate::os::fs::{self, Folder};
use crate::pack::luadb::{self, ImageFile};
use crate::pack::script::{IntegerSize, check_compiled};
use crate::pack::soc::Soc;
use crate::pack::{MAX_IMAGE, PackError, Plan, ScriptTarget, package, show};

/// Runs the command `pack`.
pub(super) fn run(args: &PackArgs) -> CommandResult {
    if let Some(path) = &args.show {
        let file = open(path)?;
        let shown = show::show(&name_of(path), BufReader::new(file));
        return Ok((shown.map_err(|error| about(path, &error))?, 0));
    }
    let (soc_path, scripts) = match (&args.core, args.inputs.as_slice()) {
        (Some(core), scripts) => (core, scripts),
        (None, [soc]) => (soc, &[][..]),
        (None, _) => {
            return Err(
                "the core of these scripts is unknown: give its .soc file with --core".to_owned(),
            );
        }
    };
    if soc_path.is_dir() {
        return Err(format!(
            "{soc_path:?} is a folder: to pack scripts, name the .soc file of their core too, as in luat-ota pack \
             --core FILE.soc {}",
            soc_path.display()
        ));
    }
    let of_soc = |error: PackError| about(soc_path, &error);
    let soc = Soc::read(BufReader::new(open(soc_path)?)).map_err(of_soc)?;
    ScriptTarget::of_chip(&soc.info.chip).map_err(of_soc)?;
    let image = match scripts {
        [] => soc.script_image().map_err(of_soc)?,
        scripts => build(scripts, soc.info.integers)?,
    };
    let database = luadb::read(&image).map_err(of_soc)?;
    let plan =
        Plan::new(&soc.info, &name_of(soc_path), &database, &args.options).map_err(of_soc)?;
    let bytes = package(&plan, &image).map_err(of_soc)?;
    let written = write(args.output.as_deref(), &plan.file_name, &bytes)?;
    let mut out = String::new();
    let _ = writeln!(out, "{}  {} bytes", written.display(), bytes.len());
    let _ = writeln!(
        out,
        "project {}, version {}, for core {} on {}; {} files",
        plan.project,
        plan.version,
        plan.core,
        plan.platform,
        database.files.len()
    );
    out.push_str(
        "The package contains only the script: a module keeps its core. Offer it to one device first.\n",
    );
    Ok((out, 0))
}

/// Returns the name of a file without its folders.
fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn about(path: &Path, error: &PackError) -> String {
    format!("{}: {error}", path.display())
}

fn open(path: &Path) -> Result<File, String> {
    File::open(path).map_err(|error| format!("{path:?} cannot be read: {error}"))
}

/// Builds an image from files, and from the files in folders, for a core with integers of this size.
fn build(inputs: &[PathBuf], integers: Option<IntegerSize>) -> Result<Vec<u8>, String> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut left = MAX_IMAGE;
    for path in script_files(inputs)? {
        let name = path.file_name().and_then(|name| name.to_str());
        let name =
            name.ok_or_else(|| format!("the name of {path:?} is not UTF-8: rename the file"))?;
        let mut data = Vec::new();
        let most = left as u64 + 1;
        let read = open(&path)?.take(most).read_to_end(&mut data);
        read.map_err(|error| format!("{path:?} cannot be read: {error}"))?;
        left = left.checked_sub(data.len()).ok_or_else(|| {
            format!("with {path:?} the scripts have more than {MAX_IMAGE} bytes, and no module has room for them")
        })?;
        files.push((name.to_owned(), data));
    }
    let files: Vec<ImageFile<'_>> = files
        .iter()
        .map(|(name, data)| ImageFile {
            name: name.into(),
            data,
        })
        .collect();
    let image = check_compiled(&files, integers).and_then(|()| luadb::build(&files));
    image.map_err(|error| error.to_string())
}

/// Returns the files to pack. In folders, files whose names begin with a dot are skipped.
fn script_files(inputs: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for input in inputs {
        if !input.is_dir() {
            files.push(input.clone());
            continue;
        }
        let failed =
            |error: std::io::Error| format!("the folder {input:?} cannot be read: {error}");
        for entry in std::fs::read_dir(input).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if path.is_dir() {
                return Err(format!(
                    "{path:?} is a folder, and a script image has no folders: to pack its files, name it on the \
                     command line too"
                ));
            }
            files.push(path);
        }
    }
    Ok(files)
}

/// Writes the package atomically. An existing file of the same name is replaced.
fn write(output: Option<&Path>, name: &str, bytes: &[u8]) -> Result<PathBuf, String> {
    let output = output.unwrap_or(Path::new("."));
    let (folder, name) = match output.is_dir() {
        true => (output, name.to_owned()),
        false => {
            let parent = output
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            let name = output.file_name().and_then(|name| name.to_str());
            let name =
                name.ok_or_else(|| format!("{output:?} is neither a folder nor a file name"))?;
            (parent.unwrap_or(Path::new(".")), name.to_owned())
        }
    };
    let path = match folder == Path::new(".") {
        true => PathBuf::from(&name),
        false => folder.join(&name),
    };
    let failed = |error: std::io::Error| format!("{path:?} cannot be written: {error}");
    let place = Folder::open(folder).map_err(failed)?;
    let present = match place.open_file(&name) {
        Ok(file) => Some(fs::stamp(&file).map_err(failed)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    match place.put_file(&name, bytes, present).map_err(failed)? {
        true => Ok(path),
        false => Err(format!(
            "{path:?} changed while it was written, and was not replaced: try again"
        )),
    }
}
