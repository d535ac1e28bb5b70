//! PCI bus 0: enumeration, BARs and capabilities.
//!
//! Two kinds of firmware run before us. SeaBIOS places every BAR; qboot places none and leaves the command
//! register at 0. So the BARs of the devices that we drive are placed here where nobody did, around those
//! that somebody did:
//!
//! ```text
//! b000_0000  ECAM, 256 MiB: configuration space, at this address under both kinds of firmware
//! c000_0000  BARs
//! fec0_0000  I/O APIC, LAPIC, flash
//! ```
//!
//! Configuration space is reached through virtio-drivers' [`ConfigurationAccess`], so that tests can put a
//! made-up bus under this code. What a device says of itself is checked before anyone computes with it.
//!
//! Deliberately absent: buses behind bridges, I/O space, hot plug.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use virtio_drivers::transport::pci::VIRTIO_VENDOR_ID;
use virtio_drivers::transport::pci::bus::{
    BarInfo, CapabilityInfo, Command, ConfigurationAccess, DeviceFunction, HeaderType, PciRoot,
};

/// Physical address of the configuration space.
pub const ECAM: u64 = 0xb000_0000;

/// Physical addresses for BARs.
pub const BARS: Range<u64> = 0xc000_0000..0xfec0_0000;

/// As many capabilities of 4 bytes as fit behind the header; a list that is longer runs in a circle.
const CAPABILITIES_MAX: usize = 48;

/// Largest BAR that is placed: none of our devices has more than 16 KiB.
const BAR_LEN_MAX: u64 = 16 << 20;

/// Why a device cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PciError {
    /// The BAR's type or length is none that there is, or it is absent.
    BadBar {
        /// The device.
        function: DeviceFunction,
        /// The BAR's index.
        bar: u8,
    },
    /// No room is left for BARs.
    NoRoom(DeviceFunction),
    /// The list of capabilities runs in a circle.
    CapabilityLoop(DeviceFunction),
    /// A structure that a capability describes does not lie in its BAR.
    OutsideBar(DeviceFunction),
    /// The device lacks a capability that its driver needs.
    Missing {
        /// The device.
        function: DeviceFunction,
        /// Which capability.
        capability: &'static str,
    },
}

impl fmt::Display for PciError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PciError::BadBar { function, bar } => write!(f, "PCI {function}: BAR {bar} is unusable"),
            PciError::NoRoom(function) => {
                write!(f, "PCI {function}: no room is left below 4 GiB for its BARs")
            }
            PciError::CapabilityLoop(function) => {
                write!(f, "PCI {function}: its list of capabilities never ends")
            }
            PciError::OutsideBar(function) => {
                write!(f, "PCI {function}: a capability points outside its BAR")
            }
            PciError::Missing { function, capability } => write!(f, "PCI {function}: it has no {capability}"),
        }
    }
}

/// Physical memory that belongs to a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// Physical address.
    pub address: u64,
    /// Length in bytes.
    pub len_bytes: u32,
}

/// The functions of bus 0 with a virtio device in them, in PCI order.
pub fn virtio_functions<C: ConfigurationAccess>(root: &PciRoot<C>) -> Vec<DeviceFunction> {
    let functions = root.enumerate_bus(0);
    functions
        .filter(|(_, info)| info.vendor_id == VIRTIO_VENDOR_ID)
        .map(|(function, _)| function)
        .collect()
}

/// A memory BAR without an address of use to us.
struct Unplaced {
    function: DeviceFunction,
    bar: u8,
    len: u64,
    wide: bool,
}

