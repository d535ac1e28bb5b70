//! How a guest ended: QEMU's exit status, and what that means.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use hs_core::platform::Exit;
use rustix::process::Signal;

/// The status that QEMU exits with when the guest ends with `exit`.
pub(crate) const fn exit_code(exit: Exit) -> i32 {
    ((exit as i32) << 1) | 1
}

/// How a guest ended, in words.
pub(crate) fn in_words(status: ExitStatus) -> String {
    const MEANINGS: [(Exit, &str); 7] = [
        (Exit::Success, "ended: all done"),
        (Exit::Panic, "panicked"),
        (Exit::Exception, "died of a processor exception"),
        (Exit::BadOptions, "refused its command line"),
        (Exit::TestFailed, "ended: a test failed"),
        (
            Exit::Refused,
            "ended itself: it may not go on beside the other node",
        ),
        (Exit::Fault, "lost its power at the point that it was told"),
    ];
    if let Some(signal) = status.signal() {
        return match Signal::from_named_raw(signal) {
            Some(Signal::KILL) => "was killed by SIGKILL".into(),
            Some(Signal::TERM) => "was ended by SIGTERM".into(),
            Some(Signal::ABORT) => "was lost: QEMU aborted".into(),
            Some(Signal::SEGV) => "was lost: QEMU crashed".into(),
            _ => format!("was ended by signal {signal}"),
        };
    }
    let code = status.code().unwrap_or(-1);
    match MEANINGS.iter().find(|(exit, _)| exit_code(*exit) == code) {
        Some((_, words)) => format!("{words} (status {code})"),
        None if code == 0 => "was shut down or reset itself (status 0)".into(),
        None => format!("was ended by QEMU (status {code})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_of_a_guest_has_words_and_its_documented_status() {
        for (exit, code, word) in [
            (Exit::Success, 33, "all done"),
            (Exit::Panic, 35, "panicked"),
            (Exit::Exception, 37, "exception"),
            (Exit::BadOptions, 39, "command line"),
            (Exit::TestFailed, 41, "test failed"),
            (Exit::Refused, 43, "may not go on"),
            (Exit::Fault, 45, "lost its power"),
        ] {
            assert_eq!(exit_code(exit), code);
            assert!(in_words(ExitStatus::from_raw(code << 8)).contains(word));
        }
        assert_eq!(in_words(ExitStatus::from_raw(9)), "was killed by SIGKILL");
        assert!(in_words(ExitStatus::from_raw(1 << 8)).contains("QEMU"));
    }
}
