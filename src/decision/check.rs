//! What a module asks, whichever way it asked.

use std::borrow::Cow;

use crate::firmware::audience::DeviceId;
use crate::firmware::catalog::{Catalog, KeyOwner};
use crate::firmware::name::{FirmwareName, Marker, SentName};
use crate::firmware::version::{FirstField, Version};

/// An update check. All texts are as the module sent them, decoded, and may hold any
/// character.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Check<'a> {
    /// The device, if it named itself with an id that can be one.
    pub device: Option<DeviceId>,
    /// The text by which it is shown ([`DeviceId::read`]); empty if `device` is `None`.
    pub device_text: Cow<'a, str>,
    /// `firmware_name`, whole.
    pub firmware_name: Option<SentName<'a>>,
    /// The project that the path names (`/luat/update/PROJECT?…`), or after [`Check::complete`] the
    /// `project_key`; wins over `firmware_name`'s.
    pub path_project: Option<Cow<'a, str>>,
    /// `version`, as written; empty if it is missing.
    pub version: Cow<'a, str>,
    /// `core_version` (RDA8910 and 724U).
    pub core_version: Option<u32>,
    /// `project_key`.
    pub project_key: Option<Cow<'a, str>>,
    /// `need_oss_url=1`: it can follow a redirect.
    pub need_oss_url: bool,
    /// The largest file that this way of asking can carry, in bytes (65535 × 1022 over UDP).
    pub largest: Option<u64>,
    /// What the module's owner could set right in how it asks; empty if nothing. For the log.
    pub hint: &'static str,
}

impl Check<'_> {
    /// Fills in what a check says by means of what there is: the project by its `project_key`, if it names none
    /// and exactly one has the key; a project whose name itself looks like `PROJECT_CSDK_…`; the version, if it
    /// stands in the name alone. To be called before it is decided on or remembered.
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

    /// The firmware name taken apart; empty where there is none.
    pub fn name(&self) -> FirmwareName<'_> {
        let name = self.firmware_name.as_ref();
        name.map(SentName::parts).unwrap_or_default()
    }

    /// The project that is asked for.
    pub fn project(&self) -> &str {
        match &self.path_project {
            Some(project) => project,
            None => {
                let name = self.firmware_name.as_ref();
                name.map(SentName::project).unwrap_or_default()
            }
        }
    }

    /// What a first field of 1000 or more in a version means to this module.
    pub fn first_field(&self) -> FirstField {
        Marker::first_field(self.firmware_name.as_ref().and_then(SentName::marker))
    }

    /// The version that the device runs, if it is a numeric one.
    pub fn running(&self) -> Option<Version> {
        Version::parse(&self.version)
    }

    /// The core that the device runs, if it says so anywhere.
    pub fn core(&self) -> Option<u32> {
        self.core_in(&self.name(), self.running())
    }

    /// The same from a name and version that are parsed already.
    pub(super) fn core_in(&self, name: &FirmwareName<'_>, running: Option<Version>) -> Option<u32> {
        let in_version = running
            .filter(|_| Marker::first_field(name.marker) == FirstField::Core)
            .and_then(|version| version.core_form())
            .map(|form| form.core);
        self.core_version.or(in_version).or(name.core)
    }
}
