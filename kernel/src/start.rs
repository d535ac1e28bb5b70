//! From the first Rust instruction to the application's `main`.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;

use hs_core::event::Event;
use hs_core::platform::{Exit, Files};
use spin::Once;

use crate::arch::{apic, fpu, gdt, idt, tsc};
use crate::boot::BootInfo;
use crate::files::DiskFiles;
use crate::mem::layout;
use crate::options::{Cptfork, Options};
use crate::{Guest, cpt, dev, entropy, mem, thread, time};

static GUEST: Once<Guest> = Once::new();

/// The machine.
///
/// # Panics
/// Before the application's `main` is called.
pub fn guest() -> &'static Guest {
    GUEST.get().expect("the guest exists once the kernel has booted")
}

/// Makes `main`, a `fn(&'static Guest) -> !`, the application of this image: the entry that the boot code calls, and the
/// language items that only a binary may have.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn boot_main(start_info: u64) -> ! {
            let main: fn(&'static $crate::Guest) -> ! = $main;
            // SAFETY: this is the boot code's only call, with what the loader left.
            unsafe { $crate::boot(start_info, main) }
        }

        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::panic::panic(info)
        }

        /// The precompiled core names it; nothing here unwinds.
        #[unsafe(no_mangle)]
        extern "C" fn rust_eh_personality() {}

        /// As `rust_eh_personality`.
        #[unsafe(no_mangle)]
        extern "C" fn _Unwind_Resume() -> ! {
            unreachable!("nothing here unwinds")
        }
    };
}

/// Boots the kernel and calls `main`.
///
/// # Safety
/// Called once, by the boot code, with the address of the loader's start information.
pub unsafe fn boot(start_info: u64, main: fn(&'static Guest) -> !) -> ! {
    tsc::start();
    gdt::init();
    idt::init();
    fpu::init();
    dev::serial::init();
    // SAFETY: the caller's promise.
    let info = unsafe { BootInfo::read(start_info) };
    let info = info.unwrap_or_else(|error| panic!("this is not a PVH boot: {error:?}"));
    // SAFETY: once, on the boot page tables.
    let memory_len = unsafe { mem::init(&info) };
    apic::init();
    thread::init();
    x86_64::instructions::interrupts::enable();
    if let Some(module) = &info.module {
        crate::panic::use_symbols(module.clone());
    }
    let options = Options::parse(info.command_line()).unwrap_or_else(|error| {
        log::error!("the command line was refused: {error}");
        dev::events::emit(&Event::Refused {
            what: "options".to_string(),
            why: error.to_string(),
        });
        dev::exit::exit(Exit::BadOptions)
    });
    log::set_max_level(options.log);
    entropy::init(options.seed);
    time::set_wall_clock(dev::rtc::read());
    cpt::choose_routines();
    hs_core::class::check_blocks(options.check_blocks);
    let children = options.pair.as_ref().map_or(cpt::CHILDREN_MAX, |pair| pair.ncon);
    if let Cptfork::Kernel(mode) = options.cptfork {
        cpt::set_mode(mode).unwrap_or_else(|error| panic!("at boot nothing is frozen: {error}"));
    }
    cpt::child::init(children)
        .unwrap_or_else(|error| panic!("no room for {children} checkpoint children: {error}"));
    let devices = dev::probe::probe();
    let files = devices
        .disk
        .map(|disk| -> &'static dyn Files { Box::leak(Box::new(DiskFiles::new(disk, time::wall_clock))) });
    let guest = GUEST.call_once(|| Guest::new(options, devices.nics, files));
    hs_core::sync::install(guest);
    hs_core::signal::start().unwrap_or_else(|error| panic!("no thread for signals: {error}"));
    dev::console::start();
    dev::power::start();
    dev::events::emit(&Event::Booted {
        build_id: layout::build_id()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        memory_mib: memory_len >> 20,
        boot_us: tsc::micros_since_boot(),
    });
    main(guest)
}
