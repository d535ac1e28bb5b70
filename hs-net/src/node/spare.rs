//! The image thread of a spare: takes checkpoints in, and takes over in the end.

use alloc::format;
use alloc::string::String;

use hs_core::checkpoint::CheckpointId;
use hs_core::event::Event;
use hs_core::fault::{self, Point};
use hs_core::image::{Image, ImageConfig, ImageError, Progress};
use hs_core::platform::{Instant, Priority};
use hs_core::registry::hook;
use hs_core::restore::{self, Restored};
use hs_core::role::Term;
use hs_core::roots::{self, RootId};

use super::Node;
use crate::channel::frame::Message;
use crate::pair::{Death, Epoch};
use crate::raw;
use crate::service::{self, Resumed, Service, Unseen};

/// Checkpoints that are taken in at once, at least: the master may have been told another `ncon`.
const STREAMS_MIN: usize = 8;

/// The pair has decided that this node is master.
pub(super) struct Takeover {
    pub(super) cause: &'static str,
    /// How the old master ended, if somebody knows.
    pub(super) death: Option<Death>,
    pub(super) last_heard: Instant,
    pub(super) decided: Instant,
}

/// Lives until the takeover.
pub(super) fn run(node: &'static Node) {
    let config = ImageConfig {
        build_id: node.setup.machine.build_id(),
        application: node.setup.application,
        term: Term::FIRST,
        streams: (2 * node.setup.pair.ncon).max(STREAMS_MIN),
    };
    // Nothing depends on it.
    let _ = service::rehearse(node.setup.machine.now());
    let image = Image::new(node.setup.memory, config);
    let mut reader = Reader {
        node,
        image,
        epoch: None,
        armed_from: None,
        ready_in: None,
    };
    let mut buffer = node.pair.lock().message_buffer();
    loop {
        let seen = node.inbound.seen();
        // First: after the decision nothing more arrives, and what has arrived is still read.
        let takeover = node.takeover.lock().take();
        loop {
            let Some(epoch) = node.pair.lock().take_message(&mut buffer) else {
                break;
            };
            reader.read(epoch, buffer.message());
        }
        if node.pair.lock().ack_due() {
            node.wake.raise();
        }
        *node.spare_status.lock() = reader.image.status();
        if let Some(takeover) = takeover {
            return node.take_over(reader.image, &takeover);
        }
        node.inbound.wait(seen, None);
    }
}

struct Reader {
    node: &'static Node,
    image: Image,
    /// The pairing that the streams belong to.
    epoch: Option<Epoch>,
    /// The first checkpoint of it that output has waited for.
    armed_from: Option<CheckpointId>,
    /// The pairing in which it could take over first.
    ready_in: Option<Epoch>,
}

impl Reader {
    fn read(&mut self, epoch: Epoch, message: &[u8]) {
        if self.epoch != Some(epoch) {
            self.epoch = Some(epoch);
            self.armed_from = None;
            self.image.start_over();
        }
        match Message::parse(message) {
            Ok(Message::Chunk {
                checkpoint,
                first,
                last,
                arms,
                bytes,
            }) => {
                if arms && self.armed_from.is_none_or(|from| checkpoint < from) {
                    self.armed_from = Some(checkpoint);
                }
                self.chunk(epoch, checkpoint, first, last, bytes);
            }
            Ok(Message::Abandon { checkpoint }) => self.image.abandon(checkpoint),
            // A master answers nothing; messages are parsed before they are queued.
            Ok(Message::Kept { .. } | Message::Refused { .. }) | Err(_) => {
                self.node.pair.lock().count_refused();
            }
        }
    }

    fn chunk(&mut self, epoch: Epoch, id: CheckpointId, first: bool, last: bool, bytes: &[u8]) {
        if first && let Err(error) = self.image.begin(id) {
            return self.refuse(id, &format!("{error}"));
        }
        match self.image.feed(id, bytes) {
            Ok(Progress::Complete { acknowledge, refused }) => {
                self.acknowledge(epoch, &acknowledge);
                for (id, error) in refused {
                    self.refuse(id, &format!("{error}"));
                }
            }
            Ok(Progress::More) if last => {
                self.image.abandon(id);
                self.refuse(id, "it ends too early");
            }
            Ok(Progress::More) => {}
            // The rest of one that was refused before.
            Err(ImageError::Unknown(_)) if !last => {}
            Err(error) => self.refuse(id, &format!("{error}")),
        }
    }

