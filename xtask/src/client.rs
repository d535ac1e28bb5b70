//! Runs a command inside the network of the running pair.
//!
//! Each pair listens on an abstract unix socket of the host's network namespace; the kernel tells whoever
//! connects which process listens there, and that process is inside. Entering its namespaces needs no rights
//! beyond being the user who made them. The command also joins the pair's process namespace: it ends with the pair.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with};

use crate::command::{command, show};

/// Options of `client`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which pair, by the number that `run-pair` printed; needed only when several run.
    #[arg(long, value_name = "NUMBER")]
    pair: Option<u32>,
    /// The command and its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<String>,
}

fn prefix() -> String {
    format!("hotspare-pair/{}/", rustix::process::getuid().as_raw())
}

fn unix_socket() -> Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

fn address(number: u32) -> Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(
        format!("{}{number}", prefix()).as_bytes(),
    )?)
}

/// The socket by which the pair of process `number` can be found. Its finder learns who calls `listen` on it.
///
/// # Errors
/// The name is taken.
pub(crate) fn findable_socket(number: u32) -> Result<OwnedFd> {
    let socket = unix_socket()?;
    bind(&socket, &address(number)?).context("cannot bind the socket that `client` looks for")?;
    Ok(socket)
}

/// The numbers of the running pairs of this user, from the kernel's table of unix sockets.
fn running(table: &str, prefix: &str) -> Vec<u32> {
    let names = table.lines().filter_map(|line| line.split_whitespace().nth(7));
    let mut numbers: Vec<u32> = names
        .filter_map(|name| name.strip_prefix('@')?.strip_prefix(prefix)?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Which of the running pairs is meant.
fn choose(running: &[u32], wanted: Option<u32>) -> Result<u32> {
    match (running, wanted) {
        (_, Some(number)) if running.contains(&number) => Ok(number),
        (_, Some(number)) => bail!("no pair {number} runs here"),
        ([], None) => bail!("no pair of this user runs here; start one with `cargo xtask run-pair`"),
        ([number], None) => Ok(*number),
        (several, None) => {
            let numbers: Vec<String> = several.iter().map(u32::to_string).collect();
            bail!(
                "several pairs run here; choose one with --pair NUMBER: {}",
                numbers.join(", ")
            )
        }
    }
}

/// Runs the command and passes on its exit status.
///
/// # Errors
/// No pair runs, or several do and none was chosen.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let table = std::fs::read_to_string("/proc/net/unix").context("cannot read /proc/net/unix")?;
    let number = choose(&running(&table, &prefix()), options.pair)?;
    let socket = unix_socket()?;
    connect(&socket, &address(number)?).context("the pair is just starting or ending")?;
    let process = socket_peercred(&socket)?.pid.as_raw_nonzero();
    let mut nsenter = command("nsenter");
    nsenter.args([
        "--preserve-credentials",
        "--user",
        "--net",
        "--pid",
        "--target",
        &process.to_string(),
        "--",
    ]);
    nsenter.args(&options.command);
    show(&nsenter);
    let status = nsenter.status().context("cannot start nsenter")?;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_socket_is_found_in_the_kernels_table() {
        let number = std::process::id();
        let socket = findable_socket(number).unwrap();
        let table = || std::fs::read_to_string("/proc/net/unix").unwrap();
        assert!(running(&table(), &prefix()).contains(&number));
        drop(socket);
        // A process that another test is starting just now has it too, until it becomes its program.
        let gone = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            !running(&table(), &prefix()).contains(&number)
        });
        assert!(gone);
    }

    #[test]
    fn only_one_pair_needs_no_number() {
        assert_eq!(choose(&[5], None).unwrap(), 5);
        assert_eq!(choose(&[5, 6], Some(6)).unwrap(), 6);
        assert!(choose(&[], None).unwrap_err().to_string().contains("run-pair"));
        assert!(choose(&[5, 6], None).unwrap_err().to_string().contains("5, 6"));
        assert!(choose(&[5, 6], Some(7)).unwrap_err().to_string().contains('7'));
    }
}
