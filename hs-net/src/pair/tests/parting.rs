//! Silence, obituaries and hellos, in any order.

use super::*;

/// An end stops for so long, as a process does by SIGSTOP: what comes meanwhile waits.
fn stop_ms(world: &mut World, index: usize, ms: u64) {
    let until = world.now + Duration::from_millis(ms);
    while world.now < until {
        for network in 0..2 {
            while let Some(bytes) = world.ends[index].out[network].deliver(world.now) {
                world.ends[1 - index].receive(network, world.now, &bytes);
            }
        }
        world.ends[1 - index].round(world.now);
        world.now = world.now + Duration::from_millis(1);
    }
}

fn is_silent(notice: &Notice) -> bool {
    matches!(notice, Notice::SpareSilent(_))
}

#[test]
fn the_agents_word_is_followed_at_once() {
    for (death, held) in [
        (Death::Killed, true),
        (Death::Panicked, true),
        (Death::Ended, true),
        (Death::Killed, false),
    ] {
        let mut world = if held {
            World::ready(21)
        } else {
            World::new(21, Weather::FAIR)
        };
        world.run_ms(30);
        world.bury(0, death);
        let said = world.now;
        world.step();
        let expected = match held {
            true => {
                matches!(world.ends[1].log.last(), Some((at, Notice::TakeOver { cause: "agent", death: told, .. })) if *at == said && *told == Some(death))
            }
            false => {
                matches!(world.ends[1].log.last(), Some((_, Notice::End { why })) if why.contains("nothing to take over") && why.contains("agent"))
            }
        };
        assert!(expected, "{:?}", world.ends[1].log);
        // Said again it is no news, but the agent is answered.
        assert!(world.ends[1].noted);
        world.ends[1].noted = false;
        let (session, refused) = (
            world.ends[0].pair.session(),
            world.ends[1].pair.datagrams_refused(),
        );
        world.ends[1].hear_of(session, death, Term::FIRST, world.now);
        world.run_ms(10);
        assert_eq!(
            (world.ends[1].noted, world.ends[1].pair.datagrams_refused()),
            (held, refused)
        );
        assert_eq!(
            world.ends[1]
                .notices()
                .iter()
                .filter(|notice| matches!(notice, Notice::TakeOver { .. }))
                .count(),
            usize::from(held)
        );
    }
}

/// Whatever signs the user has chosen: these are guesses, and this is none.
#[test]
fn the_agents_word_counts_beside_any_sign() {
    let mut world = World::new(22, Weather::FAIR);
    world.ends[1].pair.detect_by(Detection::parse("icmp").unwrap());
    world.run_ms(30);
    world.ends[0].send_checkpoint(id(1, 0), vec![5; 100]);
    world.run_ms(10);
    world.bury(0, Death::Killed);
    world.step();
    assert!(world.ends[1].took_over());
}

/// What the old master had sent before it died is read before its image is taken up.
#[test]
fn what_the_dead_had_said_counts() {
    let mut world = World::ready(23);
    world.ends[0].send_checkpoint(id(1, 1), vec![7; 1000]);
    world.ends[0].round(world.now);
    world.now = world.now + Duration::from_millis(1);
    while let Some(bytes) = world.ends[0].out[0].deliver(world.now) {
        let now = world.now;
        world.ends[1].receive(0, now, &bytes);
    }
    world.bury(0, Death::Killed);
    world.step();
    assert!(world.ends[1].took_over());
    assert_eq!(world.ends[1].applied.last(), Some(&(id(1, 1), vec![7; 1000])));
}

#[test]
fn a_mute_master_goes_on_when_its_spare_comes_back() {
    let mut world = World::ready(24);
    world.ends[0].send_checkpoint(id(1, 1), vec![1; 300_000]);
    stop_ms(&mut world, 1, 5000);
    let told: Vec<_> = world.ends[0]
        .notices()
        .into_iter()
        .filter(|notice| is_silent(notice))
        .collect();
    assert!(
        matches!(told[..], [Notice::SpareSilent(silence)] if *silence > DEADLINE * MASTER_PATIENCE && *silence < DEADLINE * 6),
        "{told:?}"
    );
    // It is bounded what can be on its way.
    for number in 2..6 {
        world.ends[0].send_checkpoint(id(1, number), vec![number as u8; 1000]);
    }
    assert_eq!(
        world.ends[0].results.last(),
        Some(&(id(1, 5), Err(PipeError::Full)))
    );
    assert!(world.ends[0].pair.is_paired() && world.ends[0].pair.holds_image());

    world.run_ms(500);
    assert!(!world.ends[1].took_over(), "{:?}", world.ends[1].log);
    let heard = world.ends[0].notices().pop();
    assert!(
        matches!(heard, Some(Notice::SpareHeard(silence)) if *silence > Duration::from_millis(4900)),
        "{heard:?}"
    );
    let arrived: Vec<_> = world.ends[1].applied.iter().map(|(id, _)| id.increment).collect();
    assert_eq!(arrived, [0, 1, 2, 3, 4]);
    assert!(world.ends[0].pair.silence_max() > Duration::from_millis(4900));
    assert!(
        world.ends[1].pair.silence_max() < DEADLINE,
        "its own sleep is not its master's silence"
    );
}

