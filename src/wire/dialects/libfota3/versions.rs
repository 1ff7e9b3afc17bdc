//! The core and script versions in the reply, as the module compares them after its restart with the versions that it
//! then runs (docs/protocol.md 9d). Both are texts; a wrong digit makes a healthy module report a failure.

/// Returns the numeric fields of a version text, without the `v`; `None` if the text is not a version of one to five
/// fields of ASCII digits, in at most 128 bytes.
fn fields(text: &str) -> Option<Vec<&str>> {
    const LONGEST: usize = 128;
    let text = text.trim();
    let digits = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let fields: Vec<&str> = digits.split('.').collect();
    let is_number = |field: &&str| !field.is_empty() && field.bytes().all(|b| b.is_ascii_digit());
    let good = text.len() <= LONGEST && fields.len() <= 5 && fields.iter().all(is_number);
    good.then_some(fields)
}

/// Returns the VERSION of the new script, in the form of the version that the module runs.
///
/// `requested`: the request's `script_version`. `release`: the release's version as its name writes it. `has_core`: the
/// release's version is in core form. If it is CORE.A.C, the middle number is taken from the request.
///
/// If the request pads its fields with zeros (`001.000.009`), the reply has fields of the same widths, otherwise fields
/// without padding (`1.0.10`). If the request's version is not numeric, the digits are those of the release.
pub(super) fn script_version(requested: &str, release: &str, has_core: bool) -> String {
    let Some(written) = fields(release) else {
        return release.to_owned();
    };
    let running = fields(requested);
    let old = running.as_deref().unwrap_or_default();
    let script = written.get(usize::from(has_core)..).unwrap_or_default();
    let mut new: Vec<Option<&str>> = match script {
        [] | [_] | [_, _] if has_core => {
            let at = |at: usize| Some(script.get(at).copied().unwrap_or("0"));
            vec![at(0), None, at(1)]
        }
        _ => script.iter().copied().map(Some).collect(),
    };
    let is_zero = |field: &str| field.bytes().all(|digit| digit == b'0');
    while !old.is_empty()
        && new.len() > old.len()
        && new.last().is_some_and(|f| f.is_some_and(is_zero))
    {
        new.pop();
    }
    // Fields that the release does not name keep the module's number; a plain release names all fields.
    new.resize(
        new.len().max(old.len()),
        if has_core { None } else { Some("0") },
    );
    if old.is_empty() {
        let fields: Vec<&str> = new.into_iter().map(|field| field.unwrap_or("0")).collect();
        let padded = script.first().is_some_and(|field| field.len() == 3);
        let fields = fields.iter().map(|field| match padded {
            true => format!("{field:0>3}"),
            false => (*field).to_owned(),
        });
        return fields.collect::<Vec<_>>().join(".");
    }
    let widths = Widths::of(old);
    let fields = new.into_iter().enumerate().map(|(at, field)| {
        let number = field.or(old.get(at).copied()).unwrap_or("0");
        let number = number.trim_start_matches('0');
        format!("{number:0>width$}", width = widths.at(at))
    });
    let text = fields.collect::<Vec<_>>().join(".");
    match requested.trim().chars().next() {
        Some(v @ ('v' | 'V')) => format!("{v}{text}"),
        _ => text,
    }
}

/// Minimum number of digits in each field.
struct Widths<'v> {
    /// The fields whose widths are kept; `None`: no padding.
    like: Option<&'v [&'v str]>,
}

impl<'v> Widths<'v> {
    /// Returns the widths of a version, which is padded if a field has a leading zero or if all have three digits
    /// (`XXX.YYY.ZZZ`). `1.10.0` is not padded: the version 2.0.0 after it is not written as `2.00.0`.
    fn of(fields: &'v [&'v str]) -> Widths<'v> {
        let leading_zero = |field: &&str| field.len() > 1 && field.starts_with('0');
        let padded = fields.iter().any(leading_zero) || fields.iter().all(|field| field.len() == 3);
        Widths {
            like: padded.then_some(fields),
        }
    }

    fn at(&self, at: usize) -> usize {
        let like = self
            .like
            .and_then(|fields| fields.get(at).or(fields.last()));
        like.map_or(1, |field| field.len())
    }
}

