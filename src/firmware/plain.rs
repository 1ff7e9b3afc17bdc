//! Validates names that the API accepts for new files and folders. Rejects characters that are invisible or change how
//! text is displayed, and names to which Windows or a shell gives another meaning. A person may use other names in the
//! folder.

/// Device names of Windows, which are reserved with every ending and in any case.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// Characters that Windows allows in no name, or that a shell (sh, cmd.exe) interprets.
const RESERVED_CHARACTERS: &str = "<>:\"|?*\\/$`'&;!%^";

/// Validates one part of a path, or a project, version or platform in it. The error is a sentence that contains none of
/// the rejected characters.
pub fn name(name: &str) -> Result<(), String> {
    text(name)?;
    let shown = || shown(name);
    if let Some(character) = name
        .chars()
        .find(|character| RESERVED_CHARACTERS.contains(*character))
    {
        return Err(format!(
            "`{}` has the character {character}, which has another meaning for Windows or a shell: \
             rename it",
            shown()
        ));
    }
    if name.starts_with(['-', '~', '#']) {
        return Err(format!(
            "`{}` begins with a character that a shell does not take as part of a name: rename it",
            shown()
        ));
    }
    if name.starts_with(' ') || name.ends_with([' ', '.']) {
        return Err(format!(
            "`{}` begins or ends with a space, or ends with a dot, which Windows removes: rename it",
            shown()
        ));
    }
    match is_device(name) {
        true => Err(format!(
            "`{}` is the name of a device on Windows: rename it",
            shown()
        )),
        false => Ok(()),
    }
}

/// Validates a text that is shown to people. The error is a sentence.
pub fn text(text: &str) -> Result<(), String> {
    match text.chars().find(|character| is_deceptive(*character)) {
        Some(character) => Err(format!(
            "`{}` has U+{:04X} in it, an invisible character or one that changes how others are shown: \
             remove it",
            shown(text),
            u32::from(character)
        )),
        None => Ok(()),
    }
}

/// Returns the character, or a replacement if it is invisible or changes how other characters are displayed.
pub fn visible(character: char) -> char {
    match character {
        c if c.is_whitespace() => ' ',
        c if is_deceptive(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// Returns the first 60 characters of a text with every deceptive character escaped.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().take(60) {
        match is_deceptive(character) {
            true => shown.extend(character.escape_unicode()),
            false => shown.push(character),
        }
    }
    shown
}

/// Whether the name is a device name of Windows, such as `COM1`, `nul.tar.gz` or `aux .bin`.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    let stem = stem.trim_end().to_lowercase();
    if DEVICES.contains(&stem.as_str()) {
        return true;
    }
    let numbered = stem
        .strip_prefix("com")
        .or_else(|| stem.strip_prefix("lpt"));
    let mut rest = numbered.unwrap_or_default().chars();
    match (rest.next(), rest.next()) {
        (Some(digit), None) => digit.is_ascii_digit() || "¹²³".contains(digit),
        _ => false,
    }
}

/// Whether a character can deceive a reader: control characters, characters that set the writing direction, characters
/// without width or shape, spaces other than U+0020, and characters that look like a slash.
fn is_deceptive(character: char) -> bool {
    character.is_control()
        || (character.is_whitespace() && character != ' ')
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}'
            | '\u{2044}' | '\u{2215}' | '\u{29f8}' | '\u{ff0f}' | '\u{ff3c}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_from_the_field_are_accepted() {
        for good in [
            "ALIYUN",
            "2.0.1",
            "2012.001.004",
            "P_2012.001.004_LuatOS-SoC_Air780EPM.bin",
            "水表",
            "проект",
            "from-2008",
            "update (1).bin",
            "a+b",
            "console",
            "com",
            "com10",
            "lpt",
            "nullmodem.bin",
            "auxiliary",
            "v1.0",
            "é",
        ] {
            assert_eq!(name(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn deceptive_names_are_refused() {
        for bad in [
            "\u{202e}",
            "a\u{202e}nib.exe",
            "\u{202a}",
            "\u{2066}x\u{2069}",
            "\u{200e}",
            "\u{200f}",
            "a\u{200b}b",
            "\u{feff}P",
            "\u{2060}",
            "a\u{ad}b",
            "\u{61c}",
            "a\u{a0}b",
            "a\u{3000}b",
            "a\u{2028}b",
            "a\tb",
            "a\nb",
            "\u{1b}[31m",
            "a\0",
            "\u{7f}",
            "\u{85}",
            "\u{e0041}",
            "a\u{fe0f}",
            "\u{3164}",
            "a\u{2215}b",
            "a\u{ff0f}b",
            "con",
            "CON",
            "Con.bin",
            "nul",
            "nul.tar.gz",
            "aux",
            "prn.bin",
            "com1",
            "COM9.bin",
            "lpt1",
            "com\u{b9}",
            "com0",
            "aux .bin",
            "conin$",
            "a.",
            "a ",
            " a",
            "a..",
            "-rf",
            "--help",
            "~",
            "~root",
            "#1",
            "a:b",
            "a*",
            "a?",
            "a\"b",
            "a<b",
            "a>b",
            "a|b",
            "a\\b",
            "a/b",
            "$HOME",
            "$(reboot)",
            "`id`",
            "a;b",
            "a&b",
            "it's",
            "a!b",
            "%PATH%",
            "a^b",
        ] {
            let sentence = name(bad).unwrap_err();
            assert!(!sentence.chars().any(is_deceptive), "{sentence:?}");
            assert!(
                sentence.contains("rename it") || sentence.contains("remove it"),
                "{sentence}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_sentence_has_a_deceptive_character(bad in ".*") {
            if let Err(sentence) = name(&bad) {
                prop_assert!(!sentence.chars().any(is_deceptive));
            }
        }
    }
}