    fn acknowledge(&mut self, epoch: Epoch, kept: &[CheckpointId]) {
        let mut armed = false;
        for &checkpoint in kept {
            fault::passed(Point::ImageComplete);
            // Clients may have seen what came after an earlier one.
            armed |= self.armed_from.is_some_and(|from| from <= checkpoint);
            if armed {
                self.node.pair.lock().hold_image(epoch);
            }
            self.node.answer(&Message::Kept { checkpoint });
            fault::passed(Point::KeptSaid);
        }
        if armed && self.ready_in != Some(epoch) {
            self.ready_in = Some(epoch);
            self.node.setup.machine.emit(&Event::Ready);
        }
    }

    fn refuse(&mut self, checkpoint: CheckpointId, why: &str) {
        log::warn!("refused checkpoint {checkpoint}: {why}");
        let (what, text) = (String::from("checkpoint"), format!("{checkpoint}: {why}"));
        self.node.setup.machine.emit(&Event::Refused { what, why: text });
        self.node.answer(&Message::Refused { checkpoint, why });
    }
}

impl Node {
    /// Says something to the master, when there is room.
    fn answer(&self, message: &Message<'_>) {
        loop {
            let seen = self.room.seen();
            let said = self.pair.lock().answer(message);
            self.wake.raise();
            if said {
                return;
            }
            self.wait_for_room(seen);
        }
    }

    /// Takes up what the image holds: memory, library, descriptors and stack, whose connections are still as they were; ends
    /// this node as `doing` says, if it cannot.
    pub(super) fn take_up(&'static self, image: Image, doing: &str) -> (Restored, &'static mut Service) {
        let restored = match restore::restore(image) {
            Ok(restored) => restored,
            Err(error) => self.end(&format!("{doing}: {error}")),
        };
        let stack = roots::get(RootId::SERVICE)
            .and_then(|address| raw::adopt_service(address, self.setup.memory.window()));
        let Some(service) = stack else {
            self.end(&format!("{doing}: the checkpoint holds no service stack"));
        };
        self.descriptors().restore(&restored.descriptors, service);
        (restored, service)
    }

    /// Turns this spare into the master: memory, library, descriptors, stack; then the address; then signals; then the workers,
    /// last.
    fn take_over(&'static self, image: Image, takeover: &Takeover) {
        let machine = self.setup.machine;
        fault::passed(Point::TakeoverDecided);
        if self.is_judged_by_files() {
            // The next spare would believe them of this master.
            self.mount();
            self.remove_signs();
        }
        let (restored, service) = self.take_up(image, "takeover failed");
        let unseen = match takeover.death {
            Some(Death::Panicked) => Unseen::Refused,
            Some(Death::Killed | Death::Ended) | None => Unseen::TakenIn,
        };
        let resumed = self.resume_connections(service, unseen);
        let in_place = machine.now();
        fault::passed(Point::TakeoverRestored);

        self.setup.service_nic.notify(&self.application);
        self.begin_service(service);
        // What the old master's checkpoint held comes first, answers to what it did not hold next, and who has the address now last.
        self.service().flush(in_place);
        let announced = self.announce();
        fault::passed(Point::TakeoverAnnounced);

        self.begin_checkpoints();
        self.pair.lock().finish_takeover();
        let us = |from: Instant, to: Instant| to.since(from).as_micros() as u64;
        machine.emit(&Event::Takeover {
            cause: takeover.cause.into(),
            detect_us: us(takeover.last_heard, takeover.decided),
            restore_us: us(takeover.decided, in_place),
            announce_us: us(in_place, announced),
        });
        self.go_on(&restored, "takeover failed");
        // The workers come first: what follows is for people, and for later.
        machine.yield_now();
        self.tell_role();
        self.tell_serving();
        if let Some(death) = takeover.death {
            log::info!("the master is dead: {}", death.word());
        }
        log::info!(
            "took over from checkpoint {} of term {}",
            restored.id,
            restored.term
        );
        log::info!(
            "{} connections go on, {} were reset; {} frames of clients were taken up",
            resumed.connections,
            resumed.reset,
            resumed.taken_in
        );
        self.service().tell_who_opted_out();
        self.spawn("mount", Priority::Background, move || self.mount());
    }

    /// Has the restored connections go on, with what this node has heard of clients.
    fn resume_connections(&self, service: &mut Service, unseen: Unseen) -> Resumed {
        let ear = self.ear.lock().take();
        let ear = ear.expect("a spare has an ear until it takes over, once");
        service.take_over(self.setup.machine.now(), &ear, unseen)
    }

    /// The last steps of a restored master: signals, hooks, and the workers last.
    pub(super) fn go_on(&'static self, restored: &Restored, doing: &str) {
        hs_core::signal::resume();
        if let Err(refusal) = hook::call_at_restore() {
            self.end(&format!("{doing}: {refusal}"));
        }
        self.start_workers(&restored.workers);
        self.application.raise();
    }
}
