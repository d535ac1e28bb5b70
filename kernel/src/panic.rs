//! The last words of a guest: what happened, where, and how it got there; then the end with a status of its
//! own.
//!
//! ```text
//! panic at guest-apps/ktest/src/main.rs:41:9: index out of bounds: the len is 3 but the index is 3
//!   thread worker, 1.204511 s after boot
//!   backtrace:
//!     0x00000000002041f3 ktest::pages::check+0x93
//! ```
//!
//! Whatever is broken by now, this must still work. So it takes no lock (the port's is broken if it is held),
//! needs no heap, and reads memory only after a look at the page tables. A panic in here ends the report
//! where it is.
//!
//! The backtrace follows frame pointers; guests are built with them. The precompiled core is not, and uses
//! the register as it likes: where the chain breaks in it, the report goes on with what looks like a return
//! address on the stack, marked with a question mark.

use core::fmt::{self, Write};
use core::ops::Range;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use hs_core::platform::Exit;
use spin::Once;
use x86_64::instructions::interrupts;
use x86_64::structures::paging::PageTableFlags;

use crate::arch::trap::TrapFrame;
use crate::dev::exit::exit;
use crate::dev::json;
use crate::dev::serial::{COM1, COM2, Port};
use crate::mem::{self, PhysAddress, layout, paging, stacks};
use crate::symbols::{self, Symbols};
use crate::{thread, time};

/// Most frames that are walked over: as many as a stack holds.
const FRAMES_MAX: usize = FRAME_LEN_MAX / 16;
/// Most places that are shown.
const SHOWN_MAX: usize = 40;
/// How far apart two frames can be, in bytes: no stack is longer.
const FRAME_LEN_MAX: usize = 2 << 20;
/// How much of a stack is looked through for return addresses when the chain has broken, in bytes.
const SCAN_LEN: usize = 4096;
/// Most addresses that such a look shows.
const GUESSES_MAX: usize = 16;

static IMAGE: Once<&'static [u8]> = Once::new();
/// Panics and exceptions so far: one within the report of another must not begin a third.
static PANICS: AtomicU32 = AtomicU32::new(0);
static TOLD: AtomicBool = AtomicBool::new(false);

/// Notes where the image's own ELF file lies, for the names in a backtrace: `module` are the physical
/// addresses of the loader's first module, which [`mem::init`] has kept out of the frame allocator's hands.
pub fn use_symbols(module: Range<PhysAddress>) {
    let len = usize::try_from(module.end.saturating_sub(module.start)).unwrap_or(0);
    // SAFETY: the loader's module is RAM, so it is in the direct map, and nobody writes there.
    IMAGE.call_once(|| unsafe { core::slice::from_raw_parts(mem::phys_to_virt(module.start), len) });
}

/// The end of a guest that has panicked: reports on COM1 and COM2, and exits with [`Exit::Panic`]. What
/// `#[panic_handler]` calls.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    let place = Shown(|f: &mut fmt::Formatter<'_>| match info.location() {
        Some(location) => write!(f, "panic at {location}: {}", info.message()),
        None => write!(f, "panic: {}", info.message()),
    });
    end(&place, None, Start::here(), Exit::Panic)
}

/// The end of a guest after a CPU exception that nobody handles: reports as [`panic()`] does, with the
/// registers, and exits with [`Exit::Exception`]. `address` is what a page fault was about.
pub fn report_exception(frame: &TrapFrame, address: Option<usize>) -> ! {
    let what = Shown(|f: &mut fmt::Formatter<'_>| {
        f.write_str(frame.vector_name())?;
        if let Some(address) = address {
            let access = match frame.error {
                error if error & 1 << 4 != 0 => "execute",
                error if error & 1 << 1 != 0 => "write",
                _ => "read",
            };
            write!(f, " at {address:#x} ({access})")?;
            if stacks::is_guard(address) || address & !(layout::PAGE_LEN - 1) == layout::boot_guard() {
                f.write_str(", below a stack: it ran over")?;
            } else if layout::statics().contains(&address) {
                f.write_str(", a checkpointed variable: there is none before the library was started")?;
            } else if address < layout::PAGE_LEN {
                f.write_str(", a null pointer")?;
            }
        }
        write!(f, ", rip {:#x}", frame.rip)
    });
    let start = Start {
        instruction: Some(frame.rip as usize),
        frame: frame.rbp as usize,
        stack: frame.rsp as usize,
    };
    end(&what, Some(frame), start, Exit::Exception)
}

/// A closure as something to show, so that nothing has to be formatted into memory.
struct Shown<F>(F);

impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Display for Shown<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0(f)
    }
}

/// Where a backtrace begins.
struct Start {
    /// What was executed, if that is not plain from the frames.
    instruction: Option<usize>,
    /// The frame pointer.
    frame: usize,
    /// The stack pointer.
    stack: usize,
}

impl Start {
    /// The frame of the caller.
    #[inline(always)]
    fn here() -> Self {
        let (frame, stack): (usize, usize);
        // SAFETY: reads two registers.
        unsafe { core::arch::asm!("mov {}, rbp", "mov {}, rsp", out(reg) frame, out(reg) stack) };
        Self {
            instruction: None,
            frame,
            stack,
        }
    }
}

