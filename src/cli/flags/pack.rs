//! The flags of `pack`.

use super::{Flag, TEXT};
use crate::cli::values::*;

/// The flags of `pack`, in the order of the help.
pub(super) static PACK: &[Flag] = &[
    Flag::new("core", "FILE")
        .help(
            "Packs the named scripts for the core in this .soc file, instead of the script that \
             is in it.",
        )
        .expects("a .soc file")
        .store(|args, v| put_some(&mut args.pack.core, path(v))),
    Flag::new("output", "PATH")
        .short('o')
        .help("The folder to write to, or the name of the file.")
        .default_words("the current folder, and the name that Luatools gives")
        .expects("a folder or a file")
        .store(|args, v| put_some(&mut args.pack.output, path(v))),
    Flag::new("project", "NAME")
        .help("PROJECT of the script.")
        .default_words("the text in main.lua or main.luac, else info.json")
        .expects(TEXT)
        .store(|args, v| put_some(&mut args.pack.options.project, owned(v))),
    Flag::new("version", "V")
        .help("VERSION of the script: three numbers, like 1.0.2.")
        .default_words("the text in main.lua or main.luac, else info.json")
        .expects(TEXT)
        .store(|args, v| put_some(&mut args.pack.options.version, owned(v))),
    Flag::new("bsp", "NAME")
        .help("The platform, as the module reports it, like Air780EPM.")
        .default_words("the one in the name of the .soc file")
        .expects(TEXT)
        .store(|args, v| put_some(&mut args.pack.options.bsp, owned(v))),
    Flag::new("show", "FILE")
        .help("Only lists this package, .soc file or LuaDB image.")
        .expects("a file")
        .store(|args, v| put_some(&mut args.pack.show, path(v))),
];
