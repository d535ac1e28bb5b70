use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// One function's configuration space: its bytes, and the bits of its BARs that hold.
struct Space {
    words: [u32; 64],
    bar_masks: [u32; 6],
}

/// A made-up bus. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Bus(Rc<RefCell<BTreeMap<(u8, u8), Space>>>);

impl Bus {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a virtio device with memory BARs (index, length, 64 bits wide) that have no place.
    pub(crate) fn add(&mut self, function: DeviceFunction, bars: &[(u8, u64, bool)]) {
        let mut space = Space {
            words: [0; 64],
            bar_masks: [0; 6],
        };
        space.words[0] = 0x1041_0000 | u32::from(VIRTIO_VENDOR_ID);
        for &(bar, len, wide) in bars {
            let mask = !(len - 1);
            let index = usize::from(bar);
            space.bar_masks[index] = mask as u32;
            if wide {
                space.words[4 + index] = 0b100;
                space.bar_masks[index + 1] = (mask >> 32) as u32;
            }
        }
        self.0
            .borrow_mut()
            .insert((function.device, function.function), space);
    }

    /// Writes a capability with `body` behind its two header bytes, and puts it at the head of the list.
    pub(crate) fn capability(&mut self, function: DeviceFunction, offset: u8, id: u8, next: u8, body: &[u8]) {
        let mut spaces = self.0.borrow_mut();
        let space = spaces.get_mut(&(function.device, function.function)).unwrap();
        space.words[1] |= 1 << 20;
        space.words[13] = u32::from(offset);
        for (at, byte) in [id, next].iter().chain(body).enumerate() {
            let at = usize::from(offset) + at;
            let shift = at % 4 * 8;
            space.words[at / 4] = space.words[at / 4] & !(0xff << shift) | u32::from(*byte) << shift;
        }
    }

    fn word(&self, function: DeviceFunction, index: usize) -> u32 {
        self.0.borrow()[&(function.device, function.function)].words[index]
    }

    fn set_word(&self, function: DeviceFunction, index: usize, value: u32) {
        self.0
            .borrow_mut()
            .get_mut(&(function.device, function.function))
            .unwrap()
            .words[index] = value;
    }
}

impl ConfigurationAccess for Bus {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        let spaces = self.0.borrow();
        spaces
            .get(&(function.device, function.function))
            .map_or(u32::MAX, |space| space.words[usize::from(offset / 4)])
    }

    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        let mut spaces = self.0.borrow_mut();
        let Some(space) = spaces.get_mut(&(function.device, function.function)) else {
            return;
        };
        let index = usize::from(offset / 4);
        space.words[index] = match index {
            1 => space.words[1] & 0xffff_0000 | data & 0xffff,
            4..=9 => {
                data & space.bar_masks[index - 4] | space.words[index] & 0xf & !space.bar_masks[index - 4]
            }
            _ => data,
        };
    }

    unsafe fn unsafe_clone(&self) -> Self {
        self.clone()
    }
}

fn function(device: u8) -> DeviceFunction {
    DeviceFunction {
        bus: 0,
        device,
        function: 0,
    }
}

#[test]
fn unplaced_bars_get_a_place_and_the_device_its_rights() {
    let mut bus = Bus::new();
    bus.add(function(2), &[(1, 0x1000, false), (4, 0x4000, true)]);
    bus.add(function(3), &[(1, 0x1000, false), (4, 0x4000, true)]);
    let mut root = PciRoot::new(bus.clone());
    place_bars(&mut root).unwrap();
    assert_eq!(bus.word(function(2), 5), 0xc000_0000);
    assert_eq!(bus.word(function(2), 8), 0xc000_4004);
    assert_eq!(bus.word(function(2), 9), 0);
    assert_eq!(bus.word(function(3), 5), 0xc000_1000);
    assert_eq!(bus.word(function(3), 8), 0xc000_8004);
    enable(&mut root, function(2));
    assert_eq!(bus.word(function(2), 1) & 0xffff, 0x406);
    assert_eq!(virtio_functions(&root), [function(2), function(3)]);
}

