//! A module's check, independent of its protocol.

use std::borrow::Cow;

use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::{Catalog, KeyOwner};
use crate::firmware::name::{FirmwareName, Marker, SentName};
use crate::firmware::version::{FirstField, Version};

/// A check. All texts are as the module sent them, decoded, and may contain any character.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Check<'a> {
    /// The device; `None` if the check contains no valid id.
    pub device: Option<DeviceId>,
    /// The text by which the device is shown ([`DeviceId::read`]); empty if `device` is `None`.
    pub device_text: Cow<'a, str>,
    /// The complete `firmware_name`.
    pub firmware_name: Option<SentName<'a>>,
    /// The project that the path names (`/luat/update/PROJECT?…`), or after [`Check::complete`] the project with the
    /// `project_key`. It takes precedence over the project in `firmware_name`.
    pub path_project: Option<Cow<'a, str>>,
    /// `version`, as written; empty if it is missing.
    pub version: Cow<'a, str>,
    /// `core_version` (RDA8910 and 724U).
    pub core_version: Option<u32>,
    /// `project_key`.
    pub project_key: Option<Cow<'a, str>>,
    /// Whether the module can follow a redirect (`need_oss_url=1`).
    pub need_oss_url: bool,
    /// Size of the largest file that this protocol can carry, in bytes (65535 × 1022 over UDP); `None`: no limit.
    pub largest: Option<u64>,
    /// Advice to the module's owner about the form of the check, for the log; empty if there is none.
    pub hint: &'static str,
}

impl Check<'_> {
    /// Fills in from the catalogue what the check does not state: the project by its `project_key`, if the check names
    /// none and exactly one project has the key; a project whose name itself looks like `PROJECT_CSDK_…`; the version,
    /// if only the firmware name contains it. Must be called before the check is decided on or recorded.
    pub fn complete(&mut self, catalog: &Catalog) {
        if self.path_project.is_none() {
            self.find_project(catalog);
        }
        if self.version.is_empty()
            && let Some(version) = self.name().version
        {
            self.version = Cow::Owned(version.to_owned());
        }
    }

    fn find_project(&mut self, catalog: &Catalog) {
        if let Some(name) = &mut self.firmware_name {
            let is_marked = name.marker().is_some();
            if is_marked
                && catalog.project(name.project()).is_none()
                && catalog.project(name).is_some()
            {
                name.treat_as_project();
            }
        }
        let key = self.project_key.as_deref();
        if self.project().is_empty()
            && let Some(KeyOwner::One(project)) = key.map(|key| catalog.key_owner(key))
        {
            self.path_project = Some(Cow::Owned(project.name.to_string()));
        }
    }

    /// Returns the parsed firmware name; empty if there is none.
    pub fn name(&self) -> FirmwareName<'_> {
        let name = self.firmware_name.as_ref();
        name.map(SentName::parts).unwrap_or_default()
    }

    /// Returns the project that the check asks for.
    pub fn project(&self) -> &str {
        match &self.path_project {
            Some(project) => project,
            None => {
                let name = self.firmware_name.as_ref();
                name.map(SentName::project).unwrap_or_default()
            }
        }
    }

    /// Returns the meaning that a first version field of 1000 or more has for this module.
    pub fn first_field(&self) -> FirstField {
        Marker::first_field(self.firmware_name.as_ref().and_then(SentName::marker))
    }

    /// Returns the version that the device runs, if it is numeric.
    pub fn running(&self) -> Option<Version> {
        Version::parse(&self.version)
    }

    /// Returns the core version of the device, if the check states it anywhere.
    pub fn core(&self) -> Option<u32> {
        self.core_in(&self.name(), self.running())
    }

    /// Returns the core version like [`Check::core`], from a name and version that are parsed already.
    pub(super) fn core_in(&self, name: &FirmwareName<'_>, running: Option<Version>) -> Option<u32> {
        let in_version = running
            .filter(|_| Marker::first_field(name.marker) == FirstField::Core)
            .and_then(|version| version.core_form())
            .map(|form| form.core);
        self.core_version.or(in_version).or(name.core)
    }
}
