//! Distribution of the generations in a fleet.

use crate::modems::first_edition::Dialect;
use crate::modems::generations::{Client, Transport};
use crate::modems::luatask::Generation;
use crate::modems::rng::Rng;

/// Generations with their weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    parts: Vec<(Client, u32)>,
}

impl Default for Mix {
    fn default() -> Mix {
        Mix::realistic()
    }
}

impl Mix {
    /// Returns a mix like that in the field: mostly LuatOS, some 4G LuaTask, few of the first
    /// edition.
    pub fn realistic() -> Mix {
        let weight = |client: Client| match client {
            Client::First(Dialect::UserServer, true) => 4,
            Client::First(_, true) => 1,
            Client::UpdateHttp => 3,
            Client::LuaTask(Generation::Gen2g) => 10,
            Client::LuaTask(Generation::Asr1802) => 7,
            Client::LuaTask(Generation::Rda8910) => 15,
            Client::Libfota(..) => 1,
            Client::Libfota2(..) => 3,
            Client::First(_, false)
            | Client::LuaTaskRedirect
            | Client::Libfota2File
            | Client::Libfota3(_) => 0,
        };
        Mix {
            parts: Client::all()
                .into_iter()
                .map(|client| (client, weight(client)))
                .filter(|(_, weight)| *weight > 0)
                .collect(),
        }
    }

    /// Parses `realistic`, `all` (equal weights), or `WORD=WEIGHT,…`. WORD is the beginning of
    /// client words (`libfota2`, `luatask-8910`, `udp`). These clients share the weight; without a
    /// weight each of them has 1.
    pub fn read(text: &str) -> Option<Mix> {
        let all = || {
            let clients = Client::all().into_iter();
            clients.filter(|client| {
                client.transport() != Transport::Tcp && !matches!(client, Client::Libfota3(_))
            })
        };
        let mut parts = Vec::new();
        for part in text.split(',') {
            let (word, weight) = match part.split_once('=') {
                Some((word, weight)) => (word.trim(), Some(weight.trim().parse::<u32>().ok()?)),
                None => (part.trim(), None),
            };
            if word.is_empty() || weight.is_some_and(|weight| weight == 0 || weight > 1000) {
                return None;
            }
            if word == "realistic" && weight.is_none() {
                parts.extend(Mix::realistic().parts);
                continue;
            }
            let matching: Vec<Client> = all()
                .filter(|client| word == "all" || client.slug().starts_with(word))
                .collect();
            let count = u32::try_from(matching.len())
                .ok()
                .filter(|&count| count > 0)?;
            let share = |weight: u32| (weight.saturating_mul(60) / count).max(1);
            parts.extend(
                matching
                    .into_iter()
                    .map(|client| (client, share(weight.unwrap_or(count)))),
            );
        }
        Some(Mix { parts })
    }

    /// Returns the mix without generations that have no transport; `None` if none is left.
    pub fn over(mut self, http: bool, udp: bool) -> Option<Mix> {
        self.parts.retain(|(client, _)| match client.transport() {
            Transport::Http => http,
            Transport::Udp => udp,
            Transport::Tcp => false,
        });
        (!self.parts.is_empty()).then_some(self)
    }

    /// Draws the generation of one module.
    pub(super) fn draw(&self, rng: &mut Rng) -> Client {
        let all: u64 = self
            .parts
            .iter()
            .map(|(_, weight)| u64::from(*weight))
            .sum();
        let mut left = rng.below(all);
        for (client, weight) in &self.parts {
            let weight = u64::from(*weight);
            if left < weight {
                return *client;
            }
            left = left.saturating_sub(weight);
        }
        Client::UpdateHttp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_parsed_and_drawn_by_weight() {
        assert_eq!(Mix::read("realistic"), Some(Mix::realistic()));
        for wrong in [
            "",
            "nothing",
            "libfota2=",
            "libfota2=0",
            "udp,,tcp",
            "udp=x",
        ] {
            assert_eq!(Mix::read(wrong), None, "{wrong}");
        }
        let mix = Mix::read("libfota2=30,luatask-8910=10").unwrap();
        let mut rng = Rng::new(1);
        let drawn: Vec<Client> = (0..4000).map(|_| mix.draw(&mut rng)).collect();
        let rda = Client::LuaTask(Generation::Rda8910);
        let share = drawn.iter().filter(|client| **client == rda).count();
        assert!((900..1100).contains(&share), "{share}");
        assert!(mix.clone().over(false, true).is_none());
        assert_eq!(mix.clone().over(true, false), Some(mix));
        assert!(Mix::read("udp").unwrap().over(false, true).is_some());
    }
}
