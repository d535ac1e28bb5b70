//! What the host must have: programs, user namespaces, taps.
//!
//! Missing programs are installed where that needs no question (root, or `sudo` without a password);
//! otherwise the one command is said. Taps and namespaces are tried for real, and explained when refused.

use std::fs;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::command::{self, command, find, run};

/// What the host is needed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To run a pair.
    Run,
    /// To run all tests.
    Test,
    /// To run the benchmark.
    Bench,
}

/// A thing that must be there, and the Debian package that brings it.
struct Need {
    /// How to tell that it is there.
    present: fn() -> bool,
    package: &'static str,
}

const RUN_NEEDS: &[Need] = &[
    Need {
        present: || find("qemu-system-x86_64").is_some(),
        package: "qemu-system-x86",
    },
    Need {
        present: || find("ip").is_some(),
        package: "iproute2",
    },
    Need {
        present: || find("unshare").is_some() && find("nsenter").is_some(),
        package: "util-linux",
    },
    // For SQLite; Rust links with it too.
    Need {
        present: || find("cc").is_some(),
        package: "gcc",
    },
];

const TEST_NEEDS: &[Need] = &[
    Need {
        present: || find("redis-benchmark").is_some() && find("redis-cli").is_some(),
        package: "redis-tools",
    },
    Need {
        present: redis_for_python,
        package: "python3-redis",
    },
];

const BENCH_NEEDS: &[Need] = &[Need {
    // A part of it that some distributions leave out.
    present: || find("tc").is_some(),
    package: "iproute2",
}];

/// The Python of the distribution, which has the distribution's packages.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

fn redis_for_python() -> bool {
    succeeds(Command::new(PYTHON).args(["-c", "import redis"]))
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Checks the host and installs what is missing where it can.
///
/// # Errors
/// Something is missing; the message holds the command that mends it.
pub(crate) fn check(purpose: Purpose) -> Result<()> {
    let missing = |needs: &[Need]| -> Vec<&'static str> {
        needs
            .iter()
            .filter(|need| !(need.present)())
            .map(|need| need.package)
            .collect()
    };
    let wanted = || {
        let mut packages = missing(RUN_NEEDS);
        packages.extend(match purpose {
            Purpose::Run => Vec::new(),
            Purpose::Test => missing(TEST_NEEDS),
            Purpose::Bench => missing(BENCH_NEEDS),
        });
        packages.dedup();
        packages
    };
    let packages = wanted();
    if !packages.is_empty() {
        install(&packages)?;
        let still = wanted();
        if !still.is_empty() {
            bail!("installed, but not to be found: {}", still.join(" "));
        }
    }
    check_namespace()
}

/// Installs Debian packages.
fn install(packages: &[&str]) -> Result<()> {
    let by_hand = format!(
        "apt-get install --yes --no-install-recommends {}",
        packages.join(" ")
    );
    if find("apt-get").is_none() {
        bail!(
            "missing on this host: the equivalents of Debian's {}. Install them and try again.",
            packages.join(", ")
        );
    }
    let sudo: &[&str] = if rustix::process::geteuid().is_root() {
        &[]
    } else if succeeds(command("sudo").args(["-n", "true"])) {
        &["sudo", "-n"]
    } else {
        bail!(
            "missing on this host: {}. This installs it:\n    sudo {by_hand}",
            packages.join(", ")
        );
    };
    let apt = |arguments: &[&str]| {
        let all: Vec<&str> = sudo
            .iter()
            .copied()
            .chain(["apt-get"])
            .chain(arguments.iter().copied())
            .collect();
        let mut apt = command(all[0]);
        apt.args(&all[1..])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        apt
    };
    eprintln!("missing on this host, installing: {}", packages.join(", "));
    // A stale list of packages names versions that are gone. Without a network the old list may still do.
    if let Err(error) = run(&mut apt(&["update", "-q"])) {
        eprintln!("warning: {error:#}");
    }
    let mut arguments = vec!["install", "-q", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    run(&mut apt(&arguments)).map_err(|error| error.context(format!("by hand: {by_hand}")))
}

/// Tries what a pair needs of the kernel: a user namespace with a tap in it.
fn check_namespace() -> Result<()> {
    const UNSHARE: [&str; 5] = ["--user", "--map-root-user", "--net", "--pid", "--fork"];
    if command::read(command("unshare").args(UNSHARE).arg("true")).is_err() {
        bail!("{}", explain_namespace(|path| fs::read_to_string(path).ok()));
    }
    let ip = find("ip").unwrap_or_else(|| "ip".into());
    let tap = command::read(
        command("unshare")
            .args(UNSHARE)
            .arg(ip)
            .args(["tuntap", "add", "dev", "probe", "mode", "tap"]),
    );
    if let Err(error) = tap {
        let device = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
        bail!(
            "{}",
            explain_tap(device.err().map(|error| error.kind()), &error.to_string())
        );
    }
    Ok(())
}

/// Why user namespaces may be refused, and the command that allows them. `read` gives a file's contents.
fn explain_namespace(read: impl Fn(&str) -> Option<String>) -> String {
    let switches = [
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("user.max_user_namespaces", "0", "15000"),
        ("user.max_net_namespaces", "0", "15000"),
        ("user.max_pid_namespaces", "0", "15000"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ];
    let found = switches.iter().find(|(name, forbids, _)| {
        read(&format!("/proc/sys/{}", name.replace('.', "/"))).is_some_and(|value| value.trim() == *forbids)
    });
    match found {
        Some((name, forbids, allows)) => format!(
            "this host forbids user namespaces to this user ({name} is {forbids}). This allows them:\n    sudo sysctl -w {name}={allows}"
        ),
        None => "this host forbids user namespaces to this user, and none of the usual switches says why. A chroot never allows them; in a container, \
                 allow it the unshare system call (Docker: --security-opt seccomp=unconfined --security-opt systempaths=unconfined)"
            .into(),
    }
}

/// Why taps may be refused, and the command that allows them. `device` is what opening it gave.
fn explain_tap(device: Option<ErrorKind>, error: &str) -> String {
    match device {
        Some(ErrorKind::NotFound) => {
            "this host has no /dev/net/tun, which a pair's network needs. This brings it:\n    sudo modprobe tun".into()
        }
        Some(ErrorKind::PermissionDenied) => "this host forbids taps to this user: /dev/net/tun cannot be opened. This allows them until \
             the next boot:\n    sudo chmod 0666 /dev/net/tun"
            .into(),
        _ => format!("this host makes no tap in a user namespace: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_namespace_names_the_switch_and_the_command() {
        for (file, value, command) in [
            (
                "/proc/sys/kernel/unprivileged_userns_clone",
                "0\n",
                "sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            (
                "/proc/sys/user/max_user_namespaces",
                "0\n",
                "sysctl -w user.max_user_namespaces=15000",
            ),
            (
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "1\n",
                "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            ),
        ] {
            let said = explain_namespace(|path| (path == file).then(|| value.to_owned()));
            assert!(said.contains(command), "{said}");
        }
        assert!(explain_namespace(|_| None).contains("container"));
    }

    #[test]
    fn a_forbidden_tap_names_the_command() {
        assert!(explain_tap(Some(ErrorKind::PermissionDenied), "").contains("chmod 0666 /dev/net/tun"));
        assert!(explain_tap(Some(ErrorKind::NotFound), "").contains("modprobe tun"));
        assert!(explain_tap(None, "the reason").contains("the reason"));
    }
}
