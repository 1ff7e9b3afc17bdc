//! Groups of devices that rules name. A group that cannot be used fails closed: no device matches `allow` through it,
//! and a release whose `deny` names it is held back from all devices.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Remark, ScannedGroup};
use crate::firmware::audience::{DeviceId, DeviceSet, Group, group_of_file};
use crate::firmware::rules::Rules;

/// The groups in the firmware folder.
#[derive(Debug, Default, PartialEq)]
pub struct Groups {
    /// Groups by name. The error is a sentence; an empty sentence means that the file was not read yet.
    by_name: BTreeMap<Box<str>, Result<Arc<Group>, String>>,
}

/// Rules in which the groups are replaced by their devices.
pub struct Applied {
    /// The rules.
    pub rules: Arc<Rules>,
    /// Reason why no device may get the release, if `deny` names a group that cannot be used.
    pub held_back: Option<Box<str>>,
    /// Faults of the groups that `allow` names.
    pub remarks: Vec<String>,
}

impl Groups {
    /// Creates the groups of files with these paths.
    pub fn new(files: impl IntoIterator<Item = (String, Group)>) -> Groups {
        let files = files.into_iter().map(|(path, group)| ScannedGroup {
            path,
            group: Ok(Arc::new(group)),
        });
        Groups::read(files.collect(), &mut Vec::new())
    }

    /// Creates the groups of a scan. Adds those that cannot be used to the quarantine.
    pub(super) fn read(found: Vec<ScannedGroup>, quarantined: &mut Vec<Remark>) -> Groups {
        let mut groups = Groups::default();
        for ScannedGroup { path, group } in found {
            let Some(name) = group_of_file(&path) else {
                continue;
            };
            groups.by_name.insert(name.into(), group.clone());
            if let Err(why) = group.map_err(|why| (!why.is_empty()).then_some(why))
                && let Some(why) = why
            {
                let why = why.trim_end_matches('.');
                let text = format!(
                    "{why} (no device matches `allow` through it, and what denies it is held back)"
                );
                quarantined.push(Remark::new(path, text));
            }
        }
        groups
    }

    /// The groups that can be used, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Group>)> {
        let groups = self.by_name.iter();
        groups.filter_map(|(name, group)| Some((&**name, group.as_ref().ok()?)))
    }

    /// The name of a device, from the first group whose file gives it one.
    pub fn device_name(&self, device: DeviceId) -> Option<&str> {
        self.iter().find_map(|(_, group)| group.device_name(device))
    }

    /// Returns the rules with the devices of the groups that they name.
    pub fn apply(&self, rules: &Arc<Rules>) -> Applied {
        let mut applied = Applied {
            rules: Arc::clone(rules),
            held_back: None,
            remarks: Vec::new(),
        };
        let has_group = |list: &Option<DeviceSet>| {
            list.as_ref()
                .is_some_and(|list| list.groups().next().is_some())
        };
        if !has_group(&rules.allow) && !has_group(&rules.deny) {
            return applied;
        }
        let find = |name: &str| {
            let group = self.by_name.get(name)?.as_ref().ok()?;
            Some(group.devices.clone())
        };
        let with_groups = |list: &Option<DeviceSet>| Some(list.as_ref()?.with_groups(&find));
        applied.rules = Arc::new(Rules {
            allow: with_groups(&rules.allow),
            deny: with_groups(&rules.deny),
            ..(**rules).clone()
        });
        applied.held_back = rules
            .deny
            .iter()
            .flat_map(DeviceSet::groups)
            .find_map(|(name, _)| Some(format!("deny names `@{name}`, {}", self.fault(name)?)))
            .map(String::into_boxed_str);
        let allowed = rules.allow.iter().flat_map(DeviceSet::groups);
        applied.remarks = allowed
            .filter(|(name, _)| !self.is_waiting(name))
            .filter_map(|(name, _)| Some((name, self.fault(name)?)))
            .map(|(name, fault)| {
                format!("allow names `@{name}`, {fault}: no device matches through it")
            })
            .collect();
        applied
    }

    /// Describes why a group cannot be used; `None` if it can.
    fn fault(&self, name: &str) -> Option<String> {
        match self.by_name.get(name) {
            Some(Ok(_)) => None,
            Some(Err(_)) if self.is_waiting(name) => {
                Some(format!("and @{name}.txt is not read yet"))
            }
            Some(Err(_)) => Some(format!("and @{name}.txt cannot be used")),
            None => Some(format!(
                "and there is no file @{name}.txt at the top of the firmware folder"
            )),
        }
    }

    /// Whether the file of this group exists and was not read yet.
    fn is_waiting(&self, name: &str) -> bool {
        let group = self.by_name.get(name);
        group.is_some_and(|group| matches!(group, Err(why) if why.is_empty()))
    }
}
