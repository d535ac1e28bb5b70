//! virtio-net: the network cards.
//!
//! A driver of our own on virtio-drivers' queues ([`queue`](super::queue) says what is added to them),
//! because its `VirtIONetRaw` negotiates EVENT_IDX, which does not work, and leaves out fences that are
//! needed.
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
//! the queue out of use, which the pair sees as silence; a frame shorter than its header is dropped.
//!
//! Deliberately absent: checksum and segmentation offload (the two machines' cards need not offer the same),
//! multiple queues, link state.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use bitflags::bitflags;
use hs_core::platform::{Nic, RingFull};
use hs_core::sync::Signal;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};
use virtio_drivers::transport::{DeviceStatus, Transport};

use super::msix::Msix;
use super::probe::CPU;
use super::queue::{Broken, Buffer, QUEUE_LEN, Queue};
use super::virtio::{DmaHal, Doorbell, Registers};
use crate::arch::interrupts;
use crate::sync::IrqMutex;

const QUEUE_RECEIVE: u16 = 0;
const QUEUE_TRANSMIT: u16 = 1;

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

/// A card's address, to be shown.
struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

struct Transmit {
    queue: Queue<DmaHal>,
    /// Buffers that we have.
    free: Vec<Buffer>,
    /// Something was queued that the device may not have heard of.
    unkicked: bool,
    /// Somebody was told [`RingFull`].
    full: bool,
}

impl Transmit {
    /// Takes back some of the buffers that the device is done with.
    fn reclaim(&mut self) -> Result<(), Broken> {
        for _ in 0..RECLAIM_MAX {
            let Some((buffer, _)) = self.queue.take()? else {
                break;
            };
            self.free.push(buffer);
        }
        Ok(())
    }
}

/// A network card. Lives as long as the machine.
pub struct VirtioNet {
    mac: [u8; 6],
    frame_len_max: usize,
    receive: IrqMutex<Queue<DmaHal>>,
    receive_bell: Doorbell,
    transmit: IrqMutex<Transmit>,
    transmit_bell: Doorbell,
    signal: IrqMutex<Option<&'static Signal>>,
}

impl VirtioNet {
    /// Starts the device.
    ///
    /// # Errors
    /// See [`NetError`].
    pub(super) fn start(
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
        let buffers = || {
            Buffer::allocate::<DmaHal>(QUEUE_LEN, VIRTIO_HEADER_LEN + frame_len_max)
                .ok_or(NetError::OutOfMemory(function))
        };
        let mut receive = Queue::new(transport, QUEUE_RECEIVE).map_err(|_| failed("its receive queue"))?;
        let mut transmit = Queue::new(transport, QUEUE_TRANSMIT).map_err(|_| failed("its transmit queue"))?;
        buffers()?
            .into_iter()
            .for_each(|buffer| receive.give_writable(buffer));
        transmit.forbid_interrupts();
        let bell = |queue| {
            registers
                .queue_doorbell(queue)
                .ok_or(failed("its notification area"))
        };
        let card = Box::leak(Box::new(VirtioNet {
            mac,
            frame_len_max,
            receive: IrqMutex::new(receive),
            receive_bell: bell(QUEUE_RECEIVE)?,
            transmit: IrqMutex::new(Transmit {
                queue: transmit,
                free: buffers()?,
                unkicked: false,
                full: false,
            }),
            transmit_bell: bell(QUEUE_TRANSMIT)?,
            signal: IrqMutex::new(None),
        }));
        card.connect(registers, msix, configuration)
            .ok_or(NetError::NoVector(function))?;
        transport.finish_init();
        card.receive_bell.ring();
        log::info!(
            "virtio-net {function}: {}, frames up to {} bytes",
            Mac(card.mac),
            card.frame_len_max
        );
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

    /// The oldest received frame's buffer, and its length with the header.
    fn take_received(&self) -> Option<(Buffer, usize)> {
        let taken = {
            let mut queue = self.receive.lock();
            match queue.take() {
                Ok(None) if queue.allow_interrupts() => queue.take(),
                taken => taken,
            }
        };
        taken.unwrap_or_else(|Broken| {
            self.report_broken();
            None
        })
    }

    fn give_back(&self, buffer: Buffer) {
        let ring = {
            let mut queue = self.receive.lock();
            queue.give_writable(buffer);
            queue.wants_notification()
        };
        if ring {
            self.receive_bell.ring();
        }
    }

    /// A transmit buffer to fill.
    fn take_free(&self) -> Result<Buffer, RingFull> {
        let taken = {
            let mut transmit = self.transmit.lock();
            let mut reclaimed = transmit.reclaim();
            if transmit.free.is_empty() && transmit.queue.allow_interrupts() {
                // One interrupt too many may follow. To forbid it would take it from whoever else waits for
                // room.
                reclaimed = reclaimed.and(transmit.reclaim());
            }
            let buffer = transmit.free.pop();
            transmit.full |= buffer.is_none();
            reclaimed.map(|()| buffer)
        };
        let buffer = taken.unwrap_or_else(|Broken| {
            self.report_broken();
            None
        });
        buffer.ok_or_else(|| {
            // Room will come only if the device knows of what fills the ring.
            self.kick();
            RingFull
        })
    }

    fn report_broken(&self) {
        log::error!(
            "virtio-net {} has returned a buffer that it does not have: out of use",
            Mac(self.mac)
        );
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
    card.receive.lock().forbid_interrupts();
    card.raise();
}

/// There is room again, and somebody waits for it.
fn on_transmit(card: usize) {
    // SAFETY: as in `on_receive`.
    let card = unsafe { &*core::ptr::with_exposed_provenance::<VirtioNet>(card) };
    let waited_for = {
        let mut transmit = card.transmit.lock();
        transmit.queue.forbid_interrupts();
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
        // As many as the queue can hold of frames that are none.
        for _ in 0..QUEUE_LEN {
            let Some((buffer, len)) = self.take_received() else {
                return false;
            };
            let sound = len >= VIRTIO_HEADER_LEN + ETHERNET_HEADER_LEN;
            if sound {
                with(&buffer[VIRTIO_HEADER_LEN..len]);
            } else {
                log::debug!("virtio-net: dropped a frame of {len} bytes, the header included");
            }
            self.give_back(buffer);
            if sound {
                return true;
            }
        }
        false
    }

    fn transmit_parts(&self, parts: &[&[u8]]) -> Result<(), RingFull> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if !(ETHERNET_HEADER_LEN..=self.frame_len_max).contains(&len) {
            let max = self.frame_len_max;
            log::warn!(
                "virtio-net: dropped a frame of {len} bytes instead of {ETHERNET_HEADER_LEN} to {max}"
            );
            return Ok(());
        }
        let mut buffer = self.take_free()?;
        let len = VIRTIO_HEADER_LEN + len;
        // The header was zero from the start.
        let mut space = &mut buffer[VIRTIO_HEADER_LEN..len];
        for part in parts {
            let (into, rest) = space.split_at_mut(part.len());
            into.copy_from_slice(part);
            space = rest;
        }
        let mut transmit = self.transmit.lock();
        transmit.queue.give_readable(buffer, len);
        transmit.unkicked = true;
        Ok(())
    }

    fn kick(&self) {
        let ring = {
            let mut transmit = self.transmit.lock();
            core::mem::take(&mut transmit.unkicked) && transmit.queue.wants_notification()
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
