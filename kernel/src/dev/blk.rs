//! virtio-blk: the disk.
//!
//! One request at a time, in one buffer, on [`queue`](super::queue): whoever asks sleeps until the device is done.
//! The file system above has one lock anyway, and a run of blocks is one request: more of them in flight would gain
//! little.
//!
//! ```text
//!   write  │ type 1, sector │ blocks …                  ║ status │        ║ left of it the device reads,
//!   read   │ type 0, sector ║ blocks …                  │ status │          right of it it writes
//!   flush  │ type 4         ║ status │
//! ```
//!
//! The buffer is the kernel's: what is read or written is copied, for it may lie in the checkpoint window. What the
//! device says is not believed: a completion that names no request of ours puts the disk out of use, and so does a
//! device that does not answer for half a minute.
//!
//! Deliberately absent: discard, several queues, blocks of other lengths than 512 bytes.

use alloc::boxed::Box;
use core::fmt;
use core::time::Duration;

use bitflags::bitflags;
use hs_core::sync::Signal;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};
use virtio_drivers::transport::{DeviceStatus, Transport};

use super::msix::Msix;
use super::probe::CPU;
use super::queue::{Broken, Buffer, Queue};
use super::virtio::{DmaHal, Doorbell, Registers};
use crate::arch::interrupts;
use crate::files::disk::{BLOCK_LEN, Disk, DiskError};
use crate::sync::IrqMutex;
use crate::time;

const QUEUE: u16 = 0;

/// Longest run in one request, in bytes.
pub const RUN_LEN_MAX: usize = 64 << 10;

/// How long the device may take: a host under load takes seconds at worst.
const PATIENCE: Duration = Duration::from_secs(30);

const HEADER_LEN: usize = 16;
const TYPE_READ: u32 = 0;
const TYPE_WRITE: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const STATUS_OK: u8 = 0;
/// What no device answers with: the status before it has answered.
const STATUS_NONE: u8 = 0xff;

const CONFIG_CAPACITY: usize = 0;

bitflags! {
    /// What is understood here.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        const READ_ONLY = 1 << 5;
        const FLUSH = 1 << 9;
        const VERSION_1 = 1 << 32;
    }
}

/// Why a disk cannot be used.
#[derive(Clone, Debug)]
pub enum BlkError {
    /// virtio-drivers refused it, in this step.
    Virtio(DeviceFunction, &'static str),
    /// It does not speak virtio 1.0.
    Features(DeviceFunction),
    /// It can only be read.
    ReadOnly(DeviceFunction),
    /// It has no MSI-X entries, or all interrupt vectors are in use.
    NoVector(DeviceFunction),
    /// The heap has no room for its buffer.
    OutOfMemory(DeviceFunction),
}

impl fmt::Display for BlkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlkError::Virtio(function, step) => write!(f, "virtio-blk {function}: it failed at {step}"),
            BlkError::Features(function) => {
                write!(
                    f,
                    "virtio-blk {function}: it lacks virtio 1.0 (disable-legacy=on)"
                )
            }
            BlkError::ReadOnly(function) => write!(
                f,
                "virtio-blk {function}: it can only be read; make its file writable"
            ),
            BlkError::NoVector(function) => write!(
                f,
                "virtio-blk {function}: no interrupt is left for it (vectors=2)"
            ),
            BlkError::OutOfMemory(function) => write!(
                f,
                "virtio-blk {function}: the kernel heap has no room for its buffer (--mem)"
            ),
        }
    }
}

/// What the interrupt handler has in common with the one who waits.
struct Shared {
    queue: IrqMutex<Queue<DmaHal>>,
    done: Signal,
}

/// A disk. There is one value for each device, with one user.
pub struct VirtioBlk {
    shared: &'static Shared,
    bell: Doorbell,
    /// `None` while the device has it; for good once it has failed us.
    buffer: Option<Buffer>,
    blocks: u64,
    flushes: bool,
}

