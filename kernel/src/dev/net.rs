//! virtio-net: the network cards.
//!
//! A driver of our own on virtio-drivers' queues, because its `VirtIONetRaw` negotiates EVENT_IDX, with which
//! a busy queue stops for good after 64 Ki packets, and leaves out the fence that the notify check needs.
//!
//! ```text
//!   receive queue, 256 buffers with the device           transmit queue, 256 buffers with us
//!     used ─► with(frame) ─► back to the device             transmit: copy in, queue ─► kick: notify
//!     interrupt: raise the signal, no more until            used: taken back at a later transmit
//!     a look has found the queue empty                      interrupt: only after RingFull
//!
//!   buffer:  │ virtio_net_hdr, 12 bytes, zero │ Ethernet frame │
//! ```
//!
//! No wake-up is lost: interrupts are let in again *before* the last look at the queue, with a full fence in
//! between, and the device does the same the other way round.
//!
//! Frames are copied in both directions, outside of every kernel lock, since they may go to and come from the
//! checkpoint window. What the device says is not believed: a completion that names no buffer of ours puts
//! the card out of use, which the pair sees as silence; a length that cannot be drops the frame.
//!
//! Deliberately absent: checksum and segmentation offload (the two machines' cards need not offer the same),
//! multiple queues, link state.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use bitflags::bitflags;
use hs_core::event::Event;
use hs_core::platform::{Exit, Nic, PAGE_LEN, RingFull};
use hs_core::sync::Signal;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::{Cam, ConfigurationAccess, DeviceFunction, MmioCam, PciRoot};
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport};

use super::msix::Msix;
use super::pci::{self, PciError};
use super::virtio::{DmaHal, Doorbell, Registers};
use crate::arch::interrupts;
use crate::mem;
use crate::sync::IrqMutex;

const QUEUE_RECEIVE: u16 = 0;
const QUEUE_TRANSMIT: u16 = 1;
const QUEUE_LEN: usize = 256;

const VIRTIO_HEADER_LEN: usize = 12;
const ETHERNET_HEADER_LEN: usize = 14;
const MTU_DEFAULT: u16 = 1500;
/// What an MTU may be: from what IPv4 needs to jumbo frames, for which the buffers take 4.5 MiB a card.
const MTU_MIN: u16 = 576;
const MTU_MAX: u16 = 9000;

const CONFIG_MAC: usize = 0;
const CONFIG_MTU: usize = 10;

/// Completions looked through at each transmit: more than one is queued for, so none are left in the long
/// run.
const RECLAIM_MAX: usize = 8;

/// The CPU that interrupts go to: the only one.
const CPU: u8 = 0;

const NO_BUFFER: u16 = u16::MAX;

bitflags! {
    /// What is understood here. EVENT_IDX (bit 29) and INDIRECT_DESC (28) are not.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        const MTU = 1 << 3;
        const MAC = 1 << 5;
        const VERSION_1 = 1 << 32;
    }
}

/// Why a network card cannot be used.
#[derive(Clone, Debug)]
pub enum NetError {
    /// Its place on the bus.
    Pci(PciError),
    /// virtio-drivers refused it, in this step.
    Virtio(DeviceFunction, &'static str),
    /// It does not speak virtio 1.0, or has no address of its own.
    Features(DeviceFunction),
    /// It asks for an MTU out of bounds.
    Mtu(DeviceFunction, u16),
    /// It has too few MSI-X entries, or all interrupt vectors are in use.
    NoVector(DeviceFunction),
    /// The heap has no room for its buffers.
    OutOfMemory(DeviceFunction),
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetError::Pci(error) => write!(f, "{error}"),
            NetError::Virtio(function, step) => write!(f, "virtio-net {function}: it failed at {step}"),
            NetError::Features(function) => {
                write!(
                    f,
                    "virtio-net {function}: it lacks virtio 1.0 (disable-legacy=on) or an address"
                )
            }
            NetError::Mtu(function, mtu) => {
                write!(
                    f,
                    "virtio-net {function}: its MTU of {mtu} is not from {MTU_MIN} to {MTU_MAX}"
                )
            }
            NetError::NoVector(function) => write!(
                f,
                "virtio-net {function}: no interrupt is left for it (vectors=3)"
            ),
            NetError::OutOfMemory(function) => {
                write!(
                    f,
                    "virtio-net {function}: the kernel heap has no room for its buffers (--mem)"
                )
            }
        }
    }
}

