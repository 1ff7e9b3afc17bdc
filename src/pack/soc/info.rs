//! `info.json` of a `.soc` file: the values that a package needs.

use serde_json::Value;

use super::super::script::IntegerSize;
use super::PackError;

/// Values of `info.json`. A text is `None` if it is empty or missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocInfo {
    /// `chip.type`: `ec7xx`, `ec618`, `bk72xx`, …
    pub chip: String,
    /// `rom.version-bsp` without its `V`: the core's version in digits.
    pub core: Option<String>,
    /// `rom.fs.script.size`: maximum length of the script image in bytes (the file has KiB).
    pub region: Option<usize>,
    /// `script.file`: the name of the script image in the archive.
    pub script_file: String,
    /// `script.bitw`: the size of the core's integers.
    pub integers: Option<IntegerSize>,
    /// `download.script_addr`: address of the script image.
    pub address: Option<u32>,
    /// `user.project`.
    pub project: Option<String>,
    /// `user.version`.
    pub version: Option<String>,
}

impl SocInfo {
    /// Parses the text of `info.json`.
    pub fn read(text: &[u8]) -> Result<SocInfo, PackError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let json: Value = serde_json::from_slice(text).map_err(|error| {
            PackError::new(format!("info.json in this .soc file is not JSON: {error}"))
        })?;
        let text = |pointer: &str| {
            let text = json.pointer(pointer).and_then(Value::as_str);
            text.map(str::trim).filter(|text| !text.is_empty())
        };
        let wrong = |pointer: &str, what: &str| {
            let key = pointer.trim_start_matches('/').replace('/', ".");
            let value = json
                .pointer(pointer)
                .map(Value::to_string)
                .unwrap_or_default();
            PackError::new(format!("`{key}` in info.json is {value:.60}, not {what}"))
        };
        const CHIP: &str = "/chip/type";
        const ADDRESS: &str = "/download/script_addr";
        const SIZE: &str = "/rom/fs/script/size";
        let address = match text(ADDRESS) {
            None => None,
            Some(text) => {
                Some(hexadecimal(text).ok_or_else(|| wrong(ADDRESS, "a hexadecimal address"))?)
            }
        };
        let region = match json.pointer(SIZE) {
            None | Some(Value::Null) => None,
            Some(value) => {
                let size = value.as_u64().or_else(|| text(SIZE)?.parse().ok());
                let size = size.filter(|size| (1..=1 << 16).contains(size));
                let size = size.and_then(|size| usize::try_from(size).ok());
                Some(size.ok_or_else(|| wrong(SIZE, "a number of KiB"))? << 10)
            }
        };
        let core = text("/rom/version-bsp").map(|version| version.trim_start_matches(['V', 'v']));
        let is_number =
            |core: &&str| core.len() <= 9 && core.bytes().all(|byte| byte.is_ascii_digit());
        let script_file = text("/script/file").unwrap_or("script.bin");
        if script_file.contains(['/', '\\']) {
            return Err(wrong("/script/file", "the name of a file in the archive"));
        }
        let bits = json.pointer("/script/bitw").and_then(Value::as_u64);
        Ok(SocInfo {
            chip: text(CHIP)
                .ok_or_else(|| wrong(CHIP, "the type of a chip"))?
                .to_owned(),
            core: core.filter(is_number).map(str::to_owned),
            region,
            script_file: script_file.to_owned(),
            integers: bits.and_then(IntegerSize::of_bits),
            address,
            project: text("/user/project").map(str::to_owned),
            version: text("/user/version").map(str::to_owned),
        })
    }
}

/// Parses `2B1000` or `0x2B1000`.
fn hexadecimal(text: &str) -> Option<u32> {
    let digits = text
        .strip_prefix("0x")
        .or(text.strip_prefix("0X"))
        .unwrap_or(text);
    u32::from_str_radix(digits, 16).ok()
}
