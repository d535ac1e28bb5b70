//! The only module of this crate with `unsafe`: from the root's word back to the service stack.
#![allow(unsafe_code)]

use core::mem::{align_of, size_of};
use core::sync::atomic::{AtomicBool, Ordering};

use hs_core::platform::PageRange;

use crate::service::Service;

static ADOPTED: AtomicBool = AtomicBool::new(false);

/// The service stack that a restore has put at `address`, once in the life of a program. `None` if there cannot be one:
/// outside `window`, unaligned, not a stack of this build, or adopted before.
///
/// `window` must be restored memory of this very build, whose library state was adopted.
pub(crate) fn adopt_service(address: usize, window: PageRange) -> Option<&'static mut Service> {
    let end = address.checked_add(size_of::<Service>())?;
    let inside = window.contains(address) && end <= window.end();
    if !inside || !address.is_multiple_of(align_of::<Service>()) || ADOPTED.swap(true, Ordering::SeqCst) {
        return None;
    }
    let service = core::ptr::with_exposed_provenance_mut::<Service>(address);
    // SAFETY: (1) the address is the one that `Service::create` leaked, as the root says, in memory that a verified
    // checkpoint of the same build has restored: it holds a valid `Service`, whose slices were restored with it at their
    // own addresses. (2) `ADOPTED` makes this the only reference: whoever made the stack is another machine.
    let service = unsafe { &mut *service };
    service.is_valid().then_some(service)
}

/// The address of the stack, for the root.
pub(crate) fn address_of(service: &mut Service) -> usize {
    core::ptr::from_mut(service).expose_provenance()
}
