//! Hooks: functions of the application that the library calls in the course of a checkpoint, and after a restore.
//!
//! The thesis regrets under BUGS of `hs_cpt` that there is no "way to register application-defined hooks that will be called
//! once information required for incremental checkpointing is available". Here there are three moments:
//!
//! - **freeze**: on the thread that takes the checkpoint, within its pause. The gate is closed and the service stack is quiet;
//!   classes can be allocated from. The locks of the service stack and of the descriptors are held: a hook that asks for one
//!   waits for ever.
//! - **child**: on the checkpoint's own thread, beside the application, with the [frozen view](FrozenView) of the memory. Before
//!   anything is sent. It must not touch checkpointable memory but through the view, and has a small stack.
//! - **restore**: at a takeover, when memory, descriptors, signals and the service's address are in place, before the workers
//!   start.
//!
//! Hooks lie in the library's tables and are restored with them. Those of one moment are called in the order of their
//! registration. One that refuses ends it: the rest are not called, and there is no checkpoint (or no takeover). What those
//! before it did is not undone.
//!
//! Deliberately absent: a section of the checkpoint. Hooks are addresses of code, and mean nothing without the memory.

mod view;

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

pub use self::view::{FrozenView, Number};
use crate::library::{self, HOOKS_MAX, HookEntry, Library, NotStarted};
use crate::platform::Frozen;
use crate::raw;

/// What a hook returns: `Err` says why there may be no checkpoint, for a person.
pub type Verdict = Result<(), &'static str>;

/// What a child hook has to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// What this checkpoint sends: of an incremental one only what was modified since the last. To look at another page is
    /// refused.
    Checkpoint,
    /// Everything: all memory is frozen for such a hook, although an incremental checkpoint sends only what was modified.
    Whole,
}

/// When a hook is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// In the pause of a checkpoint.
    Freeze,
    /// In a checkpoint's child.
    Child(Sight),
    /// At a takeover.
    Restore,
}

impl Moment {
    const ALL: [Moment; 4] = [
        Moment::Freeze,
        Moment::Child(Sight::Checkpoint),
        Moment::Child(Sight::Whole),
        Moment::Restore,
    ];

    const fn number(self) -> u32 {
        match self {
            Moment::Freeze => 1,
            Moment::Child(Sight::Checkpoint) => 2,
            Moment::Child(Sight::Whole) => 3,
            Moment::Restore => 4,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Moment::Freeze => "freeze",
            Moment::Child(_) => "child",
            Moment::Restore => "restore",
        })
    }
}

/// A registered hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hook {
    moment: Moment,
    /// Address of its function.
    function: usize,
    /// What that is called with.
    argument: usize,
}

/// A hook has refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HookRefusal {
    /// Which.
    pub hook: Hook,
    /// Why, in its own words.
    pub why: &'static str,
}

impl fmt::Display for HookRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hook {
            moment,
            function,
            argument,
        } = self.hook;
        write!(
            f,
            "the {moment} hook {function:#x} (with {argument:#x}) refuses: {}",
            self.why
        )
    }
}

impl Hook {
    /// `None` if it is none.
    pub(crate) fn of_entry(entry: HookEntry) -> Option<Self> {
        let moment = Moment::ALL
            .into_iter()
            .find(|moment| moment.number() == entry.moment)?;
        Some(Self {
            moment,
            function: entry.function,
            argument: entry.argument,
        })
    }

    const fn entry(self) -> HookEntry {
        HookEntry {
            moment: self.moment.number(),
            reserved: 0,
            function: self.function,
            argument: self.argument,
        }
    }

    /// When it is called.
    pub const fn moment(self) -> Moment {
        self.moment
    }

    /// What its function is called with.
    pub const fn argument(self) -> usize {
        self.argument
    }

    /// Calls a hook at freeze or restore.
    fn call(self) -> Result<(), HookRefusal> {
        raw::call_hook(self.function, self.argument).map_err(|why| HookRefusal { hook: self, why })
    }
}

/// Why a hook was not registered or deregistered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HookError {
    /// The library was not started.
    NotStarted,
    /// The table is full.
    TooMany,
    /// No hook is registered with this moment, function and argument.
    NotRegistered,
    /// The state is not checkpointed: it would not be there after a restore.
    NotKept {
        /// Its address.
        address: usize,
    },
}

impl From<NotStarted> for HookError {
    fn from(_: NotStarted) -> Self {
        Self::NotStarted
    }
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HookError::NotStarted => NotStarted.fmt(f),
            HookError::TooMany => write!(f, "the table of {HOOKS_MAX} hooks is full: deregister one first"),
            HookError::NotRegistered => {
                f.write_str("no hook is registered for this moment with this function and argument")
            }
            HookError::NotKept { address } => write!(
                f,
                "the state at {address:#x} lies in no class, and would be lost: allocate it in one"
            ),
        }
    }
}

fn register(moment: Moment, function: usize, argument: usize) -> Result<Hook, HookError> {
    let hook = Hook {
        moment,
        function,
        argument,
    };
    match library::with(|library| library.tables_mut().push_hook(hook.entry()))? {
        true => Ok(hook),
        false => Err(HookError::TooMany),
    }
}

