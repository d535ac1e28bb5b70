//! What every virtio device on PCI has, and how virtio-drivers reaches memory.
//!
//! virtio-drivers brings the queues and most of the transport. It does not know of MSI-X, reads three
//! registers for each notification, and computes with what the device says of itself unchecked. So the
//! structures that the capabilities describe are found here once more, checked, and used for those three
//! things:
//!
//! ```text
//! capability 0x09   +3 kind: 1 common, 2 notify, 3 ISR, 4 device     +4 BAR     +8 offset     +12 length
//!                   notify only: +16 multiplier
//! common (in a BAR) +0x10 config vector  +0x16 queue select  +0x1a queue vector  +0x1e notify offset
//! notify (in a BAR) notify offset × multiplier: write the queue's index there
//! ```

use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction, PCI_CAP_ID_VNDR, PciRoot};
use virtio_drivers::transport::pci::{VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_CAP_NOTIFY_CFG};

use super::pci::{self, PciError, Region};

const COMMON_LEN: u32 = 56;

/// Where a device's registers lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registers {
    common: Region,
    notify: Region,
    notify_multiplier: u32,
}

impl Registers {
    /// Finds the registers of `function`, whose BARs have their places. After this virtio-drivers'
    /// `PciTransport::new` can be called without fear: it makes the same walk, trusting.
    ///
    /// # Errors
    /// A structure is missing, or does not lie in a BAR.
    pub fn find<C: ConfigurationAccess>(
        root: &mut PciRoot<C>,
        configuration: &C,
        function: DeviceFunction,
    ) -> Result<Self, PciError> {
        let mut common = None;
        let mut notify = None;
        for capability in pci::capabilities(root, function)? {
            let (len, kind) = (
                capability.private_header as u8,
                (capability.private_header >> 8) as u8,
            );
            if capability.id != PCI_CAP_ID_VNDR || !(1..=4).contains(&kind) {
                continue;
            }
            if len < 16 || u16::from(capability.offset) + u16::from(len) > 256 {
                return Err(PciError::OutsideBar(function));
            }
            let word = |offset: u8| configuration.read_word(function, capability.offset + offset);
            let region = pci::region(root, function, word(4) as u8, word(8), word(12))?;
            match kind {
                VIRTIO_PCI_CAP_COMMON_CFG if common.is_none() => common = Some(region),
                VIRTIO_PCI_CAP_NOTIFY_CFG if notify.is_none() && len >= 20 => {
                    notify = Some((region, word(16)))
                }
                _ => {}
            }
        }
        let common = common
            .filter(|common| common.len_bytes >= COMMON_LEN)
            .ok_or(PciError::Missing {
                function,
                capability: "virtio 1.0 common configuration",
            })?;
        let (notify, notify_multiplier) = notify.ok_or(PciError::Missing {
            function,
            capability: "virtio 1.0 notification area",
        })?;
        Ok(Self {
            common,
            notify,
            notify_multiplier,
        })
    }

    /// Where queue notifications go that have the device's notify offset `offset`, if that is inside the
    /// area.
    pub fn doorbell(&self, offset: u16) -> Option<u64> {
        let at = u64::from(offset) * u64::from(self.notify_multiplier);
        (at % 2 == 0 && at + 2 <= u64::from(self.notify.len_bytes)).then_some(self.notify.address + at)
    }
}

#[cfg(not(test))]
pub use hardware::{DmaHal, Doorbell, NO_VECTOR};

#[cfg(not(test))]
mod hardware {
    use core::ptr::NonNull;

    use virtio_drivers::{BufferDirection, Hal, PhysAddr};

    use super::Registers;
    use crate::mem;

    /// In place of an MSI-X entry: no interrupt.
    pub const NO_VECTOR: u16 = 0xffff;

    const CONFIG_VECTOR: u64 = 0x10;
    const QUEUE_SELECT: u64 = 0x16;
    const QUEUE_VECTOR: u64 = 0x1a;
    const QUEUE_NOTIFY_OFFSET: u64 = 0x1e;

    /// A queue's notification register.
    pub struct Doorbell {
        register: *mut u16,
        queue: u16,
    }

    // SAFETY: a device register, written whole by one store that any thread may make.
    unsafe impl Send for Doorbell {}
    // SAFETY: as above.
    unsafe impl Sync for Doorbell {}

    impl Doorbell {
        /// Tells the device that the queue has something new.
        pub fn ring(&self) {
            // SAFETY: inside the device's notification area, see `Registers::doorbell`.
            unsafe { self.register.write_volatile(self.queue) }
        }
    }

    impl Registers {
        fn register(&self, offset: u64) -> *mut u16 {
            mem::mmio(self.common.address + offset).cast()
        }

        fn read(&self, offset: u64) -> u16 {
            // SAFETY: a 16-bit register of the common configuration, whose length `find` has checked.
            unsafe { self.register(offset).read_volatile() }
        }

        fn write(&self, offset: u64, value: u16) {
            // SAFETY: as in `read`.
            unsafe { self.register(offset).write_volatile(value) }
        }

