//! Images with a header that has its own CRC32 and the length of the body after it: Air105 (docs/protocol.md 5b), W800
//! (5b) and the full package of Air8101 (9f).

use crc32fast::Hasher;

use super::{
    FormatCheck, PackageKind, check_length, crc32, damaged_header, header, missing_data, split,
    u32_at,
};

/// Positions of the fields in a header, in bytes from its beginning.
struct ImageLayout {
    label: &'static str,
    magic: [u8; 4],
    /// Size of the header in bytes.
    header: usize,
    /// Position of the header's CRC32; `checked` is the range of bytes that it covers.
    crc: usize,
    checked: std::ops::Range<usize>,
    /// Whether that CRC may have the final inversion. The sources do not tell, so both forms are accepted.
    may_be_inverted: bool,
    /// Position of the length of the body.
    length: usize,
    /// Position of the body's CRC32, if there is one; both forms are accepted.
    body_crc: Option<usize>,
    /// Whether the body's CRC32 is compared in a longer file, which is padded.
    checks_padded: bool,
    may_be_empty: bool,
    kind: fn(header: &[u8]) -> Result<PackageKind, String>,
}

static LAYOUTS: [ImageLayout; 3] = [
    // Magic, CRC32 of the following bytes, MainVersion, AppVersion, STDVersion, DataLen, DataCRC32; always the whole
    // image. In a longer file the module itself compares the CRC of the data.
    ImageLayout {
        label: "Air105 image",
        magic: [0xb5, 0xf0, 0xe1, 0x5a],
        header: 28,
        crc: 4,
        checked: 8..28,
        may_be_inverted: false,
        length: 20,
        body_crc: Some(24),
        checks_padded: false,
        may_be_empty: true,
        kind: |_| Ok(PackageKind::Air105),
    },
    // Air101, Air103, Air601, Air6208: magic, attributes, address, length, eleven words that only the module uses,
    // CRC32 of all preceding bytes, which modules require. A longer file may contain a signature or more images.
    ImageLayout {
        label: "W800 image",
        magic: [0x9f, 0xff, 0xff, 0xa0],
        header: 64,
        crc: 60,
        checked: 0..60,
        may_be_inverted: false,
        length: 12,
        body_crc: None,
        checks_padded: false,
        may_be_empty: true,
        kind: w800,
    },
    // Magic, 72 bytes that only the module uses, CRC32 of the body, 8 more such bytes, length of the body, CRC32 of all
    // preceding bytes.
    ImageLayout {
        label: "Air8101 full package",
        magic: *b"RBL\0",
        header: 96,
        crc: 92,
        checked: 0..92,
        may_be_inverted: true,
        length: 88,
        body_crc: Some(76),
        checks_padded: true,
        may_be_empty: false,
        kind: |_| Ok(PackageKind::Air8101 { script: false }),
    },
];

/// Returns the kind of a W800 image. Its type is in the four lowest bits of the attributes.
fn w800(header: &[u8]) -> Result<PackageKind, String> {
    match u32_at(header, 4) & 0xf {
        0 => Err(
            "this begins with a W800 boot loader: it is for flashing over a cable; use the .fota, .img \
             or .bin that was exported for updates"
                .to_owned(),
        ),
        1 => Ok(PackageKind::W800 { script: false }),
        _ => Ok(PackageKind::W800 { script: true }),
    }
}

/// Validation of such an image.
pub(super) struct ImageCheck {
    layout: &'static ImageLayout,
    header: Result<Vec<u8>, String>,
    body: Hasher,
    /// Number of bytes of the body that are still to come.
    left: usize,
}

impl ImageCheck {
    /// Returns `None` if the file has another magic number.
    pub(super) fn begin(head: &[u8]) -> Option<ImageCheck> {
        let layout = LAYOUTS
            .iter()
            .find(|layout| head.starts_with(&layout.magic))?;
        let header = layout.header(head);
        let length = header
            .as_ref()
            .map_or(0, |header| u32_at(header, layout.length));
        let mut check = ImageCheck {
            layout,
            header,
            body: Hasher::new(),
            left: usize::try_from(length).unwrap_or(usize::MAX),
        };
        let (_, body) = split(head, layout.header);
        check.update(body);
        Some(check)
    }
}

impl ImageLayout {
    fn header(&self, head: &[u8]) -> Result<Vec<u8>, String> {
        let header = header(self.label, self.header, head)?;
        let crc = header
            .get(self.checked.clone())
            .map(crc32)
            .unwrap_or_default();
        let stored = u32_at(header, self.crc);
        match stored == crc || (self.may_be_inverted && stored == !crc) {
            true => Ok(header.to_vec()),
            false => Err(damaged_header(self.label)),
        }
    }
}

impl FormatCheck for ImageCheck {
    fn update(&mut self, bytes: &[u8]) {
        let (body, _) = split(bytes, self.left);
        self.left -= body.len();
        self.body.update(body);
    }

    fn finish(self: Box<Self>, size: u64, whole: bool) -> Result<PackageKind, String> {
        let layout = self.layout;
        let label = layout.label;
        let header = self.header?;
        let length = u32_at(&header, layout.length);
        let expected = layout.header as u64 + u64::from(length);
        check_length(label, expected, size, true)?;
        if length == 0 && !layout.may_be_empty {
            return Err(missing_data(label));
        }
        let is_compared = whole && (size == expected || layout.checks_padded);
        if let Some(at) = layout.body_crc.filter(|_| is_compared) {
            let (stored, crc) = (u32_at(&header, at), self.body.finalize());
            if stored != crc && stored != !crc {
                return Err(format!(
                    "the data in this {label} are damaged (their CRC does not match the header's): copy the \
                     file again"
                ));
            }
        }
        (layout.kind)(&header)
    }
}