#[test]
fn placed_bars_stay_and_those_beyond_4_gib_come_down() {
    let mut bus = Bus::new();
    bus.add(function(2), &[(1, 0x1000, false), (4, 0x4000, true)]);
    bus.set_word(function(2), 5, 0xc000_0000);
    bus.set_word(function(2), 9, 0x38);
    let mut root = PciRoot::new(bus.clone());
    place_bars(&mut root).unwrap();
    assert_eq!(bus.word(function(2), 5), 0xc000_0000);
    assert_eq!(
        (bus.word(function(2), 8), bus.word(function(2), 9)),
        (0xc000_4004, 0)
    );
}

#[test]
fn a_bar_too_large_is_refused() {
    let mut bus = Bus::new();
    bus.add(function(2), &[(0, 32 << 20, false)]);
    let error = place_bars(&mut PciRoot::new(bus)).unwrap_err();
    assert_eq!(
        error,
        PciError::BadBar {
            function: function(2),
            bar: 0
        }
    );
}

#[test]
fn a_circle_of_capabilities_is_refused() {
    let mut bus = Bus::new();
    bus.add(function(2), &[]);
    bus.capability(function(2), 0x40, 9, 0x50, &[]);
    bus.capability(function(2), 0x50, 9, 0x40, &[]);
    assert_eq!(
        capabilities(&PciRoot::new(bus), function(2)).unwrap_err(),
        PciError::CapabilityLoop(function(2))
    );
}

#[test]
fn regions_stay_inside_their_bars() {
    let mut bus = Bus::new();
    bus.add(function(2), &[(4, 0x4000, true)]);
    let mut root = PciRoot::new(bus);
    place_bars(&mut root).unwrap();
    let region_of = |root: &mut PciRoot<Bus>, bar, offset, len| region(root, function(2), bar, offset, len);
    let start = BARS.start;
    assert_eq!(
        region_of(&mut root, 4, 0x1000, 0x3000),
        Ok(Region {
            address: start + 0x1000,
            len_bytes: 0x3000
        })
    );
    assert_eq!(
        region_of(&mut root, 4, 0x1000, 0x3001),
        Err(PciError::OutsideBar(function(2)))
    );
    assert_eq!(
        region_of(&mut root, 4, u32::MAX, u32::MAX),
        Err(PciError::OutsideBar(function(2)))
    );
    for bar in [0, 5, 6, 255] {
        assert_eq!(
            region_of(&mut root, bar, 0, 1),
            Err(PciError::BadBar {
                function: function(2),
                bar
            })
        );
    }
}

proptest! {
    /// However many BARs there are, and wherever firmware put some of them: after placing, all lie in the
    /// window, aligned, and none overlaps another.
    #[test]
    fn places_are_aligned_and_disjoint(
        devices in proptest::collection::vec(
            (0u32..13, any::<bool>(), proptest::option::of(0u64..64), 0u32..13, proptest::option::of(0u64..64)),
            1..20,
        )
    ) {
        let mut bus = Bus::new();
        let mut firmware: Vec<Range<u64>> = Vec::new();
        for (device, (narrow, wide, at, second, second_at)) in devices.iter().enumerate() {
            let function = function(device as u8);
            let lens = [0x10u64 << narrow, 0x10u64 << second];
            bus.add(function, &[(0, lens[0], *wide), (2, lens[1], false)]);
            for (len, at, word) in [(lens[0], at, 4), (lens[1], second_at, 6)] {
                let Some(at) = at else { continue };
                let address = BARS.start + at * 0x1_0000;
                let range = address..address + len;
                if firmware.iter().all(|other| other.end <= range.start || range.end <= other.start) {
                    firmware.push(range);
                    bus.set_word(function, word, bus.word(function, word) | address as u32);
                }
            }
        }
        let mut root = PciRoot::new(bus);
        place_bars(&mut root).unwrap();
        let mut ranges = Vec::new();
        for device in 0..devices.len() {
            for bar in root.bars(function(device as u8)).unwrap().into_iter().flatten() {
                let (address, len) = bar.memory_address_size().unwrap();
                prop_assert!(address >= BARS.start && address + len <= BARS.end && address % len == 0);
                ranges.push(address..address + len);
            }
        }
        prop_assert_eq!(ranges.len(), devices.len() * 2);
        ranges.sort_by_key(|range| range.start);
        prop_assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }
}