/// Gives every memory BAR of the virtio devices on bus 0 an address in [`BARS`], where it has none yet.
/// Those of other devices are left as they are.
///
/// # Errors
/// A virtio device's BAR makes no sense, or there is no room. BARs placed until then stay.
pub fn place_bars<C: ConfigurationAccess>(root: &mut PciRoot<C>) -> Result<(), PciError> {
    let mut taken: Vec<Range<u64>> = Vec::new();
    let mut unplaced: Vec<Unplaced> = Vec::new();
    let functions: Vec<_> = root.enumerate_bus(0).collect();
    for (function, info) in functions {
        let ours = info.vendor_id == VIRTIO_VENDOR_ID;
        if info.header_type != HeaderType::Standard {
            continue;
        }
        let mut bar = 0;
        while bar < 6 {
            let index = bar;
            bar += 1;
            let (address, len, wide) = match root.bar_info(function, index) {
                Ok(Some(BarInfo::Memory {
                    address,
                    size,
                    address_type,
                    ..
                })) => (address, size, u8::from(address_type) == 2),
                Ok(_) => continue,
                Err(_) if ours => return Err(PciError::BadBar { function, bar: index }),
                Err(_) => continue,
            };
            bar += u8::from(wide);
            if BARS.contains(&address) && address.checked_add(len).is_some_and(|end| end <= BARS.end) {
                taken.push(address..address + len);
            } else if ours {
                if !len.is_power_of_two() || len > BAR_LEN_MAX {
                    return Err(PciError::BadBar { function, bar: index });
                }
                unplaced.push(Unplaced {
                    function,
                    bar: index,
                    len,
                    wide,
                });
            }
        }
    }
    for Unplaced {
        function,
        bar,
        len,
        wide,
    } in unplaced
    {
        let address = free_place(&taken, len).ok_or(PciError::NoRoom(function))?;
        taken.push(address..address + len);
        // Below 4 GiB by the choice of BARS.
        if wide {
            root.set_bar_64(function, bar, address);
        } else {
            root.set_bar_32(function, bar, address as u32);
        }
    }
    Ok(())
}

/// The lowest multiple of `len` from which `len` bytes of [`BARS`] are free. Each collision moves the place
/// beyond one more taken range, so there are at most as many steps as ranges.
fn free_place(taken: &[Range<u64>], len: u64) -> Option<u64> {
    let mut address = BARS.start.next_multiple_of(len);
    while address + len <= BARS.end {
        match taken
            .iter()
            .find(|range| range.start < address + len && address < range.end)
        {
            Some(range) => address = range.end.next_multiple_of(len),
            None => return Some(address),
        }
    }
    None
}

/// Lets `function` answer at its memory BARs and read and write memory by itself; its interrupt pin stays
/// silent. (Memory space without bus mastering is a classic: the device looks alive and never answers.)
pub fn enable<C: ConfigurationAccess>(root: &mut PciRoot<C>, function: DeviceFunction) {
    root.set_command(
        function,
        Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE,
    );
}

/// The capabilities of `function`.
///
/// # Errors
/// The list runs in a circle.
pub fn capabilities<C: ConfigurationAccess>(
    root: &PciRoot<C>,
    function: DeviceFunction,
) -> Result<Vec<CapabilityInfo>, PciError> {
    let list: Vec<_> = root.capabilities(function).take(CAPABILITIES_MAX + 1).collect();
    if list.len() > CAPABILITIES_MAX {
        Err(PciError::CapabilityLoop(function))
    } else {
        Ok(list)
    }
}

/// The `len` bytes from `offset` on in the memory BAR with index `bar`.
///
/// # Errors
/// There is no such BAR, it has no address below 4 GiB, or it is too short.
pub fn region<C: ConfigurationAccess>(
    root: &mut PciRoot<C>,
    function: DeviceFunction,
    bar: u8,
    offset: u32,
    len_bytes: u32,
) -> Result<Region, PciError> {
    let bad = PciError::BadBar { function, bar };
    let info = if bar < 6 {
        root.bar_info(function, bar).map_err(|_| bad)?
    } else {
        None
    };
    let (start, size) = info.as_ref().and_then(BarInfo::memory_address_size).ok_or(bad)?;
    if !BARS.contains(&start) || start.checked_add(size).is_none_or(|end| end > BARS.end) {
        return Err(bad);
    }
    if u64::from(offset) + u64::from(len_bytes) > size {
        return Err(PciError::OutsideBar(function));
    }
    Ok(Region {
        address: start + u64::from(offset),
        len_bytes,
    })
}

#[cfg(test)]
#[path = "pci_tests.rs"]
pub(crate) mod tests;
