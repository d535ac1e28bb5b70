//! Finds the virtio devices of bus 0 and starts them.
//!
//! If one of them cannot be used, the machine ends: without a card the others would change their meaning, and a disk that
//! was given is wanted.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;

use hs_core::event::Event;
use hs_core::platform::{Exit, Nic};
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::{Cam, DeviceFunction, MmioCam, PciRoot};
use virtio_drivers::transport::{DeviceType, Transport};

use super::blk::{BlkError, VirtioBlk};
use super::msix::Msix;
use super::net::{NetError, VirtioNet};
use super::pci::{self, PciError};
use super::virtio::{DmaHal, Registers};
use crate::files::disk::{BLOCK_LEN, Disk};
use crate::mem;

/// The CPU that interrupts go to: the only one.
pub(super) const CPU: u8 = 0;

/// The devices of this machine.
pub struct Devices {
    /// In PCI order: the first is the service network's, the second the cluster link's.
    pub nics: &'static [&'static dyn Nic],
    /// The first in PCI order, if there is one.
    pub disk: Option<VirtioBlk>,
}

/// Why a device cannot be used.
enum ProbeError {
    /// Its place on the bus.
    Pci(PciError),
    /// virtio-drivers does not find its structures.
    Transport(DeviceFunction),
    Net(NetError),
    Blk(BlkError),
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeError::Pci(error) => write!(f, "{error}"),
            ProbeError::Transport(function) => {
                write!(f, "PCI {function}: its virtio structures are none that there are")
            }
            ProbeError::Net(error) => write!(f, "{error}"),
            ProbeError::Blk(error) => write!(f, "{error}"),
        }
    }
}

impl ProbeError {
    /// What it is about.
    fn what(&self) -> &'static str {
        match self {
            ProbeError::Pci(_) | ProbeError::Transport(_) => "device",
            ProbeError::Net(_) => "network card",
            ProbeError::Blk(_) => "disk",
        }
    }
}

impl From<PciError> for ProbeError {
    fn from(error: PciError) -> Self {
        ProbeError::Pci(error)
    }
}

/// Finds and starts all network cards and the disk. Called once, at boot.
pub fn probe() -> Devices {
    start_all().unwrap_or_else(|error| {
        log::error!("{error}");
        super::events::emit(&Event::Refused {
            what: error.what().into(),
            why: error.to_string(),
        });
        super::exit::exit(Exit::Refused)
    })
}

fn start_all() -> Result<Devices, ProbeError> {
    // SAFETY: both firmwares leave the configuration space there; only this function uses it, once, at boot.
    let configuration = || unsafe { MmioCam::new(mem::mmio(pci::ECAM), Cam::Ecam) };
    let mut root = PciRoot::new(configuration());
    pci::place_bars(&mut root)?;
    let mut nics = Vec::new();
    let mut disk = None;
    for function in pci::virtio_functions(&root) {
        pci::enable(&mut root, function);
        let registers = Registers::find(&mut root, &configuration(), function)?;
        let mut transport = PciTransport::new::<DmaHal, _>(&mut root, function)
            .map_err(|_| ProbeError::Transport(function))?;
        match transport.device_type() {
            DeviceType::Network => {
                let msix = Msix::find(&mut root, &configuration(), function)?;
                let card =
                    VirtioNet::start(function, &mut transport, &registers, &msix, &mut configuration())
                        .map_err(ProbeError::Net)?;
                nics.push(card as &dyn Nic);
            }
            DeviceType::Block if disk.is_none() => {
                let msix = Msix::find(&mut root, &configuration(), function)?;
                let found =
                    VirtioBlk::start(function, &mut transport, &registers, &msix, &mut configuration())
                        .map_err(ProbeError::Blk)?;
                log::info!(
                    "virtio-blk {function}: {} MiB",
                    (found.blocks() * BLOCK_LEN as u64) >> 20
                );
                disk = Some(found);
            }
            _ => continue,
        }
        // Dropping it would reset the device.
        core::mem::forget(transport);
    }
    Ok(Devices {
        nics: nics.leak(),
        disk,
    })
}
