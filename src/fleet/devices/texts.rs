//! The texts of ids that are hashed, by the slot of the device. Most devices have none. Like the records they
//! lie in small pieces, so that growing never copies them all.

use crate::sorted::Sorted;

/// Slots whose texts lie together.
const SLAB: u32 = 256;

/// The texts.
#[derive(Debug, Default)]
pub struct Texts {
    slabs: Vec<Sorted<u32, Box<str>>>,
}

impl Texts {
    /// The text of a slot, if it has one.
    pub fn get(&self, slot: u32) -> Option<&str> {
        let text = self.slabs.get(place(slot))?.get(&slot)?;
        Some(text)
    }

    /// The slot has this text now.
    pub fn insert(&mut self, slot: u32, text: Box<str>) {
        let place = place(slot);
        if self.slabs.len() <= place {
            let slabs = place.saturating_add(1);
            self.slabs.resize_with(slabs, Sorted::default);
        }
        if let Some(slab) = self.slabs.get_mut(place) {
            slab.insert(slot, text);
        }
    }

    /// The slot has no text any more.
    pub fn remove(&mut self, slot: u32) {
        if let Some(slab) = self.slabs.get_mut(place(slot)) {
            slab.remove(&slot);
            if slab.is_empty() {
                *slab = Sorted::default();
            }
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.slabs.iter().map(Sorted::len).sum()
    }
}

/// In which slab it lies.
fn place(slot: u32) -> usize {
    usize::try_from(slot / SLAB).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_its_text_until_it_is_taken_away() {
        let mut texts = Texts::default();
        let slots = [700, 0, 255, 256, 1];
        for slot in slots {
            texts.insert(slot, format!("pump-{slot}").into());
        }
        texts.insert(256, "valve".into());
        assert_eq!(texts.len(), slots.len());
        assert_eq!(texts.get(255), Some("pump-255"));
        assert_eq!(texts.get(256), Some("valve"));
        assert_eq!((texts.get(2), texts.get(u32::MAX)), (None, None));
        texts.remove(256);
        texts.remove(u32::MAX);
        assert_eq!((texts.get(256), texts.len()), (None, slots.len() - 1));
        // A piece in which nothing is left takes no room.
        assert!(texts.slabs.iter().any(|slab| slab.is_empty()));
    }
}