/// Has `function` called with `argument` in the pause of each checkpoint. Returns what [`deregister`] takes, here and below.
///
/// # Errors
/// The library was not started, or the table is full; here and below.
pub fn at_freeze(function: fn(usize) -> Verdict, argument: usize) -> Result<Hook, HookError> {
    register(Moment::Freeze, function as usize, argument)
}

/// Has `function` called in each checkpoint's child, with `argument` and the frozen view.
///
/// # Errors
/// As [`at_freeze`].
pub fn in_child(
    sight: Sight,
    function: fn(usize, &FrozenView<'_>) -> Verdict,
    argument: usize,
) -> Result<Hook, HookError> {
    register(Moment::Child(sight), function as usize, argument)
}

/// Has `function` called with `argument` after a restore, on the new master.
///
/// # Errors
/// As [`at_freeze`].
pub fn at_restore(function: fn(usize) -> Verdict, argument: usize) -> Result<Hook, HookError> {
    register(Moment::Restore, function as usize, argument)
}

/// State in a class that has something to do after a restore.
pub trait Restored: Sync + 'static {
    /// Called at a takeover, before the workers start.
    ///
    /// # Errors
    /// Why the new master may not go on, for a person.
    fn restored(&self) -> Verdict;
}

/// [`at_restore`] without addresses, for a state that lies in a class or among the program's checkpointed variables.
///
/// # Errors
/// As [`at_freeze`]; or the state lies elsewhere.
pub fn at_restore_of<T: Restored>(state: &'static T) -> Result<Hook, HookError> {
    let address = core::ptr::from_ref(state).expose_provenance();
    if !library::with(|library| library.keeps(address, size_of::<T>()))? {
        return Err(HookError::NotKept { address });
    }
    at_restore(raw::restored::<T>, address)
}

/// Deregisters a hook: one, if the same was registered several times.
///
/// # Errors
/// The library was not started, or no such hook is registered.
pub fn deregister(hook: Hook) -> Result<(), HookError> {
    library::with(|library| {
        let tables = library.tables_mut();
        let index = tables
            .hooks()
            .iter()
            .position(|entry| *entry == hook.entry())
            .ok_or(HookError::NotRegistered)?;
        tables.remove_hook(index);
        Ok(())
    })?
}

/// The registered hooks, in the order of their registration.
pub fn hooks() -> Vec<Hook> {
    let listed = library::with(|library| {
        let entries = library.tables().hooks().iter();
        entries.filter_map(|entry| Hook::of_entry(*entry)).collect()
    });
    listed.unwrap_or_default()
}

/// Calls the hooks at freeze. The allocation lock is not held: they may allocate.
pub(crate) fn call_at_freeze() -> Result<(), HookRefusal> {
    // Without a library there are none, and the checkpoint is refused for that.
    let found = library::lock_for_blocks().as_ref().and_then(due_at_freeze);
    match found {
        Some(found) => found.into_iter().flatten().try_for_each(Hook::call),
        None => Ok(()),
    }
}

/// The hooks at freeze. `None`: there are none, as mostly; then the tables are not looked at again until they have changed, for this is
/// in the pause, and they lie in the window.
fn due_at_freeze(library: &Library) -> Option<[Option<Hook>; HOOKS_MAX]> {
    /// The version of tables that are known to hold none.
    static NONE_IN: AtomicU64 = AtomicU64::new(0);
    let version = library.version().tables;
    if NONE_IN.load(Ordering::Relaxed) == version {
        return None;
    }
    let is_due = |entry: &&HookEntry| entry.moment == Moment::Freeze.number();
    let mut due = library.tables().hooks().iter().filter(is_due).peekable();
    if due.peek().is_none() {
        NONE_IN.store(version, Ordering::Relaxed);
        return None;
    }
    let mut found = [None; HOOKS_MAX];
    for (place, entry) in found.iter_mut().zip(due) {
        *place = Hook::of_entry(*entry);
    }
    Some(found)
}

/// Calls the hooks at restore.
///
/// # Errors
/// One refuses: the new master may not go on.
pub fn call_at_restore() -> Result<(), HookRefusal> {
    let mut due = hooks().into_iter().filter(|hook| hook.moment == Moment::Restore);
    due.try_for_each(Hook::call)
}

/// The child hooks among those that a checkpoint took down in its pause.
fn child_hooks(taken_down: &[HookEntry]) -> impl Iterator<Item = Hook> {
    let hooks = taken_down.iter().filter_map(|entry| Hook::of_entry(*entry));
    hooks.filter(|hook| matches!(hook.moment, Moment::Child(_)))
}

/// Whether one of them has to see everything.
pub(crate) fn need_whole(taken_down: &[HookEntry]) -> bool {
    child_hooks(taken_down).any(|hook| hook.moment == Moment::Child(Sight::Whole))
}

/// Calls the child hooks among them.
pub(crate) fn call_in_child(taken_down: &[HookEntry], frozen: &dyn Frozen) -> Result<(), HookRefusal> {
    let mut due = child_hooks(taken_down).peekable();
    if due.peek().is_none() {
        return Ok(());
    }
    let view = FrozenView::new(frozen);
    // A hook is a user's code: what it reads by an address is as frozen as what it asks for.
    frozen.enter();
    let called = due.try_for_each(|hook| {
        raw::call_child_hook(hook.function, hook.argument, &view).map_err(|why| HookRefusal { hook, why })
    });
    frozen.leave();
    called
}
