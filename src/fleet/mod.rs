//! MEMORY: what the server remembers of devices. For now: which content each download began with
//! ([`pins`]), by device id and by the [`network`] that it asked from.
//!
//! An address is not an identity: carriers, proxies and Docker put five hundred modules behind one. A
//! network only tells apart two devices that claim the same id, and shares out limits.

pub mod network;
pub mod pins;