impl From<PciError> for NetError {
    fn from(error: PciError) -> Self {
        NetError::Pci(error)
    }
}

/// Buffers of one length in DMA memory, one for each place in a queue.
struct Buffers {
    first: NonNull<u8>,
    len_bytes: usize,
}

// SAFETY: a buffer is handed out by index to whoever the queue's state says owns it, see `bytes`.
unsafe impl Send for Buffers {}
// SAFETY: as above.
unsafe impl Sync for Buffers {}

impl Buffers {
    fn new(frame_len_max: usize) -> Option<Self> {
        let len_bytes = (VIRTIO_HEADER_LEN + frame_len_max).next_multiple_of(64);
        let (_, first) = mem::dma_pages((len_bytes * QUEUE_LEN).div_ceil(PAGE_LEN))?;
        Some(Self { first, len_bytes })
    }

    /// Buffer `index`.
    ///
    /// # Safety
    /// The caller owns it: neither the device nor another thread does until the caller passes it on.
    #[allow(
        clippy::mut_from_ref,
        reason = "each buffer has one owner, which is not this struct"
    )]
    unsafe fn bytes(&self, index: u16) -> &mut [u8] {
        assert!(usize::from(index) < QUEUE_LEN);
        // SAFETY: inside the pages; exclusive as the caller promises; zeroed at first, so always initialised.
        unsafe {
            let start = self.first.as_ptr().add(usize::from(index) * self.len_bytes);
            core::slice::from_raw_parts_mut(start, self.len_bytes)
        }
    }
}

/// A queue, and which buffer each descriptor that the device has stands for.
struct Queue {
    ring: VirtQueue<DmaHal, QUEUE_LEN>,
    buffer_of: [u16; QUEUE_LEN],
    /// The device has broken the rules: nothing of it is looked at any more.
    broken: bool,
}

impl Queue {
    fn new(transport: &mut PciTransport, index: u16) -> Result<Self, virtio_drivers::Error> {
        let ring = VirtQueue::new(transport, index, false, false)?;
        Ok(Self {
            ring,
            buffer_of: [NO_BUFFER; QUEUE_LEN],
            broken: false,
        })
    }

    /// Notes which buffer `token` stands for.
    fn added(&mut self, token: Result<u16, virtio_drivers::Error>, buffer: u16) {
        let token = token.expect("a queue has as many descriptors as there are buffers");
        self.buffer_of[usize::from(token)] = buffer;
    }

    /// The descriptor that the device has used next, and its buffer.
    fn peek(&mut self) -> Option<(u16, u16)> {
        if self.broken {
            return None;
        }
        let token = self.ring.peek_used()?;
        let buffer = self
            .buffer_of
            .get(usize::from(token))
            .copied()
            .filter(|&buffer| buffer != NO_BUFFER);
        if buffer.is_none() {
            self.broken = true;
            log::error!(
                "virtio-net: the device has used descriptor {token}, which it does not have: it is out of use"
            );
        }
        Some((token, buffer?))
    }

    /// Looks for completions once more with interrupts allowed: what comes after this look raises one.
    fn allow_interrupt(&mut self) -> bool {
        self.ring.set_dev_notify(true);
        // The flag's store must be visible before the used index is read, or both sides could wait for each
        // other.
        fence(Ordering::SeqCst);
        self.ring.can_pop()
    }

    /// Whether the device wants to be told of what was added.
    fn should_ring(&self) -> bool {
        // As in `allow_interrupt`: virtio-drivers leaves this fence out.
        fence(Ordering::SeqCst);
        !self.broken && self.ring.should_notify()
    }
}

