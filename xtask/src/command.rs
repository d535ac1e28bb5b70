//! External commands: shown before they run, so that a person can repeat each by hand.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};

/// This very program, also when a build has put another in its file's place meanwhile.
pub(crate) const OURSELVES: &str = "/proc/self/exe";

/// The directory of the whole project.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the project's directory")
}

/// Where `program` lies: on the search path, or where Debian keeps what it counts as root's.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// A command for `program`, wherever it lies.
pub(crate) fn command(program: &str) -> Command {
    Command::new(find(program).unwrap_or_else(|| program.into()))
}

/// The cargo that started us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// `command` as a person would type it, with the environment that it is given.
pub(crate) fn words(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| {
        let value = value?.to_string_lossy();
        // Cargo separates encoded flags by a control character, which bash writes like this.
        Some(if value.contains('\x1f') {
            format!("{}=$'{}'", name.to_string_lossy(), value.replace('\x1f', "\\x1f"))
        } else {
            format!("{}={}", name.to_string_lossy(), quoted(OsStr::new(&*value)))
        })
    });
    set.chain([bare_words(command)]).collect::<Vec<_>>().join(" ")
}

/// `command` without its environment: enough to name one that was shown before.
pub(crate) fn bare_words(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = match program.file_name() {
        _ if program == Path::new(OURSELVES) => OsStr::new("xtask"),
        Some(name) => name,
        None => program.as_os_str(),
    };
    std::iter::once(program)
        .chain(command.get_args())
        .map(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+.,:/@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

static SHOWN_ENOUGH: AtomicBool = AtomicBool::new(false);

/// From here on commands are not shown any more: they are like those that were, many times over.
pub(crate) fn show_no_more() {
    SHOWN_ENOUGH.store(true, Ordering::Relaxed);
}

/// Prints `command` on standard error.
pub(crate) fn show(command: &Command) {
    if SHOWN_ENOUGH.load(Ordering::Relaxed) {
        return;
    }
    if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        eprintln!("\x1b[2m$ {}\x1b[0m", words(command));
    } else {
        eprintln!("$ {}", words(command));
    }
}

/// Shows and runs `command`, its output where ours goes.
///
/// # Errors
/// It cannot be started, or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    show(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", bare_words(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", bare_words(command));
    }
    Ok(())
}

/// Runs `command` and returns what it wrote on standard output. Not shown: it only looks.
///
/// # Errors
/// It cannot be started, or fails; the message holds what it wrote on standard error.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", bare_words(command)))?;
    if !output.status.success() {
        bail!(
            "{} failed: {}\n{}",
            bare_words(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_command_can_be_pasted_into_a_shell() {
        let mut command = Command::new("/usr/bin/printf");
        command
            .args(["%s|", "plain", "two words", "it's", ""])
            .env("FLAGS", "-C\x1fa b");
        assert_eq!(
            words(&command),
            r"FLAGS=$'-C\x1fa b' printf %s| plain 'two words' 'it'\''s' ''".replace("%s|", "'%s|'")
        );
        let pasted = Command::new("bash")
            .args(["-c", &words(&command)])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(pasted.stdout).unwrap(),
            "plain|two words|it's||"
        );
    }

    #[test]
    fn a_failing_command_says_what_it_wrote() {
        let error = read(Command::new("sh").args(["-c", "echo because >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("because") && error.contains('3'), "{error}");
    }
}
