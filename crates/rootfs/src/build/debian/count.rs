//! Counts packages by what `apt` and `dpkg` print under `mmdebstrap --verbose`.
//!
//! ```text
//!   0 upgraded, 69 newly installed, 0 to remove and 0 not upgraded.   the essential packages
//!   Get:1 http://… bookworm/main amd64 gcc-12-base amd64 12.2.0 …
//!   Setting up gcc-12-base:amd64 (12.2.0-14+deb12u1) ...
//!   0 upgraded, 140 newly installed, …                               the rest
//! ```
//!
//! The total is known once both lists were announced.

use crate::progress::{Progress, Stage, Unit, Update};

#[derive(Debug, Default)]
pub(super) struct PackageCount {
    lists: u32,
    announced: u64,
    fetched: u64,
    configured: u64,
}

impl PackageCount {
    pub(super) fn read_line(&mut self, line: &str, progress: &dyn Progress) {
        if let Some(count) = newly_installed(line) {
            self.lists += 1;
            self.announced += count;
            return;
        }
        let total = (self.lists >= 2).then_some(self.announced);
        let unit = Unit::Packages;
        if let Some(package) = line.strip_prefix("Setting up ") {
            self.configured += 1;
            let message = package.split([' ', ':']).next().unwrap_or_default();
            progress.update(Update {
                stage: Stage::InstallPackages,
                done: self.configured,
                total,
                unit,
                message,
            });
        } else if line.starts_with("Get:") && self.lists > 0 {
            // Before the first list, it is the indices that are fetched.
            self.fetched += 1;
            // Get:1 URL SUITE/COMPONENT ARCHITECTURE PACKAGE …
            let message = line.split_whitespace().nth(4).unwrap_or_default();
            progress.update(Update {
                stage: Stage::DownloadPackages,
                done: self.fetched,
                total,
                unit,
                message,
            });
        }
    }
}

fn newly_installed(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(" upgraded, ")?;
    rest.split_once(" newly installed, ")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Seen(Mutex<Vec<String>>);

    impl Progress for Seen {
        fn update(&self, update: Update<'_>) {
            let Update { stage, done, total, message, .. } = update;
            self.0.lock().unwrap().push(format!("{stage}: {done} of {total:?}, {message}"));
        }
    }

    #[test]
    fn packages_are_counted_over_both_lists_and_indices_are_not() {
        let seen = Seen::default();
        let mut count = PackageCount::default();
        for line in [
            "Get:1 http://mirror.example/debian bookworm InRelease [151 kB]",
            "0 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.",
            "Get:1 http://mirror.example/debian bookworm/main amd64 libc6 amd64 2.36-9 [2750 kB]",
            "Setting up libc6:amd64 (2.36-9) ...",
            "0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.",
            "Setting up vim (2:9.0) ...",
            "I: success in 40.0516 seconds",
        ] {
            count.read_line(line, &seen);
        }
        let seen = seen.0.into_inner().unwrap();
        assert_eq!(
            seen,
            [
                "download packages: 1 of None, libc6",
                "install packages: 1 of None, libc6",
                "install packages: 2 of Some(3), vim",
            ]
        );
    }
}