impl VirtioBlk {
    /// Starts the device.
    ///
    /// # Errors
    /// See [`BlkError`].
    pub(super) fn start(
        function: DeviceFunction,
        transport: &mut PciTransport,
        registers: &Registers,
        msix: &Msix,
        configuration: &mut impl ConfigurationAccess,
    ) -> Result<Self, BlkError> {
        let failed = |step| BlkError::Virtio(function, step);
        let features: Features = transport.begin_init(Features::all());
        let accepted = transport.get_status().contains(DeviceStatus::FEATURES_OK);
        if !accepted || !features.contains(Features::VERSION_1) {
            return Err(BlkError::Features(function));
        }
        if features.contains(Features::READ_ONLY) {
            return Err(BlkError::ReadOnly(function));
        }
        // virtio promises no more than words of four bytes.
        let half = |offset| transport.read_config_space::<u32>(CONFIG_CAPACITY + offset);
        let blocks = transport
            .read_consistent(|| Ok(u64::from(half(0)?) | u64::from(half(4)?) << 32))
            .map_err(|_| failed("its capacity"))?;
        let queue = Queue::new(transport, QUEUE).map_err(|_| failed("its queue"))?;
        let buffer = Buffer::allocate::<DmaHal>(1, HEADER_LEN + RUN_LEN_MAX + 1)
            .and_then(|mut buffers| buffers.pop())
            .ok_or(BlkError::OutOfMemory(function))?;
        let bell = registers
            .queue_doorbell(QUEUE)
            .ok_or(failed("its notification area"))?;
        let shared: &'static Shared = Box::leak(Box::new(Shared {
            queue: IrqMutex::new(queue),
            done: Signal::new(),
        }));
        connect(shared, registers, msix, configuration).ok_or(BlkError::NoVector(function))?;
        transport.finish_init();
        Ok(Self {
            shared,
            bell,
            buffer: Some(buffer),
            blocks,
            flushes: features.contains(Features::FLUSH),
        })
    }

    /// Whether it can be asked to write down what it has buffered; otherwise it buffers nothing.
    pub fn flushes(&self) -> bool {
        self.flushes
    }

    fn check(&self, first: u64, len_bytes: usize) -> Result<(), DiskError> {
        let end = first.checked_add((len_bytes / BLOCK_LEN) as u64);
        if !len_bytes.is_multiple_of(BLOCK_LEN) || end.is_none_or(|end| end > self.blocks) {
            return Err(DiskError::Beyond { block: first });
        }
        Ok(())
    }

    /// Does one request: `fill` puts behind the header what the device is to read, `readable_len` bytes; `take` sees what
    /// it has answered, `answer_len` bytes before its status.
    fn request(
        &mut self,
        kind: u32,
        sector: u64,
        readable_len: usize,
        answer_len: usize,
        fill: impl FnOnce(&mut [u8]),
        take: impl FnOnce(&[u8]),
    ) -> Result<(), DiskError> {
        let mut buffer = self.buffer.take().ok_or(DiskError::OutOfUse)?;
        let answer = HEADER_LEN + readable_len;
        let status = answer + answer_len;
        buffer[..4].copy_from_slice(&kind.to_le_bytes());
        buffer[4..8].fill(0);
        buffer[8..HEADER_LEN].copy_from_slice(&sector.to_le_bytes());
        fill(&mut buffer[HEADER_LEN..answer]);
        buffer[status] = STATUS_NONE;
        let ring = {
            let mut queue = self.shared.queue.lock();
            queue.give_request(buffer, answer, status + 1);
            queue.wants_notification()
        };
        if ring {
            self.bell.ring();
        }
        let buffer = self.wait().ok_or_else(|| {
            log::error!("virtio-blk does not answer as it should: the disk is out of use");
            DiskError::OutOfUse
        })?;
        let outcome = if buffer[status] == STATUS_OK {
            take(&buffer[answer..status]);
            Ok(())
        } else {
            log::error!("virtio-blk: a request of type {kind} for sector {sector} failed");
            Err(DiskError::Refused { block: sector })
        };
        self.buffer = Some(buffer);
        outcome
    }

    /// Sleeps until the request is done.
    fn wait(&self) -> Option<Buffer> {
        let deadline = time::now() + PATIENCE;
        loop {
            let seen = self.shared.done.seen();
            let taken = self.shared.queue.lock().take();
            match taken {
                Ok(Some((buffer, _))) => return Some(buffer),
                Ok(None) if time::now() < deadline => self.shared.done.wait(seen, Some(deadline)),
                Ok(None) | Err(Broken) => return None,
            }
        }
    }
}

/// Gives the queue its interrupt. `None` if something is short.
fn connect(
    shared: &'static Shared,
    registers: &Registers,
    msix: &Msix,
    configuration: &mut impl ConfigurationAccess,
) -> Option<()> {
    let argument = core::ptr::from_ref(shared).expose_provenance();
    msix.set(0, interrupts::allocate(on_done, argument)?, CPU);
    msix.enable(configuration);
    registers.set_vector(QUEUE, 0).then_some(())
}

/// A request is done.
fn on_done(shared: usize) {
    // SAFETY: `connect` passed what lives for ever.
    let shared = unsafe { &*core::ptr::with_exposed_provenance::<Shared>(shared) };
    shared.done.raise();
}

impl Disk for VirtioBlk {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), DiskError> {
        self.check(first, into.len())?;
        let mut sector = first;
        for run in into.chunks_mut(RUN_LEN_MAX) {
            let len = run.len();
            self.request(
                TYPE_READ,
                sector,
                0,
                len,
                |_| {},
                |bytes| run.copy_from_slice(bytes),
            )?;
            sector += (len / BLOCK_LEN) as u64;
        }
        Ok(())
    }

    fn write(&mut self, first: u64, from: &[u8]) -> Result<(), DiskError> {
        self.check(first, from.len())?;
        let mut sector = first;
        for run in from.chunks(RUN_LEN_MAX) {
            let len = run.len();
            self.request(
                TYPE_WRITE,
                sector,
                len,
                0,
                |bytes| bytes.copy_from_slice(run),
                |_| {},
            )?;
            sector += (len / BLOCK_LEN) as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        if !self.flushes {
            return Ok(());
        }
        self.request(TYPE_FLUSH, 0, 0, 0, |_| {}, |_| {})
    }
}
