//! What a guest is made of, and QEMU's command line for it.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use crate::accel::Accelerator;
use crate::command::command;
use crate::profile::Machine;

/// Where a card is plugged in.
#[derive(Clone)]
pub(crate) enum Plug {
    /// A tap of this name.
    Tap(String),
    /// Frames as datagrams, from the first address to the second: a wire that a test holds in its hands.
    Wire(SocketAddr, SocketAddr),
}

/// One network card.
#[derive(Clone)]
pub(crate) struct Card {
    pub(crate) link: &'static str,
    pub(crate) slot: u8,
    pub(crate) mac: String,
    /// What its link carries at most, if that is not Ethernet's 1500: see `mtu` in `qemu/pair.toml`.
    pub(crate) mtu: Option<u16>,
    pub(crate) plug: Plug,
}

/// What the image is, and so how the machine starts it.
#[derive(Clone)]
pub(crate) enum Boot {
    /// One of our guests.
    Hotspare,
    /// A Linux kernel, with this initial file system. It is started by QEMU's usual firmware: its loader lies in an option
    /// ROM, which qboot does not run.
    Linux { initrd: PathBuf },
}

/// What to start.
#[derive(Clone)]
pub(crate) struct Recipe {
    pub(crate) name: String,
    pub(crate) image: PathBuf,
    pub(crate) boot: Boot,
    /// Another processor than the machine's.
    pub(crate) cpu: Option<&'static str>,
    pub(crate) command_line: String,
    pub(crate) memory_mib: u32,
    pub(crate) accelerator: Accelerator,
    pub(crate) cards: Vec<Card>,
    /// Its disk, if it has one: an open file, see [`crate::disk`].
    pub(crate) disk: Option<Arc<File>>,
    /// What its real-time clock shows at its start, in seconds since 1970. A guest reads it once, and in whole
    /// seconds: the nodes of a pair begin from the same one, so that their clocks agree better than that.
    pub(crate) clock_s: u64,
    /// Whether it has a console: a terminal that we hold.
    pub(crate) console: bool,
    /// Whether to print the guest's log while it runs.
    pub(crate) print_log: bool,
}

/// QEMU's command line for `recipe`, without its console; its disk is the open file `disk`.
pub(super) fn command_for(machine: &Machine, recipe: &Recipe, disk: Option<RawFd>) -> Command {
    let mut qemu = command(&machine.program);
    qemu.args([
        "-name",
        &recipe.name,
        "-machine",
        &machine.machine,
        "-accel",
        recipe.accelerator.name(),
    ]);
    qemu.args([
        "-cpu",
        recipe.cpu.unwrap_or(&machine.cpu),
        "-m",
        &format!("{}M", recipe.memory_mib),
    ]);
    qemu.args(&machine.arguments);
    qemu.args([
        "-chardev",
        "file,id=log,path=/dev/stderr",
        "-serial",
        "chardev:log",
    ]);
    qemu.args([
        "-chardev",
        "file,id=events,path=/dev/stdout",
        "-serial",
        "chardev:events",
    ]);
    qemu.args([
        "-chardev",
        "socket,id=qmp,fd=0",
        "-mon",
        "chardev=qmp,mode=control",
    ]);
    qemu.args(["-device", &machine.exit_device]);
    qemu.args(["-rtc", &format!("base={},clock=vm", date_time(recipe.clock_s))]);
    for Card {
        link,
        slot,
        mac,
        mtu,
        plug,
    } in &recipe.cards
    {
        let mtu = mtu.map(|mtu| format!(",host_mtu={mtu}")).unwrap_or_default();
        let plug = match plug {
            Plug::Tap(name) => format!("tap,id={link},ifname={name},script=no,downscript=no"),
            Plug::Wire(from, to) => format!(
                "dgram,id={link},local.type=inet,local.host={},local.port={},remote.type=inet,remote.host={},remote.port={}",
                from.ip(),
                from.port(),
                to.ip(),
                to.port()
            ),
        };
        qemu.args([
            "-netdev",
            &plug,
            "-device",
            &format!(
                "{},netdev={link},mac={mac}{mtu},bus=pcie.0,addr={slot:#x}",
                machine.nic
            ),
        ]);
    }
    if let Some(disk) = disk {
        qemu.args([
            "-drive",
            &format!("id=disk,file=/proc/self/fd/{disk},{}", machine.drive),
            "-device",
            &format!(
                "{},drive=disk,bus=pcie.0,addr={:#x}",
                machine.disk, machine.slots.disk
            ),
        ]);
    }
    let initrd = match &recipe.boot {
        Boot::Hotspare => {
            qemu.args(["-bios", &machine.bios]);
            // The image again as a module: its symbols, which name what a backtrace lists, are not part of what is loaded.
            &recipe.image
        }
        Boot::Linux { initrd } => initrd,
    };
    qemu.arg("-kernel")
        .arg(&recipe.image)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", &recipe.command_line]);
    qemu
}

