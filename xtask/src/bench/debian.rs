//! The kernel of the Linux guest: Debian's, for clouds, fetched as a package and unpacked.
//!
//! Through a directory of apt's own state, so that nothing on the host changes and nobody needs to be root. First Debian 13's
//! (6.12, which has every way of tracking pages that is compared); where that is out of reach the newest that the host's own
//! sources have. Once fetched it is kept. Deliberately absent: installing anything, and kernels whose signature does not hold.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::sources;
use crate::command::{command, find, read, show};

/// What the kernel's file is called in a package, before its version.
const KERNEL: &str = "vmlinuz-";
/// The keys of Debian's archive, as releases differ in naming them.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];
/// Packages that depend on a kernel: Debian's for clouds and its usual one, Ubuntu's. The newest of all that there are counts, and
/// of several as new the first.
const METAPACKAGES: [&str; 4] = [
    "linux-image-cloud-amd64",
    "linux-image-amd64",
    "linux-image-virtual",
    "linux-image-generic",
];

/// A kernel to boot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Kernel {
    pub(super) image: PathBuf,
    /// As the file's name has it.
    pub(super) version: String,
    /// Why it is not the one that was wanted, if it is not.
    pub(super) excuse: Option<String>,
}

/// Where it comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Debian13,
    Host,
}

/// The kernel, kept below `cache` from an earlier run or fetched now.
///
/// # Errors
/// Neither Debian 13 nor the host's own sources give one; the message says why for both.
pub(super) fn kernel(cache: &Path) -> Result<Kernel> {
    let wanted = match kept_or_fetched(cache, Origin::Debian13) {
        Ok(kernel) => return Ok(kernel),
        Err(error) => error,
    };
    eprintln!("warning: no kernel of Debian 13, trying the host's own sources: {wanted:#}");
    match kept_or_fetched(cache, Origin::Host) {
        Ok(kernel) => Ok(Kernel {
            excuse: Some(format!(
                "Linux {} from the host's own sources, not Debian 13's; older than 6.7 it has no PAGEMAP_SCAN: {wanted:#}",
                kernel.version
            )),
            ..kernel
        }),
        Err(error) => {
            bail!("no Linux kernel. From Debian 13: {wanted:#}\nFrom the host's own sources: {error:#}")
        }
    }
}

fn kept_or_fetched(cache: &Path, origin: Origin) -> Result<Kernel> {
    let directory = cache.join(match origin {
        Origin::Debian13 => "linux-debian-13",
        Origin::Host => "linux-host",
    });
    if let Some(kernel) = kept(&directory) {
        return Ok(kernel);
    }
    let work = directory.join("work");
    // What an interrupted run left.
    let _ = fs::remove_dir_all(&work);
    let outcome = fetch(&work, origin).and_then(|unpacked| {
        let kernel = kept(&unpacked.join("boot")).context("the package holds no kernel in /boot")?;
        let place = directory.join(format!("{KERNEL}{}", kernel.version));
        fs::rename(&kernel.image, &place).with_context(|| format!("cannot write {}", place.display()))?;
        kept(&directory).context("the kernel is gone again")
    });
    // Lists and modules: a hundred megabytes that nobody needs any more.
    let _ = fs::remove_dir_all(&work);
    outcome
}

/// The newest kernel in `directory`.
fn kept(directory: &Path) -> Option<Kernel> {
    let entries = fs::read_dir(directory).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let versions = names.filter_map(|name| Some(name.strip_prefix(KERNEL)?.to_owned()));
    let version = versions.max_by_key(|version| numbers(version))?;
    Some(Kernel {
        image: directory.join(format!("{KERNEL}{version}")),
        version,
        excuse: None,
    })
}

