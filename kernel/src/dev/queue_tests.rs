use std::alloc::{Layout, alloc_zeroed};
use std::collections::{BTreeSet, VecDeque};
use std::vec::Vec;

use proptest::prelude::*;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus};
use virtio_drivers::{PhysAddr, Result};

use super::*;

/// The host's memory, where virtual addresses do for physical ones. Never freed, as on the real machine.
struct HostHal;

// SAFETY: fresh zeroed pages each time.
unsafe impl Hal for HostHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let layout = Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE).unwrap();
        // SAFETY: not of length 0.
        let bytes = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
        (bytes.as_ptr().expose_provenance() as u64, bytes)
    }

    unsafe fn dma_dealloc(_physical: PhysAddr, _bytes: NonNull<u8>, _pages: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_physical: PhysAddr, _len: usize) -> NonNull<u8> {
        unreachable!("the made-up device has no registers")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        buffer.as_ptr().expose_provenance() as u64
    }

    unsafe fn unshare(_physical: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

/// The device's side of a queue, as the specification draws it.
#[derive(Default)]
struct Device {
    descriptors: u64,
    available: u64,
    used: u64,
    seen: u16,
}

impl Device {
    fn word<T: Copy>(address: u64) -> T {
        // SAFETY: an address inside the rings or a descriptor's buffer, as the driver has told us.
        unsafe { core::ptr::with_exposed_provenance::<T>(address as usize).read_volatile() }
    }

    fn set<T>(address: u64, value: T) {
        // SAFETY: as in `word`.
        unsafe { core::ptr::with_exposed_provenance_mut::<T>(address as usize).write_volatile(value) }
    }

    /// The next descriptor that the driver has made available.
    fn next(&mut self) -> Option<u16> {
        if Self::word::<u16>(self.available + 2) == self.seen {
            return None;
        }
        let slot = u64::from(self.seen) % QUEUE_LEN as u64;
        self.seen = self.seen.wrapping_add(1);
        Some(Self::word(self.available + 4 + slot * 2))
    }

    /// Address and length of what descriptor `index` describes.
    fn buffer(&self, index: u16) -> (u64, u32) {
        let at = self.descriptors + u64::from(index) * 16;
        (Self::word(at), Self::word(at + 8))
    }

    /// Says that it has used descriptor `index`, and written `len` bytes.
    fn complete(&mut self, index: u32, len: u32) {
        let end: u16 = Self::word(self.used + 2);
        let at = self.used + 4 + u64::from(end) % QUEUE_LEN as u64 * 8;
        Self::set(at, index);
        Self::set(at + 4, len);
        Self::set(self.used + 2, end.wrapping_add(1));
    }
}

impl Transport for Device {
    fn device_type(&self) -> DeviceType {
        DeviceType::Network
    }

    fn read_device_features(&mut self) -> u64 {
        0
    }

    fn write_driver_features(&mut self, _features: u64) {}

    fn max_queue_size(&mut self, _queue: u16) -> u32 {
        QUEUE_LEN as u32
    }

    fn notify(&mut self, _queue: u16) {}

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::empty()
    }

    fn set_status(&mut self, _status: DeviceStatus) {}

    fn set_guest_page_size(&mut self, _len: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(&mut self, _queue: u16, _len: u32, descriptors: u64, available: u64, used: u64) {
        (self.descriptors, self.available, self.used) = (descriptors, available, used);
    }

    fn queue_unset(&mut self, _queue: u16) {}

    fn queue_used(&mut self, _queue: u16) -> bool {
        false
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }

    fn read_config_generation(&self) -> u32 {
        0
    }

    fn read_config_space<T>(&self, _offset: usize) -> Result<T> {
        Err(Error::ConfigSpaceMissing)
    }

    fn write_config_space<T>(&mut self, _offset: usize, _value: T) -> Result<()> {
        Err(Error::ConfigSpaceMissing)
    }
}

const LEN: usize = 100;

fn pair() -> (Queue<HostHal>, Device, Vec<Buffer>) {
    let mut device = Device::default();
    let queue = Queue::new(&mut device, 0).unwrap();
    (
        queue,
        device,
        Buffer::allocate::<HostHal>(QUEUE_LEN, LEN).unwrap(),
    )
}

fn place(buffer: &Buffer) -> usize {
    buffer.as_ptr().addr()
}

#[test]
fn buffers_are_zeroed_and_disjoint() {
    let buffers = Buffer::allocate::<HostHal>(QUEUE_LEN, LEN).unwrap();
    assert_eq!(buffers.len(), QUEUE_LEN);
    let places: BTreeSet<_> = buffers.iter().map(place).collect();
    assert!(
        places
            .iter()
            .zip(places.iter().skip(1))
            .all(|(low, high)| high - low >= LEN)
    );
    assert!(
        buffers
            .iter()
            .all(|buffer| buffer.len() == LEN && buffer.iter().all(|&byte| byte == 0))
    );
}

#[test]
fn suppression_flags_are_where_the_device_looks() {
    let (mut queue, device, mut buffers) = pair();
    queue.forbid_interrupts();
    assert_eq!(Device::word::<u16>(device.available), 1);
    assert!(!queue.allow_interrupts());
    assert_eq!(Device::word::<u16>(device.available), 0);
    assert!(queue.wants_notification());
    Device::set(device.used, 1u16);
    assert!(!queue.wants_notification());
    let mut device = device;
    queue.give_writable(buffers.pop().unwrap());
    let index = device.next().unwrap();
    device.complete(u32::from(index), 1);
    assert!(queue.allow_interrupts());
}

/// What a device can say that it cannot mean.
#[derive(Clone, Debug)]
enum Lie {
    /// A descriptor beyond the queue.
    Beyond(u32),
    /// A descriptor that it never had.
    NotHeld(u8),
    /// One that it has returned already.
    Twice,
}

proptest! {
    /// Buffers are neither lost nor doubled, and each comes back with what the device did to it, in whatever
    /// order the device works and whatever lengths it claims.
    #[test]
    fn every_buffer_comes_back_once_with_its_contents(
        steps in proptest::collection::vec((0u8..4, any::<u8>(), any::<u32>()), 1..2000)
    ) {
        let (mut queue, mut device, mut own) = pair();
        let mut held: Vec<u16> = Vec::new();
        let mut expected: VecDeque<(usize, u8, usize)> = VecDeque::new();
        for (what, pick, len) in steps {
            match what {
                0 => if let Some(mut buffer) = own.pop() {
                    if pick.is_multiple_of(2) {
                        queue.give_writable(buffer);
                    } else {
                        buffer.fill(pick);
                        queue.give_readable(buffer, usize::from(pick) % LEN + 1);
                    }
                },
                1 => held.extend(device.next()),
                2 if !held.is_empty() => {
                    let index = held.swap_remove(usize::from(pick) % held.len());
                    let (address, _) = device.buffer(index);
                    Device::set(address, pick);
                    device.complete(u32::from(index), len);
                    expected.push_back((address as usize, pick, LEN.min(len as usize)));
                }
                _ => match queue.take().unwrap() {
                    None => prop_assert!(expected.is_empty()),
                    Some((buffer, len)) => {
                        let found = (place(&buffer), buffer[0], len);
                        prop_assert_eq!(Some(found), expected.pop_front());
                        prop_assert!(own.iter().all(|other| place(other) != place(&buffer)));
                        own.push(buffer);
                    }
                },
            }
        }
    }

    /// A lie is noticed when its turn comes, once, and nothing is believed after it.
    #[test]
    fn a_lie_breaks_the_queue_and_nothing_else(
        given in 1usize..QUEUE_LEN,
        honest in 0usize..QUEUE_LEN,
        lie in prop_oneof![
            (QUEUE_LEN as u32..0x1_0000).prop_map(Lie::Beyond),
            any::<u8>().prop_map(Lie::NotHeld),
            Just(Lie::Twice),
        ],
    ) {
        let (mut queue, mut device, mut own) = pair();
        for buffer in own.drain(..given) {
            queue.give_writable(buffer);
        }
        let held: Vec<u16> = core::iter::from_fn(|| device.next()).collect();
        let honest = honest.min(given);
        for &index in &held[..honest] {
            device.complete(u32::from(index), 5);
        }
        match lie {
            Lie::Beyond(index) => device.complete(index, 5),
            Lie::NotHeld(index) => {
                prop_assume!(!held.contains(&u16::from(index)));
                device.complete(u32::from(index), 5);
            }
            Lie::Twice => {
                prop_assume!(honest > 0);
                device.complete(u32::from(held[0]), 5);
            }
        }
        for &index in &held[honest..] {
            device.complete(u32::from(index), 5);
        }
        for _ in 0..honest {
            prop_assert!(queue.take().unwrap().is_some());
        }
        prop_assert_eq!(queue.take().err(), Some(Broken));
        prop_assert!(queue.take().unwrap().is_none());
        prop_assert!(!queue.allow_interrupts() && !queue.wants_notification());
    }
}

/// The indices wrap at 16 bits, which is where a check without wrapping stops for good.
#[test]
fn goes_on_beyond_64_ki_buffers() {
    let (mut queue, mut device, mut own) = pair();
    for round in 0..70_000u32 {
        queue.give_readable(own.pop().unwrap(), 1 + round as usize % LEN);
        assert!(queue.wants_notification());
        let index = device.next().unwrap();
        assert_eq!(device.buffer(index).1, 1 + round % LEN as u32);
        device.complete(u32::from(index), 0);
        own.push(queue.take().unwrap().unwrap().0);
    }
    assert_eq!(own.len(), QUEUE_LEN);
}

/// A request is two descriptors: what the device reads, and behind it what it writes.
#[test]
fn a_request_comes_back_with_its_answer() {
    let (mut queue, mut device, mut own) = pair();
    let buffer = own.pop().unwrap();
    let start = place(&buffer);
    queue.give_request(buffer, 16, 60);
    let index = device.next().unwrap();
    let descriptor = |index: u16| device.descriptors + u64::from(index) * 16;
    let (has_next, next) = (
        Device::word::<u16>(descriptor(index) + 12),
        Device::word::<u16>(descriptor(index) + 14),
    );
    assert_eq!((device.buffer(index), has_next), ((start as u64, 16), 1));
    let writable = Device::word::<u16>(descriptor(next) + 12);
    assert_eq!((device.buffer(next), writable), ((start as u64 + 16, 44), 2));
    Device::set(start as u64 + 59, 7u8);
    device.complete(u32::from(index), 44);
    let (buffer, len) = queue.take().unwrap().unwrap();
    assert_eq!((place(&buffer), buffer[59], len), (start, 7, 44));
    // Both descriptors are free again.
    for buffer in core::iter::once(buffer).chain(own) {
        queue.give_writable(buffer);
    }
}
