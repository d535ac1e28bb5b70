//! The event channel: one JSON object a line on COM2, for the xtask.

use alloc::format;
use alloc::string::String;

use hs_core::event::Event;

use super::line::RING_LEN;
use super::serial::COM2;

/// Tells the outside world, and returns when the line is out. An event too long for the port's ring is
/// replaced by one that says so.
///
/// # Panics
/// If there is no memory for the line.
pub fn emit(event: &Event) {
    let mut line = to_line(event);
    if line.len() > RING_LEN {
        let why = format!(
            "an event of {} bytes is too long for the event channel",
            line.len()
        );
        line = to_line(&Event::Refused {
            what: String::from("event"),
            why,
        });
    }
    COM2.write_line(line.as_bytes());
}

fn to_line(event: &Event) -> String {
    let mut line =
        serde_json::to_string(event).expect("an event has no maps and no foreign types, so it is JSON");
    line.push('\n');
    line
}
