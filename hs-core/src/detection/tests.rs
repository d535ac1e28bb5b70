//! Against a model, and what is refused.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

fn detections() -> impl Strategy<Value = Detection> {
    let sign = prop_oneof![
        Just(Sign::Heartbeat),
        Just(Sign::Icmp),
        Just(Sign::User),
        "[A-Z]{1,8}(\\.[A-Z]{1,3})?".prop_map(|path| Sign::File(FilePath::new(&path).unwrap())),
    ];
    sign.prop_map(Detection::Sign)
        .prop_recursive(DEPTH_MAX as u32 - 1, SIGNS_MAX as u32, 3, |part| {
            let parts = prop::collection::vec(part, 1..4);
            (any::<bool>(), parts).prop_map(|(any, parts)| match any {
                true => Detection::Any(parts),
                false => Detection::All(parts),
            })
        })
        .prop_filter("within the limits", |detection| detection.check().is_ok())
}

/// Whether it fails, and how many signs it has asked, from the one at `at` on.
fn model(detection: &Detection, said: &[Liveness], at: &mut usize) -> bool {
    match detection {
        Detection::Sign(_) => {
            *at += 1;
            said[*at - 1] == Liveness::Failed
        }
        Detection::Any(parts) => parts.iter().fold(false, |any, part| model(part, said, at) | any),
        Detection::All(parts) => parts.iter().fold(true, |all, part| model(part, said, at) & all),
    }
}

proptest! {
    #[test]
    fn judges_like_the_model(detection in detections(), failed in prop::collection::vec(any::<bool>(), SIGNS_MAX)) {
        let said: Vec<_> = failed.iter().map(|failed| if *failed { Liveness::Failed } else { Liveness::Alive }).collect();
        let verdict = detection.verdict(&said);
        prop_assert_eq!(verdict.is_some(), model(&detection, &said, &mut 0));
        // The cause is one of those that have failed.
        if let Some(cause) = verdict && cause != "all" {
            let signs = detection.signs();
            prop_assert!(signs.iter().zip(&said).any(|(sign, said)| sign.name() == cause && *said == Liveness::Failed));
        }
        // One more failure never makes the master alive again.
        for index in 0..said.len() {
            let mut more = said.clone();
            more[index] = Liveness::Failed;
            prop_assert!(verdict.is_none() || detection.verdict(&more).is_some());
        }
    }

    #[test]
    fn what_is_written_is_read(detection in detections()) {
        prop_assert_eq!(Detection::parse(&detection.to_string()), Ok(detection));
    }

    #[test]
    fn nothing_written_breaks_the_reader(text in "[a-z(),:.]{0,60}") {
        if let Ok(detection) = Detection::parse(&text) {
            prop_assert_eq!(Detection::parse(&detection.to_string()), Ok(detection));
        }
    }
}

#[test]
fn the_documented_forms_are_understood() {
    assert_eq!(
        Detection::parse("any(heartbeat,all(icmp,file:fail.now),user)"),
        Ok(Detection::any([
            Sign::Heartbeat.into(),
            Detection::all([
                Sign::Icmp.into(),
                Sign::File(FilePath::new("FAIL.NOW").unwrap()).into()
            ]),
            Sign::User.into(),
        ]))
    );
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let refused = |text: &str| Detection::parse(text).unwrap_err();
    assert_eq!(refused(""), DetectionError::UnknownSign(String::new()));
    assert_eq!(refused("ping"), DetectionError::UnknownSign("ping".into()));
    assert_eq!(
        refused("Heartbeat"),
        DetectionError::UnknownSign("Heartbeat".into())
    );
    assert_eq!(refused("any()"), DetectionError::Empty("any"));
    assert_eq!(refused("any(icmp"), DetectionError::Brackets(String::new()));
    assert_eq!(refused("any"), DetectionError::Brackets("any".into()));
    assert_eq!(refused("icmp)"), DetectionError::Brackets(")".into()));
    assert_eq!(refused("icmp,user"), DetectionError::Brackets(",user".into()));
    assert_eq!(refused("all(icmp,)"), DetectionError::UnknownSign(String::new()));
    assert!(matches!(refused("file:"), DetectionError::Path(..)));
    assert!(matches!(
        refused("file:too-long-a-name"),
        DetectionError::Path(..)
    ));
    assert_eq!(refused(&"any(".repeat(4000)), DetectionError::TooDeep);
    let signs = |count: usize| ["icmp"].repeat(count).join(",");
    assert!(Detection::parse(&alloc::format!("any({})", signs(8))).is_ok());
    assert_eq!(
        refused(&alloc::format!("any({})", signs(9))),
        DetectionError::TooManySigns
    );
    assert_eq!(
        refused(&alloc::format!("any(any({}),all({}))", signs(5), signs(5))),
        DetectionError::TooManySigns
    );
    assert_eq!(Detection::All(vec![]).check(), Err(DetectionError::Empty("all")));
    assert_eq!(Detection::All(vec![]).verdict(&[]), None);
}