        /// Lets changes of the configuration go without an interrupt, and queue `queue` use MSI-X entry
        /// `entry`. Between reset and DRIVER_OK. Returns whether the device has taken it.
        #[must_use]
        pub fn set_vector(&self, queue: u16, entry: u16) -> bool {
            self.write(CONFIG_VECTOR, NO_VECTOR);
            self.write(QUEUE_SELECT, queue);
            self.write(QUEUE_VECTOR, entry);
            self.read(QUEUE_VECTOR) == entry
        }

        /// The notification register of `queue`; `None` if the device points outside its area.
        pub fn queue_doorbell(&self, queue: u16) -> Option<Doorbell> {
            self.write(QUEUE_SELECT, queue);
            let address = self.doorbell(self.read(QUEUE_NOTIFY_OFFSET))?;
            Some(Doorbell {
                register: mem::mmio(address).cast(),
                queue,
            })
        }
    }

    /// virtio-drivers' view of our memory.
    ///
    /// Devices read and write the kernel heap only. What the application wants to send or receive is copied
    /// to and from buffers there, for its own memory may be the checkpoint window: frames are scattered
    /// there, and copy-on-write may put another frame in a page's place while the device is still at the old
    /// one.
    pub struct DmaHal;

    // SAFETY: pages come zeroed, aligned and exclusive from the kernel heap; device addresses are mapped by
    // `mem::mmio` one to one, and each is asked for once.
    unsafe impl Hal for DmaHal {
        fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
            // Address 0 is how virtio-drivers is told that there is none.
            mem::dma_pages(pages).unwrap_or((0, NonNull::dangling()))
        }

        unsafe fn dma_dealloc(_physical: PhysAddr, bytes: NonNull<u8>, pages: usize) -> i32 {
            // SAFETY: the caller's promise; the device was reset before its queues are dropped.
            unsafe { mem::free_dma_pages(bytes, pages) };
            0
        }

        unsafe fn mmio_phys_to_virt(physical: PhysAddr, _len_bytes: usize) -> NonNull<u8> {
            NonNull::new(mem::mmio(physical)).expect("the direct map does not begin at address 0")
        }

        unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
            // All our buffers are `mem::dma_pages`; it panics on anything outside the direct map.
            mem::virt_to_phys(buffer.as_ptr().cast())
        }

        unsafe fn unshare(_physical: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::pci::tests::Bus;

    const FUNCTION: DeviceFunction = DeviceFunction {
        bus: 0,
        device: 2,
        function: 0,
    };

    fn body(kind: u8, bar: u8, offset: u32, len: u32, multiplier: u32) -> [u8; 18] {
        let mut body = [0; 18];
        body[0] = if kind == VIRTIO_PCI_CAP_NOTIFY_CFG { 20 } else { 16 };
        body[1] = kind;
        body[2] = bar;
        body[6..10].copy_from_slice(&offset.to_le_bytes());
        body[10..14].copy_from_slice(&len.to_le_bytes());
        body[14..18].copy_from_slice(&multiplier.to_le_bytes());
        body
    }

    fn find(common: [u8; 18], notify: [u8; 18]) -> Result<Registers, PciError> {
        let mut bus = Bus::new();
        bus.add(FUNCTION, &[(4, 0x4000, true)]);
        bus.capability(FUNCTION, 0x40, PCI_CAP_ID_VNDR, 0, &common);
        bus.capability(FUNCTION, 0x60, PCI_CAP_ID_VNDR, 0x40, &notify);
        let mut root = PciRoot::new(bus.clone());
        pci::place_bars(&mut root).unwrap();
        Registers::find(&mut root, &bus, FUNCTION)
    }

    #[test]
    fn registers_are_found() {
        let registers = find(body(1, 4, 0, 0x1000, 0), body(2, 4, 0x3000, 0x1000, 4)).unwrap();
        let start = pci::BARS.start;
        assert_eq!(
            registers.common,
            Region {
                address: start,
                len_bytes: 0x1000
            }
        );
        assert_eq!(registers.doorbell(1), Some(start + 0x3004));
        assert_eq!(registers.doorbell(0x3ff), Some(start + 0x3ffc));
        assert_eq!(registers.doorbell(0x400), None);
    }

    #[test]
    fn registers_that_make_no_sense_are_refused() {
        let common = body(1, 4, 0, 0x1000, 0);
        let notify = body(2, 4, 0x3000, 0x1000, 4);
        let outside = Err(PciError::OutsideBar(FUNCTION));
        assert_eq!(find(body(1, 4, 0x3800, 0x1000, 0), notify), outside);
        assert_eq!(find(body(1, 4, u32::MAX, 2, 0), notify), outside);
        assert_eq!(
            find(common, body(2, 3, 0, 4, 4)),
            Err(PciError::BadBar {
                function: FUNCTION,
                bar: 3
            })
        );
        let missing = |capability| {
            Err(PciError::Missing {
                function: FUNCTION,
                capability,
            })
        };
        assert_eq!(
            find(body(1, 4, 0, 8, 0), notify),
            missing("virtio 1.0 common configuration")
        );
        assert_eq!(find(common, common), missing("virtio 1.0 notification area"));
    }
}
