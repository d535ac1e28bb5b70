//! The guest as the library and the application see it: the kernel behind the traits of `hs_core::platform`.

use alloc::boxed::Box;
use core::sync::atomic::AtomicU32;
use core::time::Duration;

use hs_core::class::outside_classes;
use hs_core::event::Event;
use hs_core::plain::PlainMemory;
use hs_core::platform::{
    CheckpointMemory, ChildBody, Console, Cptctl, CptctlError, CptforkError, EndedHook, Exit, Files, Instant,
    Machine, MapError, Nic, PAGE_LEN, PageRange, Priority, SpawnError, StagedPage, Statics, THREAD_SLOTS,
    View,
};
use spin::Once;

use crate::mem::frames::{self, PhysFrame};
use crate::mem::layout;
use crate::options::{Cptfork, Options};
use crate::{cpt, dev, entropy, mem, thread, time};

/// The machine that this image runs on. There is one, made at boot.
pub struct Guest {
    options: Options,
    nics: &'static [&'static dyn Nic],
    files: Option<&'static dyn Files>,
    /// In place of our own `cptfork`, if the command line said so.
    plain: Once<PlainMemory>,
}

impl Guest {
    pub(crate) const fn new(
        options: Options,
        nics: &'static [&'static dyn Nic],
        files: Option<&'static dyn Files>,
    ) -> Self {
        Guest {
            options,
            nics,
            files,
            plain: Once::new(),
        }
    }

    /// The checkpointable memory, frozen as the command line said (`hs.cptfork`).
    pub fn memory(&'static self) -> &'static dyn CheckpointMemory {
        match self.options.cptfork {
            Cptfork::Kernel(_) => self,
            Cptfork::Plain => {
                let ncon = self
                    .options
                    .pair
                    .as_ref()
                    .map_or(cpt::CHILDREN_MAX, |pair| pair.ncon);
                self.plain.call_once(|| PlainMemory::new(self, ncon))
            }
        }
    }

    /// What the command line said.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The network cards in the order of their PCI slots: by convention the service network's first, then the
    /// cluster link's.
    pub fn nics(&self) -> &'static [&'static dyn Nic] {
        self.nics
    }
}

impl Machine for Guest {
    fn now(&self) -> Instant {
        time::now()
    }

    fn wall_clock(&self) -> Duration {
        time::wall_clock()
    }

    fn random_u64(&self) -> u64 {
        entropy::random_u64()
    }

    fn spawn(
        &self,
        name: &'static str,
        priority: Priority,
        body: Box<dyn FnOnce() + Send>,
    ) -> Result<(), SpawnError> {
        thread::spawn(name, priority, thread::STACK_LEN, body).map(drop)
    }

    fn thread_slot(&self) -> usize {
        const { assert!(thread::THREADS_MAX <= THREAD_SLOTS) };
        thread::current_slot()
    }

    fn yield_now(&self) {
        thread::yield_now();
    }

    fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>) {
        thread::wait(word, expected, deadline);
    }

    fn wake(&self, word: &AtomicU32, count: usize) {
        thread::wake(word, count);
    }

    fn lock_taken(&self) {
        thread::lock_taken();
    }

    fn lock_released(&self) {
        thread::lock_released();
    }

    fn scope(&self) -> usize {
        thread::scope()
    }

    fn swap_scope(&self, scope: usize) -> usize {
        thread::swap_scope(scope)
    }

    fn files(&self) -> Option<&'static dyn Files> {
        self.files
    }

    fn console(&self) -> Option<&'static dyn Console> {
        dev::console::console()
    }

    fn emit(&self, event: &Event) {
        outside_classes(|| dev::events::emit(event));
    }

    fn build_id(&self) -> [u8; 20] {
        layout::build_id()
    }

    fn is_code(&self, address: usize) -> bool {
        layout::text().contains(&address)
    }

    fn exit(&self, exit: Exit) -> ! {
        // A power cut waits for nothing.
        if exit != Exit::Fault {
            dev::console::drain();
        }
        dev::exit::exit(exit)
    }
}

impl CheckpointMemory for Guest {
    fn window(&self) -> PageRange {
        cpt::window::window()
    }

    fn statics(&self) -> Option<Statics> {
        let range = layout::statics();
        Some(Statics {
            range: PageRange::new(range.start, range.len() / PAGE_LEN)?,
            initial: layout::statics_initial_bytes(),
        })
    }

    fn map(&self, range: PageRange) -> Result<(), MapError> {
        cpt::window::map(range)
    }

    fn unmap(&self, range: PageRange) -> Result<(), MapError> {
        cpt::window::unmap(range)
    }

    fn cptctl(&self, request: Cptctl<'_>) -> Result<usize, CptctlError> {
        cpt::window::cptctl(request)
    }

    fn cptfork_then(&self, view: View, child: ChildBody, ended: EndedHook) -> Result<(), CptforkError> {
        cpt::cptfork(view, cpt::Other::Share, child, ended)
    }

    fn stage(&self) -> Option<StagedPage> {
        let frame = frames::allocate()?;
        // SAFETY: the frame is new and ours; whoever owns the page gives it back through `place` or `unstage`.
        let bytes = unsafe { &mut *frame.bytes() };
        Some(StagedPage::new(bytes, crate::guest()))
    }

    fn place(&self, address: usize, page: StagedPage) -> Result<(), MapError> {
        let frame = staged_frame(page.into_bytes());
        cpt::window::place(address, frame).map_err(|frame| {
            frames::release(frame);
            PageRange::new(address / PAGE_LEN * PAGE_LEN, 1).map_or(MapError::OutOfFrames, MapError::Conflict)
        })
    }

    fn patch(&self, address: usize, change: &mut dyn FnMut(&mut [u8; PAGE_LEN])) -> Result<(), MapError> {
        cpt::window::patch(address, change)
    }

    fn unstage(&self, bytes: &'static mut [u8; PAGE_LEN]) {
        frames::release(staged_frame(bytes));
    }
}

/// The frame behind a page that `stage` gave out.
fn staged_frame(bytes: &'static mut [u8; PAGE_LEN]) -> PhysFrame {
    PhysFrame::at(mem::virt_to_phys(bytes.as_ptr()))
}