/// The numbers in a version, for comparison.
fn numbers(version: &str) -> Vec<u64> {
    let parts = version.split(|letter: char| !letter.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

/// Fetches and unpacks a kernel's package below `work`; returns where it is unpacked.
fn fetch(work: &Path, origin: Origin) -> Result<PathBuf> {
    for program in ["apt-get", "apt-cache", "dpkg-deb"] {
        if find(program).is_none() {
            bail!("this host has no {program}; packages are fetched with Debian's own tools");
        }
    }
    let apt = Apt::new(work, origin)?;
    apt.run("apt-get", &["update", "-q"])?;
    let package = apt.newest()?;
    apt.run("apt-get", &["download", "-q", &package])?;
    let archive = fs::read_dir(work)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get download left no package {package}"))?;
    let unpacked = work.join("unpacked");
    let mut dpkg = command("dpkg-deb");
    dpkg.arg("-x").arg(&archive).arg(&unpacked);
    show(&dpkg);
    read(&mut dpkg)?;
    Ok(unpacked)
}

/// apt with a state of its own: told by a configuration file, so that what is shown can be read and repeated.
struct Apt {
    work: PathBuf,
}

impl Apt {
    fn new(work: &Path, origin: Origin) -> Result<Apt> {
        for directory in ["lists/partial", "cache/archives/partial", "state"] {
            let path = work.join(directory);
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        // It knows of no installed packages: so none can be in the way.
        fs::write(work.join("status"), "")?;
        let at = |name: &str| work.join(name).display().to_string();
        let mut options = vec![
            ("Dir::State", at("state")),
            ("Dir::State::Lists", at("lists")),
            ("Dir::State::status", at("status")),
            ("Dir::Cache", at("cache")),
            ("APT::Architecture", "amd64".into()),
            // Started by root, apt would change to a user that may not write here.
            ("APT::Sandbox::User", "root".into()),
            // A list that did not come is an error, not a warning.
            ("APT::Update::Error-Mode", "any".into()),
            ("Acquire::Languages", "none".into()),
            ("Acquire::Retries", "1".into()),
            ("Acquire::http::Timeout", "20".into()),
        ];
        if origin == Origin::Debian13 {
            let keyring = KEYRINGS
                .into_iter()
                .find(|path| Path::new(path).exists())
                .with_context(|| {
                    format!("no {}: the package debian-archive-keyring brings it", KEYRINGS[0])
                })?;
            let text = sources::private(&sources::mirror(&host_sources()), keyring);
            fs::write(work.join("private.sources"), text)?;
            options.push(("Dir::Etc::SourceList", at("private.sources")));
            options.push(("Dir::Etc::SourceParts", "/dev/null".into()));
        }
        let lines = options
            .iter()
            .map(|(name, value)| format!("{name} \"{value}\";\n"));
        fs::write(work.join("apt.conf"), lines.collect::<String>())?;
        Ok(Apt { work: work.into() })
    }

    /// Shows and runs one of apt's programs in the directory.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut apt = command(program);
        apt.args(arguments)
            .env("APT_CONFIG", self.work.join("apt.conf"))
            .current_dir(&self.work);
        show(&apt);
        read(&mut apt)
    }

    /// The newest kernel's package, of all versions of all metapackages: a release's own kernel may be older than the one that it
    /// also has for newer machines.
    fn newest(&self) -> Result<String> {
        let listed: String = METAPACKAGES
            .into_iter()
            // apt may take offence at a name that it does not know.
            .filter_map(|name| self.run("apt-cache", &["madison", name]).ok())
            .collect();
        let (metapackage, version) = newest_in(&listed)
            .with_context(|| format!("the sources have none of {}", METAPACKAGES.join(", ")))?;
        let shown = self.run("apt-cache", &["show", &format!("{metapackage}={version}")])?;
        image_in(&shown).with_context(|| format!("{metapackage} {version} depends on no kernel"))
    }
}

/// The metapackage of the greatest version, and that version, among `listed`, the output of `apt-cache madison`.
fn newest_in(listed: &str) -> Option<(&str, &str)> {
    let mut newest: Option<(&str, &str)> = None;
    for line in listed.lines() {
        let mut fields = line.split('|').map(str::trim);
        let (Some(name), Some(version)) = (fields.next(), fields.next()) else {
            continue;
        };
        if METAPACKAGES.contains(&name) && newest.is_none_or(|(_, other)| numbers(version) > numbers(other)) {
            newest = Some((name, version));
        }
    }
    newest
}

/// The kernel's package that a metapackage depends on, in `shown`, the output of `apt-cache show`.
fn image_in(shown: &str) -> Option<String> {
    let lists = shown.lines().filter_map(|line| line.strip_prefix("Depends:"));
    let names = lists
        .flat_map(|list| list.split(','))
        .filter_map(|dependency| dependency.split_whitespace().next());
    let mut images = names.filter(|name| {
        name.starts_with("linux-image-") && name.contains(|letter: char| letter.is_ascii_digit())
    });
    images.next().map(String::from)
}

/// Names and contents of the host's own lists of sources.
fn host_sources() -> Vec<(String, String)> {
    let mut paths = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut more: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        more.sort();
        // Only what apt itself would read.
        more.retain(|path| {
            let extension = path.extension();
            extension.is_some_and(|extension| extension == "list" || extension == "sources")
        });
        paths.extend(more);
    }
    let text = |path: PathBuf| Some((path.display().to_string(), fs::read_to_string(path).ok()?));
    paths.into_iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_package_is_found_behind_the_metapackage() {
        let shown = "Package: linux-image-cloud-amd64\nVersion: 6.12.117-1\n\
            Depends: linux-image-6.12.117+deb13-cloud-amd64 (= 6.12.117-1)\nSuggests: linux-image-1\n";
        assert_eq!(image_in(shown).unwrap(), "linux-image-6.12.117+deb13-cloud-amd64");
        let ubuntu =
            "Depends: linux-firmware, linux-image-6.8.0-45-generic, linux-modules-extra-6.8.0-45-generic\n";
        assert_eq!(image_in(ubuntu).unwrap(), "linux-image-6.8.0-45-generic");
        assert_eq!(image_in("Depends: linux-firmware\n"), None);
        assert_eq!(image_in(""), None);
    }

    #[test]
    fn the_newest_of_all_metapackages_counts() {
        let listed = "linux-image-cloud-amd64 | 6.1.170-3 | http://near.example/debian bookworm/main amd64 Packages\n\
            linux-image-amd64 | 6.12.9-1~bpo12+1 | http://near.example/debian bookworm-backports/main amd64 Packages\n\
            linux-image-amd64 |  6.1.170-3 | http://near.example/debian bookworm/main amd64 Packages\n\
            linux-image-other | 7.0-1 | http://near.example/debian bookworm/main amd64 Packages\n";
        assert_eq!(newest_in(listed), Some(("linux-image-amd64", "6.12.9-1~bpo12+1")));
        let as_new = "linux-image-cloud-amd64 | 6.12.117-1 | x\nlinux-image-amd64 | 6.12.117-1 | x\n";
        assert_eq!(newest_in(as_new), Some(("linux-image-cloud-amd64", "6.12.117-1")));
        assert_eq!(
            newest_in("N: Unable to locate package linux-image-virtual\n"),
            None
        );
    }

    #[test]
    fn the_newest_kept_kernel_counts() {
        let directory = std::env::temp_dir().join(format!("hotspare-kernels-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        assert_eq!(kept(&directory), None);
        for name in [
            "vmlinuz-6.9.1-cloud",
            "vmlinuz-6.12.2-cloud",
            "config-7.0",
            "vmlinuz-6.12.1-cloud",
        ] {
            fs::write(directory.join(name), "").unwrap();
        }
        let kernel = kept(&directory).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(kernel.version, "6.12.2-cloud");
        assert!(kernel.image.ends_with("vmlinuz-6.12.2-cloud"));
        assert_eq!(kept(&directory), None);
    }
}
