//! Interrupt vectors for devices.

use crate::sync::IrqMutex;

/// First vector for devices, and how many there are.
const FIRST: u8 = 0x50;
const COUNT: usize = 32;

/// What a vector calls: it runs with interrupts off on the interrupt stack, and must neither allocate, nor
/// sleep, nor touch the checkpoint window. The end of the interrupt is signalled by the caller.
pub type Handler = fn(usize);

struct Vectors {
    handlers: [Option<(Handler, usize)>; COUNT],
    used: usize,
}

static VECTORS: IrqMutex<Vectors> = IrqMutex::new(Vectors {
    handlers: [None; COUNT],
    used: 0,
});

/// A vector that calls `handler(argument)`; `None` if all are in use.
pub fn allocate(handler: Handler, argument: usize) -> Option<u8> {
    let mut vectors = VECTORS.lock();
    let index = vectors.used;
    *vectors.handlers.get_mut(index)? = Some((handler, argument));
    vectors.used += 1;
    Some(FIRST + index as u8)
}

/// Calls the handler of `vector`. An interrupt that nobody asked for is nobody's.
pub(super) fn dispatch(vector: u8) {
    let entry = VECTORS
        .lock()
        .handlers
        .get(usize::from(vector.wrapping_sub(FIRST)))
        .copied()
        .flatten();
    if let Some((handler, argument)) = entry {
        handler(argument);
    }
}
