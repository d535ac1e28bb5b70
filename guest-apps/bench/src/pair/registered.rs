//! What a node's descriptor table adds to the pause: the experiment `metadata` with descriptors that are open.
//!
//! As many as a node can have open: 64 files, 16 UDP sockets and 8 listeners; 12 records that are of nothing make them 100. Before each
//! checkpoint every file is moved, so that the record of each has changed, and every socket is registered with `CPTREFRESH`: the
//! most that there can be to do.

use alloc::format;
use alloc::vec::Vec;

use hs_core::checkpoint::Flags;
use hs_core::platform::PAGE_LEN;
use hs_core::registry::descriptor::{FileMode, UdpFlags};
use hs_net::node::descriptors::{DescriptorError, Descriptors, Seek};
use hs_net::node::node;

use crate::Context;
use crate::failure::Failure;
use crate::library::pages::Pages;
use crate::library::registered;
use crate::library::taker::{Checkpoints, Taker};
use crate::rounds::{Point, Repeats, Subject, measure};

const FILES: usize = 64;
const SOCKETS: u16 = 16;
const LISTENERS: u16 = 8;
/// Of descriptors, and of threads.
const REGISTERED: usize = 100;
/// Numbers that the node's table does not have, of records without anything open.
const RECORDS_FROM: usize = 1000;
const RECORDS: usize = REGISTERED - FILES - SOCKETS as usize - LISTENERS as usize;
const PORT_FIRST: u16 = 7000;

/// With nothing registered but the worker itself (`both` at 0), with all of it (`both`), and with all of it while no file is moved
/// (`at-rest`). `dirty` is modified before each checkpoint. Nothing is
/// registered afterwards.
///
/// # Errors
/// Something cannot be opened or registered, or a checkpoint not taken.
pub(super) fn run(
    context: Context,
    taker: &Taker,
    pages: &Pages,
    dirty: &[usize],
    experiment: &'static str,
) -> Result<(), Failure> {
    let flags = Flags::ASYNC | Flags::INCREMENTAL;
    let at = |series: &str, count: usize, opened: &Opened| -> Result<(), Failure> {
        let mut subject = Moving {
            checkpoints: Checkpoints::new(taker, pages, dirty, flags)?,
            opened,
            offset: 0,
        };
        let measured = measure(Repeats::of(context, dirty.len()), &mut subject)?;
        let point = Point {
            experiment,
            x: count as f64,
            unit: "registered",
        };
        context.tell(measured.figure(&point, series, (dirty.len() * PAGE_LEN) as u64));
        Ok(())
    };
    let mut settling = Checkpoints::new(taker, pages, dirty, flags)?;
    measure(Repeats::SETTLING, &mut settling)?;
    at("both", 0, &Opened::default())?;
    let opened = Opened::all(node().descriptors())?;
    registered::descriptors(RECORDS_FROM..RECORDS_FROM + RECORDS)?;
    // The worker that measures is one of them.
    registered::threads(1..REGISTERED)?;
    // What was modified by all that goes ahead.
    taker.catch_up()?;
    at("at-rest", REGISTERED, &Opened::default())?;
    at("both", REGISTERED, &opened)?;
    registered::forget_threads(1..REGISTERED)?;
    registered::forget_descriptors(RECORDS_FROM..RECORDS_FROM + RECORDS)?;
    Ok(opened.close(node().descriptors())?)
}

/// The numbers of what is open and registered.
#[derive(Default)]
struct Opened {
    files: Vec<u32>,
    others: Vec<u32>,
}

impl Opened {
    fn all(descriptors: Descriptors) -> Result<Self, DescriptorError> {
        let mut opened = Opened::default();
        for index in 0..FILES {
            let number =
                descriptors.open(&format!("BENCH{index:03}.DAT"), FileMode::READ | FileMode::WRITE)?;
            opened.files.push(number);
            descriptors.register_file(number)?;
        }
        for index in 0..SOCKETS {
            let number = descriptors.open_udp()?;
            opened.others.push(number);
            descriptors.bind(number, PORT_FIRST + index)?;
            let flags = UdpFlags::GETNAME | UdpFlags::GETPEER | UdpFlags::CPTREFRESH;
            descriptors.register_udp(number, flags)?;
        }
        for index in 0..LISTENERS {
            let number = descriptors.listen(PORT_FIRST + index, 1)?;
            opened.others.push(number);
            descriptors.register_listener(number)?;
        }
        Ok(opened)
    }

    fn close(&self, descriptors: Descriptors) -> Result<(), DescriptorError> {
        let mut all = self.files.iter().chain(&self.others);
        all.try_for_each(|number| descriptors.close(*number))
    }
}

/// Checkpoints, before each of which every file is moved.
struct Moving<'a> {
    checkpoints: Checkpoints<'a>,
    opened: &'a Opened,
    offset: u64,
}

impl Subject for Moving<'_> {
    fn write(&mut self, value: u8) {
        self.checkpoints.write(value);
    }

    fn surround(&mut self) -> Result<(), Failure> {
        self.offset += 1;
        let descriptors = node().descriptors();
        for number in &self.opened.files {
            descriptors.seek(*number, Seek::Set(self.offset))?;
        }
        Ok(())
    }

    fn expect(&mut self) {
        self.checkpoints.expect();
    }

    fn checkpoint(&mut self) -> Result<u64, Failure> {
        self.checkpoints.checkpoint()
    }

    fn end(&mut self) -> Result<u64, Failure> {
        self.checkpoints.end()
    }
}