fn end(what: &dyn fmt::Display, registers: Option<&TrapFrame>, start: Start, status: Exit) -> ! {
    interrupts::disable();
    match PANICS.fetch_add(1, Ordering::Relaxed) {
        0 => {
            // What matters most first, in case that the rest does not come to an end.
            seize(&COM1, |out| writeln!(out, "{what}"));
            tell(what);
            seize(&COM1, |out| report(out, registers, start));
        }
        1 => {
            seize(&COM1, |out| {
                writeln!(out, "\nwhile that was reported: {what}\nthe report is cut short")
            });
            tell(&"a panic, and another one while it was reported");
        }
        _ => {}
    }
    exit(status)
}

/// Emits the last event, once.
fn tell(why: &dyn fmt::Display) {
    if !TOLD.swap(true, Ordering::Relaxed) {
        seize(&COM2, |out| {
            json::write_exit(out, why)?;
            out.write_char('\n')
        });
    }
}

fn seize(port: &Port, with: impl FnOnce(&mut dyn Write) -> fmt::Result) {
    // SAFETY: `end` has turned interrupts off, and they stay off. An error can only come from the `Display`
    // of a panic's message, for the port takes everything; then the message is cut short.
    unsafe {
        port.seize(|out| {
            let _ = with(out);
        });
    }
}

fn report(out: &mut dyn Write, registers: Option<&TrapFrame>, start: Start) -> fmt::Result {
    let micros = time::now().as_micros();
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    writeln!(
        out,
        "  thread {}, {seconds}.{micros:06} s after boot",
        thread::current_name()
    )?;
    if let Some(registers) = registers {
        writeln!(out, "{registers}")?;
    }
    let symbols = match IMAGE.get() {
        None => Err("the image's ELF file was not given to the guest (-initrd)"),
        Some(file) if !symbols::has_build_id(file, &layout::build_id()) => {
            Err("the ELF file given as -initrd is not this image")
        }
        Some(file) => {
            Symbols::parse(file).map_err(|_| "the ELF file given as -initrd is damaged or stripped")
        }
    };
    match symbols {
        Ok(_) => writeln!(out, "  backtrace:")?,
        Err(why) => writeln!(out, "  backtrace (addresses only: {why}):")?,
    }
    Backtrace {
        out,
        symbols: symbols.ok(),
        last: 0,
        repeated: 0,
        shown: 0,
    }
    .walk(start)
}

/// Prints places in the code, the same one again and again as a number.
struct Backtrace<'a> {
    out: &'a mut dyn Write,
    symbols: Option<Symbols<'a>>,
    last: usize,
    repeated: usize,
    shown: usize,
}

impl Backtrace<'_> {
    /// Shows `address`; `place` is where its function is looked up, for a return address may lie behind the
    /// end of a function that ends in a call.
    fn show(&mut self, address: usize, place: usize, mark: &str) -> fmt::Result {
        if address == self.last {
            self.repeated += 1;
            return Ok(());
        }
        self.flush()?;
        self.last = address;
        self.shown += 1;
        match self.symbols.and_then(|symbols| symbols.lookup(place as u64)) {
            Some(place) => writeln!(self.out, "    {address:#018x} {mark}{place}"),
            None => writeln!(self.out, "    {address:#018x} {mark}"),
        }
    }

    fn flush(&mut self) -> fmt::Result {
        match core::mem::take(&mut self.repeated) {
            0 => Ok(()),
            repeated => writeln!(self.out, "    … {repeated} times more"),
        }
    }

    fn walk(&mut self, start: Start) -> fmt::Result {
        if let Some(instruction) = start.instruction {
            self.show(instruction, instruction, "")?;
        }
        let mut frame = start.frame;
        let mut stack = start.stack;
        for _ in 0..FRAMES_MAX {
            // │ caller's frame pointer │ return address │ …
            let (Some(above), Some(address)) = (word(frame), word(frame.wrapping_add(8))) else {
                break;
            };
            if frame < stack || !layout::text().contains(&address) {
                break;
            }
            self.show(address, address - 1, "")?;
            stack = frame + 16;
            // 0 is above the first frame of a thread.
            if above == 0 || self.shown == SHOWN_MAX {
                return self.flush();
            }
            if above <= frame || above - frame > FRAME_LEN_MAX {
                break;
            }
            frame = above;
        }
        let words = (stack & !7..).step_by(8).take(SCAN_LEN / 8);
        let guesses = words.map_while(word).filter(|&address| is_after_call(address));
        guesses
            .take(GUESSES_MAX)
            .try_for_each(|address| self.show(address, address - 1, "? "))?;
        self.flush()
    }
}

/// The word at `address`, if it can be read.
fn word(address: usize) -> Option<usize> {
    if !address.is_multiple_of(8) || address == 0 {
        return None;
    }
    // SAFETY: nothing else runs any more, so nobody changes the tables. Large pages, which stacks never lie
    // in, count as unreadable.
    let entry = unsafe { paging::current().entry(address) }?;
    if !entry.flags().contains(PageTableFlags::PRESENT) {
        return None;
    }
    // SAFETY: mapped, aligned, and any word is a usize.
    Some(unsafe { (address as *const usize).read_volatile() })
}

/// Whether `address` lies in the code, behind a call: e8 with 4 bytes, or ff with 1 to 6.
fn is_after_call(address: usize) -> bool {
    let text = layout::text();
    if !(text.start + 7..text.end).contains(&address) {
        return false;
    }
    // SAFETY: inside the code, with 7 bytes of it below.
    let byte = |back: usize| unsafe { ((address - back) as *const u8).read_volatile() };
    byte(5) == 0xe8 || (2..=7).any(|back| byte(back) == 0xff && byte(back - 1) >> 3 & 7 == 2)
}
