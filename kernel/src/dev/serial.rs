//! The two serial ports: COM1 for the log, COM2 for events.
//!
//! A line is never torn, whatever thread or interrupt handler writes it ([`line`](super::line) says how), and
//! whoever writes returns only when it is out. QEMU emulates a port byte by byte, and each costs
//! microseconds: the log is for what is rare.
//!
//! The lock here is not an [`IrqMutex`](crate::sync::IrqMutex), because a panic may have to break it: the
//! guest may have panicked while it was writing.

use core::fmt::Write;

use log::{LevelFilter, Log, Metadata, Record};
use spin::Mutex;
use uart_16550::backend::PioBackend;
use uart_16550::{BaudRate, Config, Uart16550};
use x86_64::instructions::interrupts::without_interrupts;

use super::line::{Line, Ring};
use crate::time;

/// A port that has not taken a byte after so many looks (well over 10 ms) is stuck: what it was to take is
/// lost.
const LOOKS_MAX: usize = 100_000;

/// The log.
pub static COM1: Port = Port::new(0x3f8);
/// The event channel.
pub static COM2: Port = Port::new(0x2f8);

/// A serial port and what waits for it.
pub struct Port {
    state: Mutex<State>,
}

struct State {
    uart: Uart16550<PioBackend>,
    ready: bool,
    ring: Ring,
    /// Bytes that were put into the ring since boot.
    queued: u64,
    /// Bytes that have left it.
    sent: u64,
}

impl Port {
    const fn new(base: u16) -> Self {
        // SAFETY: COM1 and COM2 of a PC, each used here only.
        let Ok(uart) = (unsafe { Uart16550::new_port(base) }) else {
            panic!("the base is far below 0xfff8")
        };
        Self {
            state: Mutex::new(State {
                uart,
                ready: false,
                ring: Ring::new(),
                queued: 0,
                sent: 0,
            }),
        }
    }

    /// Sends `line`, which ends in a newline. Longer ones than the ring are lost.
    pub fn write_line(&self, line: &[u8]) {
        if line.len() > super::line::RING_LEN {
            return;
        }
        let mut end = None;
        loop {
            let out = without_interrupts(|| {
                let mut state = self.state.lock();
                if end.is_none() && state.ring.push(line) {
                    state.queued += line.len() as u64;
                    end = Some(state.queued);
                }
                state.send_piece();
                end.is_some_and(|end| state.sent >= end)
            });
            if out {
                return;
            }
        }
    }

    /// Sends what waits, then `with` may write as it likes; whoever holds the lock is ignored. For a machine
    /// that will do nothing else any more.
    ///
    /// # Safety
    /// Interrupts are off and will stay off, and no other thread runs.
    pub unsafe fn seize(&self, with: impl FnOnce(&mut dyn Write)) {
        if self.state.is_locked() {
            // SAFETY: the caller's promise: the holder will never go on.
            unsafe { self.state.force_unlock() };
        }
        let mut state = self.state.lock();
        while !state.ring.is_empty() {
            state.send_piece();
        }
        with(&mut Seized(&mut state));
    }
}

impl State {
    /// Sends a FIFO's length of bytes at most. The ring is shorter afterwards, or was empty.
    fn send_piece(&mut self) {
        let sent = send(&mut self.uart, &mut self.ready, self.ring.front());
        self.ring.pop(sent);
        self.sent += sent as u64;
    }
}

/// Sends the first bytes of `bytes` and returns how many are dealt with: at least one, if there is one.
fn send(uart: &mut Uart16550<PioBackend>, ready: &mut bool, bytes: &[u8]) -> usize {
    if !*ready {
        // A port that is not there swallows everything, which is as good as any answer.
        let _ = uart.init(Config {
            baud_rate: BaudRate::Baud115200,
            ..Config::DEFAULT
        });
        *ready = true;
    }
    if bytes.is_empty() {
        return 0;
    }
    (0..LOOKS_MAX)
        .map(|_| uart.send_bytes(bytes))
        .find(|&sent| sent > 0)
        .unwrap_or(bytes.len())
}

/// A port that was seized: see [`Port::seize`].
pub struct Seized<'a>(&'a mut State);

impl Write for Seized<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let sent = send(&mut self.0.uart, &mut self.0.ready, rest);
            rest = &rest[sent..];
        }
        Ok(())
    }
}

struct SerialLog;

static LOG: SerialLog = SerialLog;

impl Log for SerialLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let micros = time::now().as_micros();
        let mut line = Line::new();
        // Formatted before any lock is taken: what the message shows may lie in the checkpoint window, or log
        // itself. A `Line` takes everything, so that the only error can come from a `Display` of the message.
        let _ = write!(
            line,
            "[{:5}.{:06}] {:5} {}: {}",
            micros / 1_000_000,
            micros % 1_000_000,
            record.level(),
            record.target(),
            record.args()
        );
        COM1.write_line(line.finish());
    }

    fn flush(&self) {}
}

/// Makes COM1 the sink of the `log` crate, at level info until the command line is known. From here on
/// everybody may log, interrupt handlers included.
pub fn init() {
    // It fails only if it was done before, which is fine.
    let _ = log::set_logger(&LOG);
    log::set_max_level(LevelFilter::Info);
}
