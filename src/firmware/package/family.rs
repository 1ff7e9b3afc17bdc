//! Chip families, and the platform names that belong to each.

/// Chip families. A package made for one family is useless to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChipFamily {
    /// EC716, EC718 and the modules on them: Air780EP…, Air8000…
    Ec7xx,
    /// EC618: Air780E in its first years.
    Ec618,
    /// Air105.
    Air105,
    /// W800 / XT804: Air101, Air103, Air601, Air6208.
    W800,
    /// ESP32 of any letter.
    Esp32,
    /// BK72xx: Air8101.
    Air8101,
    /// Air1601, Air1602.
    Air1601,
    /// RDA8955: Air202, Air800 (2G).
    Rda8955,
    /// ASR1802: Air720.
    Asr1802,
    /// RDA8910: Air724U.
    Rda8910,
}

/// Beginnings of the platform names of each family, in capitals. Only certain ones are listed: Air780E, Air780EG,
/// Air780EX, Air700E and Air600E without further letters have been sold with chips of two families.
const BEGINNINGS: [(&str, ChipFamily); 29] = [
    ("EC716", ChipFamily::Ec7xx),
    ("EC718", ChipFamily::Ec7xx),
    ("AIR780EP", ChipFamily::Ec7xx),
    ("AIR780EH", ChipFamily::Ec7xx),
    ("AIR780EGP", ChipFamily::Ec7xx),
    ("AIR780EGG", ChipFamily::Ec7xx),
    ("AIR780EGH", ChipFamily::Ec7xx),
    ("AIR700EA", ChipFamily::Ec7xx),
    ("AIR700EC", ChipFamily::Ec7xx),
    ("AIR700EM", ChipFamily::Ec7xx),
    ("AIR8000", ChipFamily::Ec7xx),
    ("AIR201", ChipFamily::Ec7xx),
    ("EC618", ChipFamily::Ec618),
    ("AIR105", ChipFamily::Air105),
    ("AIR101", ChipFamily::W800),
    ("AIR103", ChipFamily::W800),
    ("AIR601", ChipFamily::W800),
    ("AIR6208", ChipFamily::W800),
    ("W800", ChipFamily::W800),
    ("XT804", ChipFamily::W800),
    ("ESP32", ChipFamily::Esp32),
    ("AIR8101", ChipFamily::Air8101),
    ("BK72", ChipFamily::Air8101),
    ("AIR1601", ChipFamily::Air1601),
    ("AIR1602", ChipFamily::Air1601),
    ("8955", ChipFamily::Rda8955),
    ("RDA8955", ChipFamily::Rda8955),
    ("ASR1802", ChipFamily::Asr1802),
    ("RDA8910", ChipFamily::Rda8910),
];

impl ChipFamily {
    /// The family of a platform name as modules send it (`EC718P`, `Air780EPM`, `8955_SSL_TTS`, `RDA8910_FLOAT`,
    /// `ESP32C3`, …), in any case. `None` if the family is not certain: such a platform is never refused because of its
    /// family.
    pub fn of_platform(platform: &str) -> Option<ChipFamily> {
        let begins = |beginning: &str| {
            let start = platform.get(..beginning.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(beginning))
        };
        BEGINNINGS
            .iter()
            .find(|(beginning, _)| begins(beginning))
            .map(|&(_, family)| family)
    }

    /// Whether a core update of this family contains the whole core (docs/protocol.md 5c) and therefore fits any lower
    /// core. An ESP32 image always contains the whole application.
    pub fn updates_whole(self) -> bool {
        matches!(
            self,
            ChipFamily::Air105
                | ChipFamily::W800
                | ChipFamily::Esp32
                | ChipFamily::Air8101
                | ChipFamily::Air1601
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_as_modules_send_them_have_their_family() {
        for (platforms, family) in [
            (
                "EC718P EC718PM EC716E ec718hm Air780EP Air780EPM AIR780EPS Air780EHM Air780EHV Air780EHG \
                 Air780EHT Air780EGP Air780EGG Air780EGH Air700ECQ Air700EAQ Air700EMQ Air8000 Air8000A \
                 Air201",
                ChipFamily::Ec7xx,
            ),
            ("EC618 ec618", ChipFamily::Ec618),
            ("Air105 AIR105", ChipFamily::Air105),
            ("AIR101 Air103 AIR601 air6208", ChipFamily::W800),
            ("ESP32 ESP32C3 esp32s3", ChipFamily::Esp32),
            ("Air8101 BK7258", ChipFamily::Air8101),
            ("Air1601 Air1602", ChipFamily::Air1601),
            ("8955 8955_SSL_TTS 8955F", ChipFamily::Rda8955),
            ("ASR1802 ASR1802_XXX", ChipFamily::Asr1802),
            ("RDA8910 RDA8910_TTS_NOLVGL_FLOAT", ChipFamily::Rda8910),
        ] {
            for platform in platforms.split_whitespace() {
                assert_eq!(
                    ChipFamily::of_platform(platform),
                    Some(family),
                    "{platform}"
                );
            }
        }
    }

    #[test]
    fn a_platform_that_was_sold_with_two_chips_has_no_family() {
        for platform in [
            "Air780E", "Air780EG", "Air780EX", "Air780EQ", "Air700E", "Air600E", "Air10", "",
            "EC6", "水表", "Air780", "AirXXX",
        ] {
            assert_eq!(ChipFamily::of_platform(platform), None, "{platform}");
        }
    }
}
