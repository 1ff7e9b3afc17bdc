//! Interned profiles: the facts that devices state in their checks besides their id and version. The modules of one
//! product state the same facts, so each device record contains only a profile number of two bytes. With the profile,
//! the check of a device can be decided again (docs/cases.md 42).

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use crate::decision::Check;
use crate::firmware::name::SentName;

/// Maximum number of profiles, of at most 500 bytes each.
const MAX_PROFILES: usize = 4096;

/// Number of profiles from which devices on probation cannot add another one. Anyone can invent such devices.
const MAX_ON_PROBATION: usize = MAX_PROFILES / 2;

/// Maximum length of a text in a profile, in bytes. A check with a longer text has no profile.
const MAX_TEXT: usize = 128;

/// Number of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProfileId(u16);

impl ProfileId {
    /// No profile: the facts that the device states are unknown.
    pub const NONE: ProfileId = ProfileId(u16::MAX);
}

/// All of a check except the device's id and version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Profile<'a> {
    /// Complete `firmware_name`.
    pub firmware_name: Option<Cow<'a, str>>,
    /// The project that the path or the `project_key` names.
    pub path_project: Option<Cow<'a, str>>,
    /// `core_version`.
    pub core_version: Option<u32>,
    /// `project_key`.
    pub project_key: Option<Cow<'a, str>>,
    /// Whether the device can follow a redirect.
    pub need_oss_url: bool,
    /// Size of the largest file that the protocol of the check can carry, in bytes; `None` if unlimited.
    pub largest: Option<u64>,
}

impl<'a> Profile<'a> {
    /// The profile of a check; `None` if a text in it is longer than 128 bytes.
    pub fn of(check: &'a Check<'_>) -> Option<Profile<'a>> {
        let profile = Profile {
            firmware_name: check.firmware_name.as_deref().map(Cow::Borrowed),
            path_project: check.path_project.as_deref().map(Cow::Borrowed),
            core_version: check.core_version,
            project_key: check.project_key.as_deref().map(Cow::Borrowed),
            need_oss_url: check.need_oss_url,
            largest: check.largest,
        };
        profile.is_short().then_some(profile)
    }

    fn is_short(&self) -> bool {
        let texts = [&self.firmware_name, &self.path_project, &self.project_key];
        texts
            .into_iter()
            .flatten()
            .all(|text| text.len() <= MAX_TEXT)
    }

    /// Profile that borrows the texts of this one.
    pub fn borrowed(&self) -> Profile<'_> {
        fn borrowed<'t>(text: &'t Option<Cow<'_, str>>) -> Option<Cow<'t, str>> {
            text.as_deref().map(Cow::Borrowed)
        }
        Profile {
            firmware_name: borrowed(&self.firmware_name),
            path_project: borrowed(&self.path_project),
            project_key: borrowed(&self.project_key),
            ..*self
        }
    }

    /// Converts the profile to one that owns its texts.
    pub fn into_owned(self) -> Profile<'static> {
        let owned = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Profile {
            firmware_name: owned(self.firmware_name),
            path_project: owned(self.path_project),
            project_key: owned(self.project_key),
            core_version: self.core_version,
            need_oss_url: self.need_oss_url,
            largest: self.largest,
        }
    }

    /// Adds the facts of the profile to a check.
    pub fn fill(self, check: &mut Check<'a>) {
        check.firmware_name = self.firmware_name.map(Into::into);
        check.path_project = self.path_project;
        check.core_version = self.core_version;
        check.project_key = self.project_key;
        check.need_oss_url = self.need_oss_url;
        check.largest = self.largest;
    }
}

/// The profiles of the remembered devices.
#[derive(Debug, Default)]
pub struct Profiles {
    profiles: Vec<Option<SharedProfile>>,
    free: Vec<ProfileId>,
    ids: HashMap<Rc<Profile<'static>>, ProfileId>,
}

/// A profile and the number of devices that have it.
#[derive(Debug)]
struct SharedProfile {
    profile: Rc<Profile<'static>>,
    /// Platform in the profile's `firmware_name`; empty if there is none.
    platform: Box<str>,
    devices: u32,
}