#[test]
fn a_mute_master_is_freed_by_the_agent_or_by_another_boot() {
    for by_agent in [true, false] {
        let mut world = World::ready(25);
        world.ends[1].dead = true;
        world.run_ms(10_000);
        assert!(world.ends[0].has(is_silent));
        assert!(world.ends[0].pair.is_paired(), "silence alone ends nothing");
        if by_agent {
            world.bury(1, Death::Panicked);
            world.run_ms(1);
            assert!(
                matches!(world.ends[0].notices().pop(), Some(Notice::SpareLost(Loss::Dead(Death::Panicked, silent))) if *silent > Duration::from_secs(9))
            );
        } else {
            world.restart(1, Role::Spare);
            world.run_ms(50);
            assert!(world.ends[0].has(|notice| *notice == Notice::SpareLost(Loss::Restarted)));
            assert!(world.ends.iter().all(|end| end.pair.is_paired()));
        }
        assert!(!world.ends[0].pair.holds_image());
    }
}

/// The spare took over where nobody saw it, and died: what it had answered since is gone, so nobody may go on from before.
#[test]
fn a_master_that_was_replaced_by_the_dead_ends() {
    let mut world = World::ready(26);
    world.weather(CUT);
    world.run_ms(400);
    assert!(world.ends[1].took_over());
    world.bury(1, Death::Killed);
    world.run_ms(1);
    assert!(world.ends[0].ended());
    assert!(matches!(world.ends[0].notices().pop(), Some(Notice::End { why }) if why.contains("term 2")));
}

/// Steps of a life in which the agent also speaks of boots that are not the peer's.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The spare's words get lost for so many milliseconds.
    Silence(u64),
    /// All goes well for so many.
    Fair(u64),
    /// The agent tells a node of a boot that is not its peer.
    Stale(usize, u64, Death),
    /// The spare is started anew, so that it says hello.
    Hello,
    /// The spare dies, and the agent says so.
    Obituary,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let death = prop_oneof![Just(Death::Killed), Just(Death::Panicked), Just(Death::Ended)];
    let step = prop_oneof![
        (1u64..600).prop_map(Step::Silence),
        (1u64..400).prop_map(Step::Fair),
        (0usize..2, any::<u64>(), death).prop_map(|(end, session, death)| Step::Stale(end, session, death)),
        Just(Step::Hello),
        Just(Step::Obituary),
    ];
    prop::collection::vec(step, 1..30)
}

/// Lives through `steps`; what both nodes said and the terms they ended in. With the planted bug a node takes every obituary for
/// its peer's.
fn life(
    seed: u64,
    steps: &[Step],
    with_stale: bool,
    planted_bug: bool,
) -> (Vec<Vec<(Instant, Notice)>>, [Term; 2]) {
    let mut world = World::ready(seed);
    let mut logs = Vec::new();
    let mut past = Vec::new();
    for step in steps {
        match *step {
            Step::Silence(ms) => {
                for link in &mut world.ends[1].out {
                    link.weather = CUT;
                }
                world.run_ms(ms);
                world.weather(Weather::FAIR);
            }
            Step::Fair(ms) => world.run_ms(ms),
            Step::Stale(..) if !with_stale => {}
            Step::Stale(end, session, death) => {
                // A boot of before, if there was one; else somebody's.
                let dead = past.get(session as usize % (past.len() + 1)).copied();
                let mut session = dead.unwrap_or(Session(session));
                let peer = world.ends[end].pair.peer.as_ref().map(|peer| peer.session);
                if planted_bug {
                    session = peer.unwrap_or(session);
                } else if peer == Some(session) {
                    continue;
                }
                let now = world.now;
                world.ends[end].hear_of(session, death, Term(u64::MAX), now);
            }
            Step::Hello => {
                past.push(world.ends[1].pair.session());
                logs.push(world.ends[1].log.clone());
                world.restart(1, Role::Spare);
            }
            Step::Obituary => {
                world.bury(1, Death::Killed);
                past.push(world.ends[1].pair.session());
            }
        }
    }
    logs.extend(world.ends.iter().map(|end| end.log.clone()));
    (logs, [0, 1].map(|end| world.ends[end].pair.term()))
}