struct Transmit {
    queue: Queue,
    /// Buffers that we have.
    free: Vec<u16>,
    /// Something was queued that the device may not have heard of.
    unkicked: bool,
    /// Somebody was told [`RingFull`].
    full: bool,
}

impl Transmit {
    /// Takes back up to `count` buffers that the device is done with.
    fn reclaim(&mut self, buffers: &Buffers, count: usize) {
        for _ in 0..count {
            let Some((token, buffer)) = self.queue.peek() else {
                return;
            };
            // SAFETY: the buffer that was added with this token; the device has returned it.
            let popped = unsafe {
                self.queue
                    .ring
                    .pop_used(token, &[&*buffers.bytes(buffer)], &mut [])
            };
            if popped.is_err() {
                self.queue.broken = true;
                return;
            }
            self.queue.buffer_of[usize::from(token)] = NO_BUFFER;
            self.free.push(buffer);
        }
    }
}

/// A network card. Lives as long as the machine.
pub struct VirtioNet {
    mac: [u8; 6],
    frame_len_max: usize,
    receive: IrqMutex<Queue>,
    receive_buffers: Buffers,
    receive_bell: Doorbell,
    transmit: IrqMutex<Transmit>,
    transmit_buffers: Buffers,
    transmit_bell: Doorbell,
    signal: IrqMutex<Option<&'static Signal>>,
}

/// Finds and starts all network cards of bus 0, in PCI order: the first is the service network's, the second
/// the cluster link's. If one of them cannot be used, the machine ends: without it the others would change
/// their meaning.
pub fn probe() -> &'static [&'static dyn Nic] {
    let cards = start_all().unwrap_or_else(|error| {
        log::error!("{error}");
        super::events::emit(&Event::Refused {
            what: "network card".into(),
            why: error.to_string(),
        });
        super::exit::exit(Exit::Refused)
    });
    cards.leak()
}

fn start_all() -> Result<Vec<&'static dyn Nic>, NetError> {
    // SAFETY: both firmwares leave the configuration space there; only this function uses it, once, at boot.
    let configuration = || unsafe { MmioCam::new(mem::mmio(pci::ECAM), Cam::Ecam) };
    let mut root = PciRoot::new(configuration());
    pci::place_bars(&mut root)?;
    let mut cards = Vec::new();
    for function in pci::virtio_functions(&root) {
        pci::enable(&mut root, function);
        let registers = Registers::find(&mut root, &configuration(), function)?;
        let mut transport = PciTransport::new::<DmaHal, _>(&mut root, function)
            .map_err(|_| NetError::Virtio(function, "the PCI transport"))?;
        if transport.device_type() != DeviceType::Network {
            continue;
        }
        let msix = Msix::find(&mut root, &configuration(), function)?;
        let card = VirtioNet::start(function, &mut transport, &registers, &msix, &mut configuration())?;
        // Dropping it would reset the device.
        core::mem::forget(transport);
        let [a, b, c, d, e, f] = card.mac;
        log::info!(
            "virtio-net {function}: {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}, frames up to {} bytes",
            card.frame_len_max
        );
        cards.push(card as &dyn Nic);
    }
    Ok(cards)
}

