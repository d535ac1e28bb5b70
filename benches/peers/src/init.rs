//! The first process of a guest: what a machine needs before anything can be measured, and its end.
//!
//! There is no other process, no disk, no network: nothing but the kernel disturbs.

use std::fs::{File, create_dir_all};

use anyhow::{Context, Result};
use hs_core::event::Event;
use hs_core::platform::Exit;

use crate::channel::Channel;
use crate::sys::machine::{drain, end, make_raw, mount};
use crate::words::Words;

/// Where xtask puts QEMU's `isa-debug-exit`.
const EXIT_PORT: u16 = 0xf4;
const EVENTS: &str = "/dev/ttyS1";
const LOG: &str = "/dev/console";
/// Words for the kernel's unpacking stage. The kernel proper does not know them, and so hands them on to its init.
const NOT_FOR_US: [&str; 2] = ["nokaslr", "no5lvl"];

/// Sets the machine up, runs `with` what the words ask for, and ends the machine.
pub(crate) fn run(words: Vec<String>, with: impl FnOnce(&mut Channel, &Words) -> Result<()>) -> ! {
    let file_systems = mount_all();
    std::panic::set_hook(Box::new(|info| finish(&info.to_string(), Exit::Panic)));
    let mut channel = match open() {
        Ok(channel) => channel,
        // Nobody can be told. The host sees how it ended.
        Err(_) => end(EXIT_PORT, Exit::Refused as u8),
    };
    if let Err(error) = file_systems {
        channel.log(&format!("{error:#}"));
    }
    // More map entries than a desktop needs: mprotect splits the map at each run of modified pages.
    set(&mut channel, "/proc/sys/vm/max_map_count", "1048576");
    // A fork of half the memory is no mistake here.
    set(&mut channel, "/proc/sys/vm/overcommit_memory", "1");
    // The kernel logs each fault of its init that becomes a signal, even one that is handled: on a serial line, while we
    // measure it.
    set(&mut channel, "/proc/sys/debug/exception-trace", "0");
    let ours = words
        .into_iter()
        .filter(|word| !NOT_FOR_US.contains(&word.as_str()));
    let words = match Words::parse(ours) {
        Ok(words) => words,
        Err(error) => {
            // The event says the rest.
            let _ = channel.say(&Event::Refused {
                what: "options".into(),
                why: error.to_string(),
            });
            finish(&error.to_string(), Exit::BadOptions);
        }
    };
    match with(&mut channel, &words) {
        Ok(()) => finish("done", Exit::Success),
        Err(error) => finish(&format!("{error:#}"), Exit::Refused),
    }
}

fn mount_all() -> Result<()> {
    for (kind, on) in [(c"devtmpfs", c"/dev"), (c"proc", c"/proc"), (c"sysfs", c"/sys")] {
        let name = on.to_string_lossy();
        create_dir_all(&*name).with_context(|| format!("cannot make {name}"))?;
        match mount(kind, on) {
            Err(error) if error.raw_os_error() != Some(libc::EBUSY) => {
                return Err(error).with_context(|| format!("cannot mount {name}"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn open() -> Result<Channel> {
    let open = |name: &'static str| File::options().read(true).write(true).open(name).context(name);
    let events = open(EVENTS)?;
    make_raw(&events).context(EVENTS)?;
    Ok(Channel::line(events, open(LOG)?))
}

fn set(channel: &mut Channel, name: &str, value: &str) {
    if let Err(error) = std::fs::write(name, value) {
        channel.log(&format!("cannot set {name} to {value}: {error}"));
    }
}

/// Says why, and ends the machine.
fn finish(why: &str, exit: Exit) -> ! {
    if let Ok(mut channel) = open() {
        channel.log(&format!("ends: {why}"));
        // The machine ends in any case, and the host sees how.
        let _ = channel.say(&Event::Exit { why: why.into() });
    }
    for line in [EVENTS, LOG] {
        if let Ok(line) = File::open(line) {
            // As before.
            let _ = drain(&line);
        }
    }
    end(EXIT_PORT, exit as u8)
}
