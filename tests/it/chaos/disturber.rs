//! Disturbs the firmware folder while modules download.

use super::*;

/// Changes the firmware folder at random.
pub(super) struct FolderDisturber<'w> {
    pub(super) world: &'w Mutex<World>,
    pub(super) root: PathBuf,
    /// The newest release of each project.
    pub(super) newest: [u32; PROJECTS.len()],
    pub(super) made: u64,
    /// Whether the files dropped now are those that the test checks at the end.
    pub(super) settling: bool,
}

impl FolderDisturber<'_> {
    pub(super) fn folder(&self, project: usize, number: u32) -> PathBuf {
        self.root
            .join(PROJECTS[project])
            .join(format!("1.0.{number}"))
    }

    /// The firmware files that a release contains now.
    pub(super) fn files(&self, project: usize, number: u32) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.folder(project, number)) else {
            return Vec::new();
        };
        entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
            .collect()
    }

    /// Bytes that have never existed before. They count as dropped from now on.
    pub(super) fn bytes(
        &mut self,
        random: &mut Random,
        project: usize,
        number: u32,
    ) -> Arc<Vec<u8>> {
        self.made += 1;
        let size = match random.below(4) {
            // The oldest clients need a file of more than one segment.
            _ if self.settling => 20_000 + random.below(30_000),
            0 => 1022 * (1 + random.below(60)),
            1 => 1 + random.below(3000),
            _ => 20_000 + random.below(300_000),
        };
        let bytes = Arc::new(noise(
            self.made * 1000 + random.below(1000),
            usize::try_from(size).unwrap(),
        ));
        self.world.lock().unwrap().images.push(Image {
            project,
            number,
            bytes: Arc::clone(&bytes),
        });
        bytes
    }

    pub(super) fn add(&mut self, random: &mut Random, project: usize) {
        self.newest[project] += 1;
        let number = self.newest[project];
        let bytes = self.bytes(random, project, number);
        let folder = self.folder(project, number);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("update.bin.part"), &*bytes).unwrap();
        std::fs::rename(folder.join("update.bin.part"), folder.join("update.bin")).unwrap();
    }

    pub(super) fn disturb(&mut self, random: &mut Random) {
        let project = random.index(PROJECTS.len());
        let newest = self.newest[project];
        let number = newest
            .saturating_sub(u32::try_from(random.below(3)).unwrap())
            .max(1);
        match random.below(10) {
            0..=2 => self.add(random, project),
            3 | 4 => self.replace_in_place(random, project, number),
            5 => self.rename(random, project, number),
            6 => self.pause(project, number, true),
            7 => self.pause(project, number, false),
            8 => self.move_to_a_new_version(project, number),
            _ if newest > 2 => {
                let _ = std::fs::remove_dir_all(self.folder(project, newest - 2));
            }
            _ => {}
        }
    }

    /// Overwrites a file in place, in several slow writes.
    pub(super) fn replace_in_place(&mut self, random: &mut Random, project: usize, number: u32) {
        let Some(path) = self.files(project, number).pop() else {
            return;
        };
        let bytes = self.bytes(random, project, number);
        let truncate = random.one_in(2);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .truncate(truncate)
            .open(path)
            .unwrap();
        for piece in bytes.chunks(bytes.len() / 5 + 1) {
            file.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
        file.set_len(bytes.len() as u64).unwrap();
    }

    pub(super) fn rename(&mut self, random: &mut Random, project: usize, number: u32) {
        if let Some(path) = self.files(project, number).pop() {
            let name = format!("name-{}.bin", random.below(1000));
            let _ = std::fs::rename(&path, path.with_file_name(name));
        }
    }

    /// Moves a file to a new version.
    pub(super) fn move_to_a_new_version(&mut self, project: usize, number: u32) {
        let Some(path) = self.files(project, number).pop() else {
            return;
        };
        let Ok(bytes) = std::fs::read(&path) else {
            return;
        };
        self.newest[project] += 1;
        let newest = self.newest[project];
        self.world.lock().unwrap().images.push(Image {
            project,
            number: newest,
            bytes: Arc::new(bytes),
        });
        let folder = self.folder(project, newest);
        std::fs::create_dir_all(&folder).unwrap();
        let _ = std::fs::rename(path, folder.join("update.bin"));
    }

    pub(super) fn pause(&self, project: usize, number: u32, paused: bool) {
        let folder = self.folder(project, number);
        if !folder.exists() {
            return;
        }
        let rules = json!({ "paused": paused }).to_string();
        let _ = std::fs::write(folder.join(".release.json.part"), rules);
        let _ = std::fs::rename(
            folder.join(".release.json.part"),
            folder.join("release.json"),
        );
    }

    /// Adds one more release to each project, which remains unchanged until the end.
    pub(super) fn settle(&mut self, random: &mut Random) -> Vec<Image> {
        let mut newest = Vec::new();
        self.settling = true;
        for project in 0..PROJECTS.len() {
            self.add(random, project);
            newest.push(self.world.lock().unwrap().images.last().unwrap().clone());
        }
        newest
    }
}