impl Profiles {
    /// Profile with this number.
    pub fn get(&self, id: ProfileId) -> Option<&Profile<'static>> {
        self.shared(id).map(|profile| &**profile)
    }

    /// Shared pointer to the profile with this number, to be kept.
    pub fn shared(&self, id: ProfileId) -> Option<&Rc<Profile<'static>>> {
        let shared = self.profiles.get(usize::from(id.0))?.as_ref()?;
        Some(&shared.profile)
    }

    /// Platform in the `firmware_name` of a profile; empty if there is none.
    pub fn platform(&self, id: ProfileId) -> &str {
        let shared = self.profiles.get(usize::from(id.0));
        let shared = shared.and_then(Option::as_ref);
        shared.map_or("", |shared| &shared.platform)
    }

    /// Replaces the profile `before` of one device. Returns the number of the new one; [`ProfileId::NONE`] if there is
    /// no room.
    pub fn replace(
        &mut self,
        before: ProfileId,
        profile: Option<Profile<'_>>,
        on_probation: bool,
    ) -> ProfileId {
        if profile.is_some() && self.get(before) == profile.as_ref() {
            return before;
        }
        // The device enters the new profile before it leaves the old one, so that different profiles have different
        // numbers.
        let entered = profile.and_then(|profile| self.enter(profile, on_probation));
        self.leave(before);
        entered.unwrap_or(ProfileId::NONE)
    }

    fn enter(&mut self, profile: Profile<'_>, on_probation: bool) -> Option<ProfileId> {
        if let Some(id) = self.ids.get(&profile).copied() {
            let shared = self.profiles.get_mut(usize::from(id.0))?.as_mut()?;
            shared.devices += 1;
            return Some(id);
        }
        let most = match on_probation {
            true => MAX_ON_PROBATION,
            false => MAX_PROFILES,
        };
        if self.ids.len() >= most || !profile.is_short() {
            return None;
        }
        let profile = Rc::new(profile.into_owned());
        let name = profile.firmware_name.as_deref();
        let name = name.map(SentName::from).unwrap_or_default();
        let shared = Some(SharedProfile {
            profile: Rc::clone(&profile),
            platform: name.parts().platform.unwrap_or_default().into(),
            devices: 1,
        });
        let id = match self.free.pop() {
            Some(id) => {
                *self.profiles.get_mut(usize::from(id.0))? = shared;
                id
            }
            None => {
                let id = ProfileId(u16::try_from(self.profiles.len()).ok()?);
                self.profiles.push(shared);
                id
            }
        };
        self.ids.insert(profile, id);
        Some(id)
    }

    /// Removes one device from a profile, and the profile if no device is left.
    pub fn leave(&mut self, id: ProfileId) {
        let Some(place) = self.profiles.get_mut(usize::from(id.0)) else {
            return;
        };
        let Some(shared) = place else { return };
        shared.devices -= 1;
        if shared.devices == 0 {
            self.ids.remove(&shared.profile);
            *place = None;
            self.free.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Profiles {
        /// Number of profiles.
        pub(in crate::fleet) fn len(&self) -> usize {
            self.ids.len()
        }
    }

    fn named(name: &str) -> Option<Profile<'_>> {
        Some(Profile {
            firmware_name: Some(name.into()),
            ..Profile::default()
        })
    }

    #[test]
    fn devices_that_state_the_same_share_a_profile_until_the_last_one_is_gone() {
        let mut profiles = Profiles::default();
        let one = profiles.replace(ProfileId::NONE, named("A_Luat_V1_8955"), true);
        let same = profiles.replace(ProfileId::NONE, named("A_Luat_V1_8955"), true);
        assert_eq!((one, profiles.len()), (same, 1));
        assert_eq!(profiles.replace(one, named("A_Luat_V1_8955"), true), one);
        let other = profiles.replace(one, named("A_Luat_V2_8955"), true);
        assert_ne!(one, other);
        profiles.leave(same);
        assert_eq!((profiles.get(one), profiles.len()), (None, 1));
        assert_eq!(profiles.get(other), named("A_Luat_V2_8955").as_ref());
        assert_eq!(profiles.replace(other, None, true), ProfileId::NONE);
        assert_eq!(profiles.len(), 0);
    }

    #[test]
    fn invented_profiles_take_no_room_from_established_devices() {
        let mut profiles = Profiles::default();
        for n in 0..2 * MAX_PROFILES {
            profiles.replace(ProfileId::NONE, named(&format!("P{n}")), true);
        }
        assert_eq!(profiles.len(), MAX_ON_PROBATION);
        let invented = profiles.replace(ProfileId::NONE, named("X"), true);
        assert_eq!(invented, ProfileId::NONE);
        let real = profiles.replace(ProfileId::NONE, named("X"), false);
        assert_eq!(profiles.get(real), named("X").as_ref());
        let long = "x".repeat(MAX_TEXT + 1);
        let long = profiles.replace(ProfileId::NONE, named(&long), false);
        assert_eq!(long, ProfileId::NONE);
    }
}
