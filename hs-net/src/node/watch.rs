//! What a spare asks beside the networks whether its master lives: files and the user's function, each on a thread of its own.
//!
//! A file is looked for by [`Files::exists`], which reads the disk afresh and changes nothing: the master is the writer. The thesis's `hs_det_file` removes its file before it returns; here that is
//! done once the spare is master, and so the writer. A first master does it too: what an earlier pair has left says nothing of it.

use alloc::format;
use core::time::Duration;

use hs_core::detection::{Liveness, Sign};
use hs_core::platform::{FileError, Files, Priority};
use hs_core::registry::descriptor::FilePath;
use hs_core::role::Role;
use hs_core::sync;

use super::Node;
use crate::detect::{self, Detection};

/// Least time between two looks for a file: each reads the disk.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Node {
    /// What this node's master is judged by.
    pub(super) fn detection(&self) -> Detection {
        match (&self.setup.pair.detection, detect::registered()) {
            (Some(detection), _) => detection.clone(),
            (None, Some(_)) => Sign::User.into(),
            (None, None) => Sign::Heartbeat.into(),
        }
    }

    /// Begins to ask whatever cannot be asked by the pair thread.
    pub(super) fn watch_master(&'static self) {
        let detection = self.detection();
        if let Err(error) = detection.check() {
            self.end(&format!("the master cannot be judged by {detection}: {error}"));
        }
        for (index, sign) in detection.signs().into_iter().enumerate() {
            match sign {
                Sign::Heartbeat | Sign::Icmp => {}
                Sign::File(path) => {
                    let Some(files) = self.setup.machine.files() else {
                        self.end(&format!("there is no disk to look for {} on", path.as_str()));
                    };
                    self.spawn("watch-file", Priority::Normal, move || {
                        self.watch_file(index, files, &path);
                    });
                }
                Sign::User => {
                    let Some((function, argument)) = detect::registered() else {
                        self.end("no detection function is registered for the sign user");
                    };
                    self.spawn("watch-user", Priority::Normal, move || {
                        while self.role() == Role::Spare {
                            if self.pair.lock().is_paired() {
                                self.report(index, function(argument));
                            }
                            sync::sleep(self.setup.pair.heartbeat);
                        }
                    });
                }
            }
        }
        self.pair.lock().detect_by(detection);
    }

    fn report(&self, index: usize, liveness: Liveness) {
        self.pair.lock().report(index, liveness);
        if liveness == Liveness::Failed {
            self.wake.raise();
        }
    }

    fn watch_file(&self, index: usize, files: &dyn Files, path: &FilePath) {
        let mut complained = false;
        while self.role() == Role::Spare {
            // A master that is there has removed what was said of others.
            let was_paired = self.pair.lock().is_paired();
            match files.exists(path) {
                Ok(_) if !was_paired => {}
                Ok(true) => self.report(index, Liveness::Failed),
                Ok(false) => self.report(index, Liveness::Alive),
                Err(error) if !complained => {
                    complained = true;
                    log::warn!("cannot look for {}: {error}", path.as_str());
                }
                Err(_) => {}
            }
            sync::sleep(self.setup.pair.heartbeat.max(LOOK_EVERY));
        }
    }

    /// Whether files say that a master has failed.
    pub(super) fn is_judged_by_files(&self) -> bool {
        let signs = self.detection().signs();
        signs.iter().any(|sign| matches!(sign, Sign::File(_)))
    }

    /// Removes the files that said that an earlier master has failed, or the next spare would believe them of this one. The
    /// volume is mounted, or that has failed and was said.
    pub(super) fn remove_signs(&self) {
        let Some(files) = self.setup.machine.files() else {
            return;
        };
        for sign in self.detection().signs() {
            if let Sign::File(path) = sign
                && let Err(error) = files.remove(&path)
                && !matches!(error, FileError::NotFound(_) | FileError::NotMounted)
            {
                log::warn!("cannot remove {}: {error}", path.as_str());
            }
        }
    }
}