impl VirtioNet {
    fn start(
        function: DeviceFunction,
        transport: &mut PciTransport,
        registers: &Registers,
        msix: &Msix,
        configuration: &mut impl ConfigurationAccess,
    ) -> Result<&'static Self, NetError> {
        let failed = |step| NetError::Virtio(function, step);
        let features: Features = transport.begin_init(Features::all());
        let accepted = transport.get_status().contains(DeviceStatus::FEATURES_OK);
        if !accepted || !features.contains(Features::VERSION_1 | Features::MAC) {
            return Err(NetError::Features(function));
        }
        let mac = transport.read_consistent(|| transport.read_config_space::<[u8; 6]>(CONFIG_MAC));
        let mac = mac.map_err(|_| failed("its address"))?;
        let mtu = if features.contains(Features::MTU) {
            transport
                .read_config_space::<u16>(CONFIG_MTU)
                .map_err(|_| failed("its MTU"))?
        } else {
            MTU_DEFAULT
        };
        if !(MTU_MIN..=MTU_MAX).contains(&mtu) {
            return Err(NetError::Mtu(function, mtu));
        }
        let frame_len_max = usize::from(mtu) + ETHERNET_HEADER_LEN;
        let no_memory = || NetError::OutOfMemory(function);
        let receive = Queue::new(transport, QUEUE_RECEIVE).map_err(|_| failed("its receive queue"))?;
        let queue = Queue::new(transport, QUEUE_TRANSMIT).map_err(|_| failed("its transmit queue"))?;
        let free = (0..QUEUE_LEN as u16).collect();
        let bell = |queue| {
            registers
                .queue_doorbell(queue)
                .ok_or(failed("its notification area"))
        };
        let card = Box::leak(Box::new(VirtioNet {
            mac,
            frame_len_max,
            receive: IrqMutex::new(receive),
            receive_buffers: Buffers::new(frame_len_max).ok_or_else(no_memory)?,
            receive_bell: bell(QUEUE_RECEIVE)?,
            transmit: IrqMutex::new(Transmit {
                queue,
                free,
                unkicked: false,
                full: false,
            }),
            transmit_buffers: Buffers::new(frame_len_max).ok_or_else(no_memory)?,
            transmit_bell: bell(QUEUE_TRANSMIT)?,
            signal: IrqMutex::new(None),
        }));
        card.connect(registers, msix, configuration)
            .ok_or(NetError::NoVector(function))?;
        card.transmit.lock().queue.ring.set_dev_notify(false);
        for buffer in 0..QUEUE_LEN as u16 {
            card.queue_for_receive(buffer);
        }
        transport.finish_init();
        card.receive_bell.ring();
        Ok(card)
    }

    /// Gives each queue an interrupt. `None` if something is short.
    fn connect(
        &'static self,
        registers: &Registers,
        msix: &Msix,
        configuration: &mut impl ConfigurationAccess,
    ) -> Option<()> {
        let this = core::ptr::from_ref(self).expose_provenance();
        if msix.entries() < 2 {
            return None;
        }
        msix.set(0, interrupts::allocate(on_receive, this)?, CPU);
        msix.set(1, interrupts::allocate(on_transmit, this)?, CPU);
        msix.enable(configuration);
        (registers.set_vector(QUEUE_RECEIVE, 0) && registers.set_vector(QUEUE_TRANSMIT, 1)).then_some(())
    }

    /// Queues a buffer of ours. Returns whether the device wants to be told.
    fn queue_for_receive(&self, buffer: u16) -> bool {
        // SAFETY: ours until it is added.
        let bytes = unsafe { self.receive_buffers.bytes(buffer) };
        let mut queue = self.receive.lock();
        // SAFETY: the device owns the buffer from here on; nobody touches it until it has come back.
        let token = unsafe { queue.ring.add(&[], &mut [bytes]) };
        queue.added(token, buffer);
        queue.should_ring()
    }

    fn give_to_device(&self, buffer: u16) {
        if self.queue_for_receive(buffer) {
            self.receive_bell.ring();
        }
    }

    /// The oldest received frame: its buffer, which is the caller's from now on, and its length with the
    /// header.
    fn take_from_device(&self) -> Option<(u16, usize)> {
        let mut queue = self.receive.lock();
        if queue.peek().is_none() && (queue.broken || !queue.allow_interrupt()) {
            return None;
        }
        let (token, buffer) = queue.peek()?;
        // SAFETY: the buffer that was added with this token; the device has returned it, and we are the only
        // ones to know.
        let popped = unsafe {
            queue
                .ring
                .pop_used(token, &[], &mut [self.receive_buffers.bytes(buffer)])
        };
        let Ok(len) = popped else {
            queue.broken = true;
            return None;
        };
        queue.buffer_of[usize::from(token)] = NO_BUFFER;
        Some((buffer, len as usize))
    }

    fn raise(&self) {
        let signal = *self.signal.lock();
        if let Some(signal) = signal {
            signal.raise();
        }
    }
}

