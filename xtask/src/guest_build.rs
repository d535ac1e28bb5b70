//! Builds guest images: freestanding binaries of the host triple on stable Rust.
//!
//! The flags go by environment and not by `.cargo/config.toml`, where they would reach the host's tools
//! too. An explicit `--target` keeps them from build scripts and procedural macros.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{cargo, read, root, run};

/// The triple that guests are built for; freestanding all the same.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Crates that expect what a guest does not have: an operating system, or (`cpufeatures`) threads whose vector registers
/// are saved, which AVX found at run time relies on.
const FORBIDDEN: [&str; 3] = ["libc", "getrandom", "cpufeatures"];

/// All guests there are.
pub(crate) const GUESTS: [&str; 9] = [
    "kv",
    "sqlite",
    "streams",
    "tetris",
    "visitors",
    "ktest",
    "bench",
    "descriptors",
    "gated",
];

/// How C is compiled for a guest (SQLite is): freestanding, as Rust is, and with its variables as large data, which the kernel's
/// linker script puts into the checkpoint window.
const C_FLAGS: &str = "-O2 -ffreestanding -fno-pic -fno-pie -mno-red-zone -fno-stack-protector -U_FORTIFY_SOURCE \
    -fno-asynchronous-unwind-tables -Dfabs=__builtin_fabs -mcmodel=medium -mlarge-data-threshold=0";

/// Which of the two images of an application.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// The one.
    Usual,
    /// The same code with one symbol more: another build to the pair, for tests.
    Other,
}

fn target_directory() -> PathBuf {
    root().join("target/guest")
}

/// A cargo command with the flags of a guest in its environment.
pub(crate) fn guest_cargo(subcommand: &str) -> Command {
    let script = root().join("kernel/link.ld");
    let mut flags: Vec<String> = ["-C", "relocation-model=static", "-C", "force-frame-pointers=yes"]
        .map(String::from)
        .into();
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--gc-sections",
        "-Wl,--build-id=sha1",
    ] {
        flags.extend(["-C".into(), format!("link-arg={argument}")]);
    }
    flags.extend(["-C".into(), format!("link-arg=-T{}", script.display())]);
    // The same sources give the same image, wherever they lie.
    flags.extend([
        "--remap-path-prefix".into(),
        format!("{}=hotspare", root().display()),
    ]);
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    if let Some(home) = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"))) {
        flags.extend(["--remap-path-prefix".into(), format!("{}=cargo", home.display())]);
    }
    let mut command = cargo();
    command
        .arg(subcommand)
        .args(["--profile", "guest", "--target", TARGET, "--target-dir"])
        .arg(target_directory());
    command
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env(format!("CFLAGS_{}", TARGET.replace('-', "_")), C_FLAGS)
        .env_remove("RUSTFLAGS");
    command
}

/// The command that builds the guest `app`.
pub(crate) fn build_command(app: &str, variant: Variant) -> Command {
    match variant {
        Variant::Usual => {
            let mut command = guest_cargo("build");
            command.args(["-p", app, "--features", "guest"]);
            command
        }
        Variant::Other => {
            let mut command = guest_cargo("rustc");
            command.args([
                "-p",
                app,
                "--features",
                "guest",
                "--bin",
                app,
                "--",
                "-C",
                "link-arg=-Wl,--defsym=other_build=1",
            ]);
            command
        }
    }
}

/// Where the build leaves the image of `app`. The other variant is copied aside by [`keep_other`].
pub(crate) fn image(app: &str, variant: Variant) -> PathBuf {
    let built = target_directory().join(TARGET).join("guest").join(app);
    match variant {
        Variant::Usual => built,
        Variant::Other => built.with_extension("other"),
    }
}

/// Sets a freshly built [`Variant::Other`] aside: the next usual build takes its place.
///
/// # Errors
/// The file cannot be copied.
pub(crate) fn keep_other(app: &str) -> Result<()> {
    let (built, aside) = (image(app, Variant::Usual), image(app, Variant::Other));
    std::fs::copy(&built, &aside)
        .with_context(|| format!("cannot copy {} to {}", built.display(), aside.display()))?;
    Ok(())
}

/// Builds the guest `app` and returns its image.
///
/// # Errors
/// There is no such guest, or the build fails.
pub(crate) fn build(app: &str) -> Result<PathBuf> {
    if !Path::new(root())
        .join("guest-apps")
        .join(app)
        .join("Cargo.toml")
        .exists()
    {
        bail!("there is no application {app}; there are: {}", GUESTS.join(", "));
    }
    run(&mut build_command(app, Variant::Usual))?;
    let image = image(app, Variant::Usual);
    // The namespace may see another directory tree than the one that a relative path means.
    std::fs::canonicalize(&image).with_context(|| format!("the build left no {}", image.display()))
}

/// The command that lists what a guest is made of, or with `culprit` who wants that crate.
fn tree(app: &str, culprit: Option<&str>) -> Command {
    let mut command = cargo();
    command.args([
        "tree",
        "-p",
        app,
        "--features",
        "guest",
        "--target",
        TARGET,
        "-e",
        "normal,no-proc-macro",
    ]);
    match culprit {
        Some(name) => command.args(["--invert", name]),
        None => command.args(["--prefix", "none", "--format", "{p}"]),
    };
    command
}

/// Checks that no crate of the guest `app` expects an operating system.
///
/// # Errors
/// One does: the message says which, and who asked for it.
pub(crate) fn check_dependencies(app: &str) -> Result<()> {
    let listed = read(&mut tree(app, None))?;
    if let Some(culprit) = forbidden(&listed).first() {
        bail!(
            "the guest {app} must not depend on {culprit}, but does:\n{}",
            read(&mut tree(app, Some(culprit)))?
        );
    }
    Ok(())
}

/// The forbidden crates among `listed`, the output of `cargo tree --prefix none`.
fn forbidden(listed: &str) -> Vec<&'static str> {
    let names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    FORBIDDEN
        .into_iter()
        .filter(|culprit| names.contains(culprit))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_finds_a_planted_culprit_and_nothing_else() {
        assert_eq!(
            forbidden("kv v0.1.0 (/x)\nsmoltcp v0.14.0\nlibcrux v1.0.0\n"),
            Vec::<&str>::new()
        );
        assert_eq!(forbidden("kv v0.1.0 (/x)\nlibc v0.2.1\nserde v1.0.0\n"), ["libc"]);
        assert_eq!(
            forbidden("getrandom v0.3.1\nlibc v0.2.1 (*)\n"),
            ["libc", "getrandom"]
        );
    }

    #[test]
    fn guest_flags_reach_only_the_target() {
        let command = build_command("kv", Variant::Usual);
        let arguments: Vec<_> = command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        assert!(
            arguments.windows(2).any(|pair| pair == ["--target", TARGET]),
            "{arguments:?}"
        );
        let flags = command
            .get_envs()
            .find(|(name, _)| *name == "CARGO_ENCODED_RUSTFLAGS")
            .unwrap()
            .1
            .unwrap();
        assert!(flags.to_string_lossy().contains("link-arg=-nostartfiles"));
    }
}
