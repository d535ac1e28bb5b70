use std::format;
use std::sync::Mutex;
use std::vec::Vec;

use super::*;
use crate::host::Session;

static RAISED: Mutex<Vec<SignalNumber>> = Mutex::new(Vec::new());

fn note(signal: SignalNumber) {
    RAISED.lock().unwrap().push(signal);
}

#[test]
fn a_signal_is_registered_once_and_its_handler_is_called() {
    let _session = Session::start(64);
    for number in SignalNumber::ALL {
        signal::action(number, note, SignalMask::TERM);
        register(number).unwrap();
        let error = register(number).unwrap_err();
        assert_eq!(error, SignalError::Registered(number));
        assert!(format!("{error}").contains(&format!("{number}")));
    }
    let known = actions();
    let signals: Vec<SignalNumber> = known.iter().map(|action| action.signal()).collect();
    assert_eq!(signals, SignalNumber::ALL);
    for action in known {
        assert_eq!(action.mask(), SignalMask::TERM);
        action.run().unwrap();
    }
    assert_eq!(*RAISED.lock().unwrap(), SignalNumber::ALL);

    deregister(SignalNumber::Usr1).unwrap();
    assert_eq!(
        deregister(SignalNumber::Usr1),
        Err(SignalError::NotRegistered(SignalNumber::Usr1))
    );
    assert_eq!(actions().len(), SignalNumber::ALL.len() - 1);
    register(SignalNumber::Usr1).unwrap();
    assert_eq!(actions().last().unwrap().signal(), SignalNumber::Usr1);
}

#[test]
fn an_action_has_one_entry_and_unknown_numbers_masks_and_flags_have_none() {
    let all = SignalNumber::ALL.map(SignalNumber::mask);
    assert_eq!(all.into_iter().collect::<SignalMask>(), SignalMask::all());
    for (index, signal) in SignalNumber::ALL.into_iter().enumerate() {
        assert_eq!(signal.index(), index);
    }
    for number in 0..64 {
        for bit in 0..32 {
            for flags in 0..8 {
                let entry = SignalEntry {
                    number,
                    flags,
                    mask: 1 << bit,
                    handler: 7,
                };
                let is_signal = |number| SignalNumber::of(number).is_some();
                let action = SignalAction::of_entry(entry);
                let is_one = is_signal(number.into()) && is_signal(bit) && flags < 4;
                assert_eq!(action.is_some(), is_one);
                assert!(action.is_none_or(|action| action.to_entry() == entry));
            }
        }
    }
}

#[test]
fn a_handler_that_is_no_code_is_not_called() {
    let _session = Session::start(64);
    for handler in [0, 1, 8] {
        let entry = SignalEntry {
            number: SignalNumber::Int as u16,
            flags: 0,
            mask: 0,
            handler,
        };
        let action = SignalAction::of_entry(entry).unwrap();
        assert_eq!(action.run(), Err(NotCode(action)));
    }
}