/// Frames have arrived. No more interrupts until they have been looked at.
fn on_receive(card: usize) {
    // SAFETY: `connect` passed a card that lives for ever.
    let card = unsafe { &*core::ptr::with_exposed_provenance::<VirtioNet>(card) };
    card.receive.lock().ring.set_dev_notify(false);
    card.raise();
}

/// There is room again, and somebody waits for it.
fn on_transmit(card: usize) {
    // SAFETY: as in `on_receive`.
    let card = unsafe { &*core::ptr::with_exposed_provenance::<VirtioNet>(card) };
    let waited_for = {
        let mut transmit = card.transmit.lock();
        transmit.queue.ring.set_dev_notify(false);
        core::mem::take(&mut transmit.full)
    };
    if waited_for {
        card.raise();
    }
}

impl Nic for VirtioNet {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn frame_len_max(&self) -> usize {
        self.frame_len_max
    }

    fn receive(&self, with: &mut dyn FnMut(&[u8])) -> bool {
        for _ in 0..QUEUE_LEN {
            let Some((buffer, len)) = self.take_from_device() else {
                return false;
            };
            let ends = VIRTIO_HEADER_LEN + ETHERNET_HEADER_LEN..=VIRTIO_HEADER_LEN + self.frame_len_max;
            let sound = ends.contains(&len);
            if sound {
                // SAFETY: taken from the device, and not given back yet.
                with(unsafe { &self.receive_buffers.bytes(buffer)[VIRTIO_HEADER_LEN..len] });
            } else {
                log::debug!("virtio-net: dropped a frame of {len} bytes with its header");
            }
            self.give_to_device(buffer);
            if sound {
                return true;
            }
        }
        false
    }

    fn transmit(&self, frame: &[u8]) -> Result<(), RingFull> {
        if !(ETHERNET_HEADER_LEN..=self.frame_len_max).contains(&frame.len()) {
            log::warn!(
                "virtio-net: a frame of {} bytes was to be sent; the card takes {ETHERNET_HEADER_LEN} to {}",
                frame.len(),
                self.frame_len_max
            );
            return Ok(());
        }
        let buffer = self.take_free()?;
        let len = VIRTIO_HEADER_LEN + frame.len();
        // SAFETY: not free any more, and not with the device yet: ours alone. The header was zero from the
        // start.
        let bytes = unsafe { &mut self.transmit_buffers.bytes(buffer)[..len] };
        bytes[VIRTIO_HEADER_LEN..].copy_from_slice(frame);
        let mut transmit = self.transmit.lock();
        // SAFETY: the device owns the buffer from here on; nobody touches it until it has come back.
        let token = unsafe { transmit.queue.ring.add(&[bytes], &mut []) };
        transmit.queue.added(token, buffer);
        transmit.unkicked = true;
        Ok(())
    }

    fn kick(&self) {
        let ring = {
            let mut transmit = self.transmit.lock();
            core::mem::take(&mut transmit.unkicked) && transmit.queue.should_ring()
        };
        if ring {
            self.transmit_bell.ring();
        }
    }

    fn notify(&self, signal: &'static Signal) {
        *self.signal.lock() = Some(signal);
        // What has come before now had nobody to wake.
        signal.raise();
    }
}

impl VirtioNet {
    /// A transmit buffer to fill.
    fn take_free(&self) -> Result<u16, RingFull> {
        {
            let mut transmit = self.transmit.lock();
            transmit.reclaim(&self.transmit_buffers, RECLAIM_MAX);
            if let Some(buffer) = transmit.free.pop() {
                return Ok(buffer);
            }
            if transmit.queue.allow_interrupt() {
                transmit.reclaim(&self.transmit_buffers, RECLAIM_MAX);
                if let Some(buffer) = transmit.free.pop() {
                    // One interrupt too many may follow. To forbid it would take it from whoever else waits
                    // for room.
                    return Ok(buffer);
                }
            }
            transmit.full = true;
        }
        // Room will come only if the device knows of what fills the ring.
        self.kick();
        Err(RingFull)
    }
}