/// The time of this moment, in seconds since 1970.
pub(crate) fn clock_s() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_secs())
}

/// Seconds since 1970 as QEMU takes them: date and time, UTC.
pub(crate) fn date_time(clock_s: u64) -> String {
    let (day, second) = (clock_s / 86_400, clock_s % 86_400);
    // Days are counted from 1 March 0000, where a year ends with its leap day (H. Hinnant, days_from_civil).
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::words;
    use crate::profile::Plan;

    #[test]
    fn a_guests_clock_is_set_as_dates_are_counted() {
        for (clock_s, date) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(date_time(clock_s), date);
        }
    }

    #[test]
    fn the_service_card_comes_first_on_the_bus() {
        let machine = Plan::load().unwrap().machine().unwrap();
        let card = |link, slot, plug| Card {
            link,
            slot,
            mac: "52:54:00:00:00:01".into(),
            mtu: (link == "cluster").then_some(9000),
            plug,
        };
        let recipe = Recipe {
            name: "a".into(),
            image: "image".into(),
            boot: Boot::Hotspare,
            cpu: None,
            command_line: "hs.role=master".into(),
            memory_mib: 256,
            accelerator: Accelerator::Tcg,
            cards: vec![
                card("service", machine.slots.service, Plug::Tap("a-service".into())),
                card(
                    "cluster",
                    machine.slots.cluster,
                    Plug::Wire(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into()),
                ),
            ],
            disk: None,
            clock_s: 0,
            console: false,
            print_log: false,
        };
        let words = words(&command_for(&machine, &recipe, Some(7)));
        for part in [
            "tap,id=service,ifname=a-service",
            "netdev=service,mac=52:54:00:00:00:01,bus=pcie.0,addr=0x2",
            "netdev=cluster,mac=52:54:00:00:00:01,host_mtu=9000,bus=pcie.0,addr=0x3",
            "event_idx=off",
            "file=/proc/self/fd/7,if=none,format=raw,cache=writeback,file.locking=off",
            "share-rw=on,drive=disk,bus=pcie.0,addr=0x4",
            "-append hs.role=master",
            "-cpu max -m 256M",
            "-bios qboot.rom -kernel image -initrd image",
        ] {
            assert!(words.contains(part), "{part} in {words}");
        }
    }

    #[test]
    fn linux_has_the_usual_firmware_and_its_own_file_system() {
        let machine = Plan::load().unwrap().machine().unwrap();
        let recipe = Recipe {
            name: "linux".into(),
            image: "vmlinuz".into(),
            boot: Boot::Linux {
                initrd: "init.cpio".into(),
            },
            cpu: Some("max,-erms"),
            command_line: "console=ttyS0 -- quick".into(),
            memory_mib: 2800,
            accelerator: Accelerator::Tcg,
            cards: Vec::new(),
            disk: None,
            clock_s: 0,
            console: false,
            print_log: false,
        };
        let words = words(&command_for(&machine, &recipe, None));
        assert!(words.contains("-cpu max,-erms -m 2800M"), "{words}");
        assert!(
            words.contains("-kernel vmlinuz -initrd init.cpio -append 'console=ttyS0 -- quick'"),
            "{words}"
        );
        assert!(!words.contains("-bios"), "{words}");
    }
}