/// Returns the core version after the update, in the form of the request's `core_version`. `core`: the new core
/// version; `None` if the core stays or the new one is unknown. Empty if no core version is known.
pub(super) fn core_version(requested: &str, core: Option<u32>) -> String {
    let requested = requested.trim();
    let digits = requested.trim_start_matches(['v', 'V']);
    let before: Option<u32> = digits.parse().ok();
    match core {
        Some(core) if before != Some(core) => {
            let form = before.and_then(|_| requested.strip_suffix(digits));
            let width = form.map_or(0, |_| digits.len());
            format!("{}{core:0width$}", form.unwrap_or_default())
        }
        _ => requested.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_version_has_the_digits_of_the_request() {
        for (requested, release, becomes) in [
            ("001.000.000", "1.0.1", "001.000.001"),
            ("1.0.0", "001.000.001", "1.0.1"),
            ("1.0.0", "1.0.1", "1.0.1"),
            ("001.000.009", "1.0.10", "001.000.010"),
            ("001.000.999", "1.0.1000", "001.000.1000"),
            ("01.02.03", "1.10.0", "01.10.00"),
            ("1.00.3", "2.5.4", "2.05.4"),
            ("100.200.300", "100.200.7", "100.200.007"),
            // Not padded, only long.
            ("1.10.0", "2.0.0", "2.0.0"),
            ("1.0.10", "1.0.9", "1.0.9"),
            ("v1.0.0", "1.0.1", "v1.0.1"),
            ("1.0.0", "v1.0.1", "1.0.1"),
            (" 1.0.0 ", "1.0.1", "1.0.1"),
        ] {
            assert_eq!(
                script_version(requested, release, false),
                becomes,
                "{requested} {release}"
            );
        }
    }

    #[test]
    fn the_middle_number_is_the_requests_where_the_release_does_not_name_it() {
        for (requested, release, becomes) in [
            ("001.999.000", "2046.001.001", "001.999.001"),
            ("1.7.0", "2046.2.0", "2.7.0"),
            ("1.07.0", "2046.2.0", "2.07.0"),
            ("1.7.0", "2046.001.002", "1.7.2"),
            ("1.7", "2046.1.2", "1.7.2"),
            ("1.7.0.5", "2046.1.2", "1.7.2.5"),
            ("1.7.0", "2046.2", "2.7.0"),
            ("1.7.0", "2046", "0.7.0"),
            // CORE.A.B.C names all fields.
            ("001.999.000", "2046.1.0.1", "001.000.001"),
            ("beta", "2046.001.004", "001.000.004"),
            ("", "2046.1.4", "1.0.4"),
        ] {
            assert_eq!(
                script_version(requested, release, true),
                becomes,
                "{requested} {release}"
            );
        }
    }

    #[test]
    fn the_number_of_fields_is_the_requests_unless_the_release_needs_more() {
        for (requested, release, becomes) in [
            ("1.0", "1.1", "1.1"),
            ("1.0", "1.1.0", "1.1"),
            ("1.0", "1.1.5", "1.1.5"),
            ("001.000.000", "1.1", "001.001.000"),
            ("001.000.000", "2", "002.000.000"),
            ("1.0.0.5", "1.0.1", "1.0.1.0"),
            ("1.0.0", "1.0.1.0", "1.0.1"),
            ("1.0.0", "1.0.1.7", "1.0.1.7"),
            ("7", "8", "8"),
        ] {
            assert_eq!(
                script_version(requested, release, false),
                becomes,
                "{requested} {release}"
            );
        }
    }

    #[test]
    fn a_version_that_is_not_numeric_leaves_the_release_unchanged() {
        let long = format!("{}1.0.0", "0".repeat(200));
        for requested in ["beta", "", "1..0", "1.0.x", "1.2.3.4.5.6", "-1.0.0", &long] {
            assert_eq!(
                script_version(requested, "001.000.002", false),
                "001.000.002"
            );
            assert_eq!(script_version(requested, "1.0.2", false), "1.0.2");
            assert_eq!(script_version(requested, "gamma", false), "gamma");
        }
        assert_eq!(script_version("1.0.0", "gamma", false), "gamma");
        let most = "999999999.999999999.999999999";
        assert_eq!(script_version(most, "1.0.2", false), "1.0.2");
    }

    #[test]
    fn the_core_version_is_text_in_the_form_of_the_request() {
        for (requested, core, becomes) in [
            ("2046", None, "2046"),
            ("2046", Some(2046), "2046"),
            ("2046", Some(2050), "2050"),
            ("V2046", Some(2050), "V2050"),
            ("V2046", None, "V2046"),
            ("02046", Some(2050), "02050"),
            ("", Some(2050), "2050"),
            ("", None, ""),
            ("beta", Some(2050), "2050"),
            ("beta", None, "beta"),
            ("99999999999", Some(2050), "2050"),
        ] {
            assert_eq!(
                core_version(requested, core),
                becomes,
                "{requested} {core:?}"
            );
        }
    }
}