fn stale_changes_nothing(seed: u64, steps: &[Step], planted_bug: bool) -> Result<(), String> {
    let (logs, terms) = life(seed, steps, true, planted_bug);
    for (_, notice) in logs.iter().flatten() {
        if matches!(notice, Notice::TakeOver { .. } | Notice::End { .. }) {
            return Err(format!("{notice:?} beside a master that lives"));
        }
    }
    if (logs, terms) != life(seed, steps, false, false) {
        return Err("obituaries of others have changed something".into());
    }
    Ok(())
}

/// The check itself must be able to fail.
#[test]
fn the_check_finds_a_believed_obituary() {
    for end in 0..2 {
        let steps = [Step::Fair(10), Step::Stale(end, 5, Death::Killed), Step::Fair(10)];
        stale_changes_nothing(1, &steps, true).unwrap_err();
        stale_changes_nothing(1, &steps, false).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// No obituary of another boot changes anything: with all other steps the same, both nodes say and do the same with them as
    /// without. And no master that lives is replaced.
    #[test]
    fn obituaries_of_others_change_nothing(seed in any::<u64>(), steps in steps()) {
        stale_changes_nothing(seed, &steps, false).map_err(TestCaseError::fail)?;
    }
}

/// A checkpoint that was taken for a lost spare is not sent to the next one, before or after everybody has heard of the loss; it
/// would arm that although output does not wait.
#[test]
fn a_checkpoint_of_one_spare_does_not_arm_the_next() {
    let mut world = World::ready(29);
    world.restart(1, Role::Spare);
    let [master, spare] = &mut world.ends;
    let (master, spare) = (&mut master.pair, &mut spare.pair);
    let mut datagram = vec![0; DATAGRAM_LEN];
    for _ in 0..100 {
        // The master's thread reads, and has not come to its notices.
        world.now = world.now + Duration::from_millis(1);
        while let Some(len) = spare.transmit(world.now, &mut datagram) {
            master.on_datagram(Network::Cluster, &datagram[..len], world.now);
        }
        while let Some(len) = master.transmit(world.now, &mut datagram) {
            spare.on_datagram(Network::Cluster, &datagram[..len], world.now);
        }
    }
    assert!(master.is_paired());
    assert_eq!(master.open_transfer(id(1, 7), true), Err(PipeError::Disconnected));
    assert_eq!(master.next_notice(), Some(Notice::SpareLost(Loss::Restarted)));
    assert_eq!(
        master.open_transfer(id(1, 7), true),
        Err(PipeError::Disconnected),
        "the loss is still being dealt with"
    );
    assert_eq!(master.next_notice(), Some(Notice::Paired));
    assert!(master.open_transfer(id(2, 0), false).is_ok());
}

/// Parts that come again, or out of order, make no frame.
#[test]
fn a_forwarded_frame_is_heard_once() {
    let mut world = World::ready(30);
    let frame: Vec<u8> = (0..2000).map(|at| at as u8).collect();
    let mut parts = Vec::new();
    let mut offset = 0;
    while offset < frame.len() {
        let mut datagram = vec![0; DATAGRAM_LEN];
        let forwarded = world.ends[0].pair.forward(&frame, offset, &mut datagram);
        let (len, rest) = forwarded.expect("there is a spare");
        datagram.truncate(len);
        parts.push(datagram);
        offset = rest;
    }
    assert_eq!(parts.len(), 2);
    let spare = &mut world.ends[1].pair;
    let mut hear = |index: usize| {
        spare.on_datagram(Network::Cluster, &parts[index], world.now);
        spare.take_heard().map(<[u8]>::to_vec)
    };
    assert_eq!(hear(1), None);
    assert_eq!(hear(0), None);
    assert_eq!(hear(1), Some(frame));
    assert_eq!(hear(1), None);
}
