//! Judges what a module received.

use super::*;

pub(super) fn judge(world: &mut World, device: &mut Device, played: &Played) {
    world.counts.attempts += 1;
    world.counts.of_clones += u32::from(device.has_clone);
    world.counts.cut += u32::from(played.was_cut);
    let partial = |exchange: &luat_ota::modems::driver::Exchange| exchange.status() == Some(206);
    world.counts.resumed += u32::from(played.exchanges.iter().filter(|e| partial(e)).count() > 1);
    let number = match &played.outcome {
        Outcome::Updated(bytes) | Outcome::Failed(Failure::FlashedGarbage(bytes, _)) => {
            number_of(world, device, bytes)
        }
        _ => None,
    };
    match (&played.outcome, number) {
        // A file of a few random bytes may pass for text, and a played module calls text garbage.
        (
            Outcome::Updated(bytes) | Outcome::Failed(Failure::FlashedGarbage(bytes, _)),
            Some(number),
        ) => {
            world.counts.updates += 1;
            updated(world, device, number, bytes);
        }
        (Outcome::Updated(bytes), None) => {
            world.counts.updates += 1;
            world.violations.push(format!(
                "{} {} got {} bytes that are none of the files{}; {:?}",
                device.client.name(),
                device.imei,
                bytes.len(),
                similar_files(&world.images, bytes),
                played.exchanges,
            ));
        }
        (Outcome::NoUpdate(_), _) => world.counts.refused += 1,
        (Outcome::Failed(Failure::FlashedGarbage(bytes, why)), None) => {
            world.counts.failed += 1;
            // The newest cores take what a cut left of one file for the whole; their package check,
            // which is not played here, throws it away. Two files in one are another matter.
            let of_one_file = world
                .images
                .iter()
                .any(|image| image.project == device.project && image.bytes.starts_with(bytes));
            let takes_half = device.client.luatos_core() >= Some(Core::D2025_12_19);
            if !(takes_half && of_one_file) {
                world.violations.push(format!(
                    "{} {} flashed {} bytes that are none of the files: {why}; {:?}",
                    device.client.name(),
                    device.imei,
                    bytes.len(),
                    played.exchanges,
                ));
            }
        }
        (Outcome::Failed(_), _) if diagnose::is_known_bug(device.client, played) => {
            world.counts.refused += 1;
        }
        (Outcome::Failed(_), _) => world.counts.failed += 1,
    }
}

/// The number of the file of the device's project that has these bytes; the highest, as the same bytes may have been
/// several versions.
fn number_of(world: &World, device: &Device, bytes: &[u8]) -> Option<u32> {
    let images = world.images.iter();
    images
        .filter(|image| image.project == device.project && *image.bytes == bytes)
        .map(|image| image.number)
        .max()
}

/// The files whose first or last bytes are also those of these bytes, for a message.
pub(super) fn similar_files(images: &[Image], bytes: &[u8]) -> String {
    let mut text = String::new();
    for image in images {
        let same = |(a, b): &(&u8, &u8)| a == b;
        let head = bytes
            .iter()
            .zip(image.bytes.iter())
            .take_while(same)
            .count();
        let backwards = bytes.iter().rev().zip(image.bytes.iter().rev());
        let tail = backwards.take_while(same).count();
        if head > 16 || tail > 16 {
            text += &format!(
                "; {} 1.0.{} ({} bytes) has its first {head} and its last {tail}",
                PROJECTS[image.project],
                image.number,
                image.bytes.len()
            );
        }
    }
    text
}

fn updated(world: &mut World, device: &mut Device, number: u32, bytes: &[u8]) {
    if !device.falls_back && number > device.number {
        device.number = number;
        device.deliveries.clear();
        return;
    }
    // It comes back as before: it falls back, or the version that it got has another name now.
    // A server that is killed while the last bytes are on their way does not know that they arrived; one
    // without its state knows of none.
    let forgotten = world.counts.kills + ALLOWED * world.counts.states_lost;
    let entry = device.deliveries.entry(short_hash(bytes));
    let (deliveries, before) = entry.or_insert((0, forgotten));
    *deliveries += 1;
    let hours = u32::try_from(variable("LUAT_OTA_CHAOS_SECONDS").unwrap_or(0) / 3600).unwrap();
    // What a clone reports counts for the device: its success takes reverts back.
    if !device.has_clone && *deliveries > ALLOWED + 2 * hours + (forgotten - *before) {
        world.violations.push(format!(
            "{} {} got the same failed content {deliveries} times",
            device.client.name(),
            device.imei,
        ));
    }
}

/// Checks that every generation gets the newest files once the folder no longer changes.
pub(super) fn check_that_all_update(server: &Server, newest: &[Image]) {
    for image in newest {
        let target = luat(PROJECTS[image.project], "862991449999999", "1.0.0");
        server.wait_until_offered(&target, &image.bytes);
    }
    for (at, client) in Client::all().into_iter().enumerate() {
        let image = &newest[at % newest.len()];
        let endpoint = endpoint(client, (server.http, server.udp, server.tcp));
        let module = module(&format!("86299145{at:07}"), image.project, 0);
        let mut attempt = client.attempt(&module, &endpoint);
        let settings = Settings::probing(Duration::from_secs(20));
        let played = smol::block_on(play(attempt.as_mut(), &settings));
        assert!(
            matches!(&played.outcome, Outcome::Updated(bytes) if *bytes == *image.bytes),
            "{}: {:?}",
            client.name(),
            played.outcome
        );
    }
}
