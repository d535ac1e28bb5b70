//! The console: a terminal on a third serial port, by interrupts in both directions.
//!
//! ```text
//! typed   ── port ── handler ──┬── Ctrl-C: SIGINT
//!                              └── ring ── receive        a full ring takes no more: what is typed then is lost
//! shown   ── send ── ring ── handler ── port, a FIFO's length at a time
//! ```
//!
//! The port has an interrupt line of its own, which `isa-serial,index=2,irq=5` gives it: the line that is usual for a third port
//! is the log's too.
//!
//! Ctrl-C works whatever the application does, even if it never reads: so the handler always empties the port, and a ring that
//! nobody empties loses what is newest. A terminal that takes nothing (its person has stopped it, or nobody is there)
//! must not stop the application: once it has taken nothing for a tenth of a second, what does not fit into the ring is lost too.
//!
//! Deliberately absent: echo and line editing. The application draws; the person's terminal is in raw mode.

use core::time::Duration;

use hs_core::platform::Console;
use hs_core::registry::signal::SignalNumber;
use hs_core::sync::{Mutex, Signal};
use spin::Once;
use uart_16550::backend::PioBackend;
use uart_16550::spec::FIFO_SIZE;
use uart_16550::spec::registers::{FifoTriggerLevel, IER};
use uart_16550::{BaudRate, Config, Uart16550};

use super::line::Ring;
use crate::arch::ioapic;
use crate::sync::IrqMutex;
use crate::time;

/// COM3.
const BASE: u16 = 0x3e8;
const LINE: u8 = 5;

/// How long the terminal may take nothing before it counts as stopped.
const PATIENCE: Duration = Duration::from_millis(100);

/// Copied at a time between the rings and memory that may lie in the checkpoint window, which must not be touched under
/// the lock.
const PIECE_LEN: usize = 256;

/// Ctrl-C, as a terminal sends it.
const INTERRUPT: u8 = 3;

/// Most bytes that one interrupt takes from the port. What is left interrupts again.
const TAKEN_MAX: usize = 4 * FIFO_SIZE;

static CONSOLE: Once<SerialConsole> = Once::new();

/// The console, if the machine has one and [`start`] was called.
pub fn console() -> Option<&'static dyn Console> {
    CONSOLE.get().map(|console| console as &dyn Console)
}

/// A terminal on a serial port.
struct SerialConsole {
    state: IrqMutex<State>,
    listener: IrqMutex<Option<&'static Signal>>,
    /// Raised when the terminal has taken something.
    taken: Signal,
    /// What one call shows is not torn by another.
    sender: Mutex<()>,
}

struct State {
    uart: Uart16550<PioBackend>,
    typed: Ring,
    shown: Ring,
    /// How many bytes the terminal has taken since boot.
    taken_bytes: u64,
    /// It takes nothing: whoever shows something does not wait for it.
    stopped: bool,
}

/// Looks for the port, and connects it if it is there.
pub fn start() {
    // SAFETY: COM3 of a PC, used here only.
    let Ok(mut uart) = (unsafe { Uart16550::new_port(BASE) }) else {
        return;
    };
    let config = Config {
        baud_rate: BaudRate::Baud115200,
        fifo_trigger_level: Some(FifoTriggerLevel::One),
        ..Config::DEFAULT
    };
    if uart.init(config).is_err() {
        return;
    }
    let console = CONSOLE.call_once(|| SerialConsole {
        state: IrqMutex::new(State {
            uart,
            typed: Ring::new(),
            shown: Ring::new(),
            taken_bytes: 0,
            stopped: false,
        }),
        listener: IrqMutex::new(None),
        taken: Signal::new(),
        sender: Mutex::new(()),
    });
    if !ioapic::connect(LINE, on_interrupt, 0) {
        log::error!("the console has no interrupt: nothing that is typed there arrives");
    }
    console.state.lock().uart.enable_interrupts(IER::DATA_READY);
    log::info!("console on port {BASE:#x}");
}

/// Waits until the terminal has taken what it was to show, or takes nothing. For a machine that ends.
pub fn drain() {
    if let Some(console) = CONSOLE.get() {
        console.wait_while(|state| !state.shown.is_empty());
    }
}

fn on_interrupt(_: usize) {
    let Some(console) = CONSOLE.get() else {
        return;
    };
    let (heard, took) = {
        let mut state = console.state.lock();
        (state.take_typed(), state.show())
    };
    if heard.interrupted {
        hs_core::signal::post(SignalNumber::Int);
    }
    if heard.bytes {
        let listener = *console.listener.lock();
        if let Some(listener) = listener {
            listener.raise();
        }
    }
    if took {
        console.taken.raise();
    }
}

/// What was typed.
#[derive(Default)]
struct Heard {
    bytes: bool,
    interrupted: bool,
}

impl State {
    /// Moves what was typed into the ring.
    fn take_typed(&mut self) -> Heard {
        let mut heard = Heard::default();
        for _ in 0..TAKEN_MAX {
            let Ok(byte) = self.uart.try_receive_byte() else {
                break;
            };
            if byte == INTERRUPT {
                heard.interrupted = true;
            } else {
                heard.bytes |= self.typed.push(&[byte]);
            }
        }
        heard
    }

    /// Hands the port what it can take, and has it say when it can take more if there is more. Whether it took anything.
    fn show(&mut self) -> bool {
        let sent = self.uart.send_bytes(self.shown.front());
        self.shown.pop(sent);
        self.taken_bytes += sent as u64;
        self.stopped &= sent == 0;
        if self.shown.is_empty() {
            self.uart.disable_interrupts(IER::THR_EMPTY);
        } else {
            self.uart.enable_interrupts(IER::THR_EMPTY);
        }
        sent > 0
    }
}

impl SerialConsole {
    /// Sleeps while `condition` holds, but no longer than the terminal takes something now and then. Whether it does not
    /// hold any more.
    fn wait_while(&self, condition: impl Fn(&State) -> bool) -> bool {
        let mut last = (0, time::now());
        loop {
            let seen = self.taken.seen();
            {
                let mut state = self.state.lock();
                if !condition(&state) {
                    return true;
                }
                if state.taken_bytes != last.0 {
                    last = (state.taken_bytes, time::now());
                }
                state.stopped |= time::now().since(last.1) >= PATIENCE;
                if state.stopped {
                    return false;
                }
            }
            self.taken.wait(seen, Some(last.1 + PATIENCE));
        }
    }
}

impl Console for SerialConsole {
    fn receive(&self, into: &mut [u8]) -> usize {
        let mut received = 0;
        while received < into.len() {
            let mut piece = [0; PIECE_LEN];
            let wanted = PIECE_LEN.min(into.len() - received);
            let len = {
                let mut state = self.state.lock();
                let front = state.typed.front();
                let len = front.len().min(wanted);
                piece[..len].copy_from_slice(&front[..len]);
                state.typed.pop(len);
                len
            };
            if len == 0 {
                break;
            }
            into[received..received + len].copy_from_slice(&piece[..len]);
            received += len;
        }
        received
    }

    fn send(&self, bytes: &[u8]) {
        let _sender = self.sender.lock();
        for part in bytes.chunks(PIECE_LEN) {
            let mut piece = [0; PIECE_LEN];
            piece[..part.len()].copy_from_slice(part);
            if !self.wait_while(|state| state.shown.room() < part.len()) {
                return;
            }
            let mut state = self.state.lock();
            // There is room: nobody else sends.
            let _ = state.shown.push(&piece[..part.len()]);
            state.show();
        }
    }

    fn notify(&self, signal: &'static Signal) {
        *self.listener.lock() = Some(signal);
    }
}
