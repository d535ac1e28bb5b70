//! MSI-X: an interrupt is a write to the LAPIC that the device does by itself.
//!
//! ```text
//! capability 0x11     +0  id, next, control: bits 0-10 entries − 1, 14 mask all, 15 enable
//!                     +4  table: bits 0-2 BAR, the rest its offset
//! table entry (16 B)  +0  address: fee_0000_0 | destination CPU << 12     +4  its upper half
//!                     +8  data: the vector                                +12 control: bit 0 mask
//! ```
//!
//! virtio-drivers does not do this, so we do.

use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction, PciRoot};

use super::pci::{self, PciError, Region};

const CAPABILITY_MSIX: u8 = 0x11;
const CONTROL_ENABLE: u32 = 1 << 31;
const CONTROL_MASK_ALL: u32 = 1 << 30;
const ENTRY_LEN: u32 = 16;

/// A device's MSI-X table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Msix {
    function: DeviceFunction,
    /// Offset of the capability in configuration space.
    capability: u8,
    /// Number of entries.
    entries: u16,
    table: Region,
}

impl Msix {
    /// Finds the table of `function`, whose BARs have their places.
    ///
    /// # Errors
    /// It has none, or describes it wrongly.
    pub fn find<C: ConfigurationAccess>(
        root: &mut PciRoot<C>,
        configuration: &C,
        function: DeviceFunction,
    ) -> Result<Self, PciError> {
        let capability = pci::capabilities(root, function)?
            .into_iter()
            .find(|capability| capability.id == CAPABILITY_MSIX && capability.offset <= 0xf4)
            .ok_or(PciError::Missing {
                function,
                capability: "MSI-X capability",
            })?;
        let entries = (capability.private_header & 0x7ff) + 1;
        let table = configuration.read_word(function, capability.offset + 4);
        let len_bytes = u32::from(entries) * ENTRY_LEN;
        let table = pci::region(root, function, (table & 0b111) as u8, table & !0b111, len_bytes)?;
        Ok(Self {
            function,
            capability: capability.offset,
            entries,
            table,
        })
    }

    /// Number of entries.
    pub fn entries(&self) -> u16 {
        self.entries
    }

    /// Lets the device use its entries, and no longer its interrupt pin.
    pub fn enable<C: ConfigurationAccess>(&self, configuration: &mut C) {
        let control = configuration.read_word(self.function, self.capability);
        configuration.write_word(
            self.function,
            self.capability,
            control & !CONTROL_MASK_ALL | CONTROL_ENABLE,
        );
    }

    /// Points entry `index` at `vector` of the CPU with the LAPIC id `cpu`, and unmasks it.
    ///
    /// # Panics
    /// If there is no such entry.
    #[cfg(not(test))]
    pub fn set(&self, index: u16, vector: u8, cpu: u8) {
        assert!(index < self.entries, "MSI-X entry {index} of {}", self.entries);
        let entry = self.table.address + u64::from(u32::from(index) * ENTRY_LEN);
        let words = [0xfee0_0000 | u32::from(cpu) << 12, 0, u32::from(vector), 0];
        for (word, value) in words.into_iter().enumerate() {
            let register = crate::mem::mmio(entry + 4 * word as u64).cast::<u32>();
            // SAFETY: inside the table, which lies inside a BAR, as `find` has checked; 4-byte aligned
            // because a BAR is, and the table's offset in it is a multiple of 8.
            unsafe { register.write_volatile(value) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::pci::tests::Bus;

    #[test]
    fn a_table_is_found_and_enabled() {
        let function = DeviceFunction {
            bus: 0,
            device: 2,
            function: 0,
        };
        let mut bus = Bus::new();
        bus.add(function, &[(1, 0x1000, false)]);
        bus.capability(
            function,
            0x98,
            CAPABILITY_MSIX,
            0,
            &[2, 0, 0x01, 0x08, 0, 0, 0, 0, 0, 0],
        );
        let mut root = PciRoot::new(bus.clone());
        pci::place_bars(&mut root).unwrap();
        let msix = Msix::find(&mut root, &bus, function).unwrap();
        assert_eq!(msix.entries(), 3);
        assert_eq!(
            msix.table,
            Region {
                address: pci::BARS.start + 0x800,
                len_bytes: 48
            }
        );
        msix.enable(&mut bus);
        assert_eq!(bus.read_word(function, 0x98) & 0xc7ff_0000, 0x8002_0000);
    }

    #[test]
    fn a_table_outside_its_bar_is_refused() {
        let function = DeviceFunction {
            bus: 0,
            device: 2,
            function: 0,
        };
        let mut bus = Bus::new();
        bus.add(function, &[(1, 0x1000, false)]);
        bus.capability(
            function,
            0x98,
            CAPABILITY_MSIX,
            0,
            &[0xff, 0x07, 0x01, 0x08, 0, 0, 0, 0, 0, 0],
        );
        let mut root = PciRoot::new(bus.clone());
        pci::place_bars(&mut root).unwrap();
        assert_eq!(
            Msix::find(&mut root, &bus, function),
            Err(PciError::OutsideBar(function))
        );
    }

    #[test]
    fn a_device_without_one_is_refused() {
        let function = DeviceFunction {
            bus: 0,
            device: 2,
            function: 0,
        };
        let mut bus = Bus::new();
        bus.add(function, &[]);
        let error = Msix::find(&mut PciRoot::new(bus.clone()), &bus, function).unwrap_err();
        assert_eq!(std::format!("{error}"), "PCI 00:02.0: it has no MSI-X capability");
    }
}
