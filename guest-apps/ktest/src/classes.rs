//! Classes whose memory is given back, classes behind the global allocator, and many threads in them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::alloc::Layout;

use hs_core::checkpoint::Flags;
use hs_core::class::{Class, ClassError, ClassId, with_class};
use hs_core::platform::{Machine, Outcome, PAGE_LEN, Priority, View};
use hs_core::roots::{Root, RootError, RootId};
use hs_core::sync::Mutex;
use kernel::mem::frames;
use kernel::thread;

use crate::checkpoints::{Flag, fork};
use crate::library::{Scene, clear_window, feed, image};
use crate::random::Random;
use crate::{Context, Verdict, check};

/// Page tables are kept where something was mapped once.
const TABLES: usize = 8;

fn told(error: ClassError) -> String {
    format!("{error}")
}

/// Whether there are as many frames again as there were.
fn frames_are_back(before: usize) -> Result<(), String> {
    let after = frames::available();
    check!(
        after + TABLES >= before,
        "{} frames are missing",
        before.saturating_sub(after)
    );
    Ok(())
}

/// A class that shrinks and then goes gives its frames back, at once or when the child that looks at them has ended.
pub(crate) fn given_back(context: &Context) -> Verdict {
    const BLOCKS: usize = 1_000;
    hs_core::start(context.guest).map_err(|error| format!("start: {error}"))?;
    let before = frames::available();
    let mut returned = 0;
    for held in [false, true] {
        let class = Class::create(ClassId(1), PAGE_LEN).map_err(told)?;
        let mut blocks: Vec<Vec<u8>> = with_class(class, || {
            (0..BLOCKS).map(|index| vec![index as u8; PAGE_LEN]).collect()
        });
        let grown = class.statistics().total_bytes;
        let go = Flag::new();
        let address = blocks[BLOCKS - 1].as_ptr() as usize;
        let seen = Arc::new(Mutex::new(None));
        let told_by_child = Arc::clone(&seen);
        let child = held.then(|| {
            fork(context, View::Whole, &go, move |frozen| {
                let mut page = Box::new([0; PAGE_LEN]);
                let looked = frozen.copy_page(address, &mut page);
                *told_by_child.lock() = Some(looked.map(|()| page[0]));
                Outcome::Kept
            })
        });
        let child = child.transpose().map_err(|error| format!("cptfork: {error}"))?;
        // All but one in the middle, in which the area is cut.
        let kept = blocks.swap_remove(BLOCKS / 2);
        drop(blocks);
        let now = frames::available();
        let trimmed = class.trim().map_err(told)?;
        check!(
            trimmed > grown / 2,
            "{trimmed} bytes of {grown} were given back although one block is left"
        );
        check!(
            kept.iter().all(|byte| *byte == (BLOCKS / 2) as u8),
            "a block that stayed was changed"
        );
        check!(
            held || frames::available() >= now + trimmed / PAGE_LEN,
            "{trimmed} bytes were trimmed, {} frames came",
            frames::available() - now
        );
        let refused = class.destroy();
        check!(
            matches!(refused, Err(ClassError::InUse { blocks: 1, .. })),
            "with a block in use: {refused:?}"
        );
        drop(kept);
        class.destroy().map_err(told)?;
        go.set(context.guest);
        if let Some(child) = child {
            check!(child.wait(context.guest), "the child did not come to its end");
            check!(
                *seen.lock() == Some(Ok((BLOCKS - 1) as u8)),
                "a child lost its view with the class"
            );
        }
        frames_are_back(before)?;
        returned += grown;
    }
    clear_window(context)?;
    Ok(format!("{returned} bytes given back"))
}

/// What a library made that knows nothing of us.
type Book = BTreeMap<String, Vec<u8>>;

const BOOK: Root<Book> = Root::new(RootId::APPLICATION);

fn page_of(book: usize, random: &mut Random) -> (String, Vec<u8>) {
    (format!("name {book}"), vec![book as u8; random.below(900)])
}

/// A map of the standard library is kept in a class, checkpointed, restored, found, used and freed.
pub(crate) fn scoped(context: &Context) -> Verdict {
    let mut random = Random::new(context.seed);
    let before = frames::available();
    let scene = Scene::new(context, 8)?;
    let class = Class::create(ClassId(3), 0).map_err(told)?;
    let book = with_class(class, || Box::leak(Box::new(Book::new())));
    BOOK.keep(book).map_err(|error| format!("keep: {error}"))?;
    let book = BOOK.take().map_err(|error| format!("take: {error}"))?;
    check!(
        matches!(BOOK.take(), Err(RootError::Taken(_))),
        "a root was taken twice"
    );
    let mut tapes = Vec::new();
    let mut expected = Book::new();
    for round in 0..12 {
        for entry in 0..40 {
            let (name, value) = page_of(round * 40 + entry, &mut random);
            expected.insert(name.clone(), value.clone());
            with_class(class, || {
                book.insert(String::from(name.as_str()), value.as_slice().into())
            });
        }
        // The checkpoint's own work within the scope is no part of the state.
        let blocks = class.statistics().blocks;
        let flags = if round == 0 {
            Flags::empty()
        } else {
            Flags::INCREMENTAL
        };
        let taken = with_class(class, || scene.checkpoint_only(flags))?;
        tapes.push((taken, scene.tape()));
        check!(
            class.statistics().blocks == blocks,
            "a checkpoint left {} blocks in the class",
            class.statistics().blocks - blocks
        );
    }
    let kept_bytes = class.statistics().block_bytes;
    drop(scene);
    clear_window(context)?;
    let mut image = image(context);
    for (id, tape) in &tapes {
        check!(feed(&mut image, *id, tape)?, "checkpoint {id} is not whole");
    }
    hs_core::restore::restore(image).map_err(|error| format!("restore: {error}"))?;
    let class = Class::find(ClassId(3)).ok_or("the class is gone")?;
    let wrong: Root<Vec<u8>> = Root::new(RootId::APPLICATION);
    check!(
        matches!(wrong.take(), Err(RootError::WrongType(_))),
        "a root was taken as another type"
    );
    let book = BOOK
        .take()
        .map_err(|error| format!("take after the restore: {error}"))?;
    check!(*book == expected, "the restored map is not what was checkpointed");
    // Outside every scope: what grows and goes finds its class.
    for value in book.values_mut() {
        value.resize(value.len() + 1_000, 7);
    }
    check!(
        class.statistics().block_bytes >= kept_bytes + expected.len() * 512,
        "what grew has left its class"
    );
    let mut names = expected.keys();
    while let Some((name, value)) = book.pop_first() {
        check!(names.next() == Some(&name), "{name} is out of order");
        check!(
            value.ends_with(&[7; 1_000]) && value.starts_with(&expected[&name]),
            "{name} was changed"
        );
    }
    // The empty map itself.
    // SAFETY: nothing of it is used from here on.
    unsafe { class.discard() }.map_err(told)?;
    clear_window(context)?;
    drop((tapes, expected));
    frames_are_back(before)?;
    Ok(format!("{kept_bytes} bytes of the standard library's in a class"))
}

/// On the spare, the frames of a class that its master has destroyed are free when the next checkpoint is applied.
pub(crate) fn spare_gives_back(context: &Context) -> Verdict {
    const BLOCKS: usize = 600;
    let scene = Scene::new(context, 8)?;
    let class = Class::create(ClassId(3), 0).map_err(told)?;
    let blocks: Vec<Vec<u8>> = with_class(class, || (0..BLOCKS).map(|_| vec![1; PAGE_LEN]).collect());
    let first = scene.checkpoint(Flags::empty())?;
    let class_pages = class.statistics().total_bytes / PAGE_LEN;
    drop(blocks);
    let trimmed_pages = class.trim().map_err(told)? / PAGE_LEN;
    let second = scene.checkpoint(Flags::INCREMENTAL)?;
    class.destroy().map_err(told)?;
    // In its place, at its addresses.
    let next = Class::create(ClassId(4), PAGE_LEN).map_err(told)?;
    let third = scene.checkpoint(Flags::INCREMENTAL)?;
    drop(scene);
    clear_window(context)?;
    let mut image = image(context);
    let mut available = Vec::new();
    for (id, tape) in [&first, &second, &third] {
        check!(feed(&mut image, *id, tape)?, "checkpoint {id} is not whole");
        check!(image.newest() == Some(*id), "checkpoint {id} was not applied");
        available.push(frames::available());
    }
    check!(
        available[1] + TABLES >= available[0] + trimmed_pages,
        "{trimmed_pages} pages were trimmed, the spare has {} frames, and had {}",
        available[1],
        available[0]
    );
    check!(
        available[2] + TABLES >= available[0] + class_pages - 1,
        "a class of {class_pages} pages went, the spare has {} frames, and had {}",
        available[2],
        available[0]
    );
    hs_core::restore::restore(image).map_err(|error| format!("restore: {error}"))?;
    check!(
        Class::find(ClassId(3)).is_none(),
        "a destroyed class was restored"
    );
    check!(
        Class::find(ClassId(4)) == Some(next),
        "the class after it was not"
    );
    clear_window(context)?;
    Ok(format!("{class_pages} pages of a class were free again"))
}

/// Threads that allocate in classes, explicitly and by scope, hand blocks on to each other, and trim meanwhile.
pub(crate) fn threads(context: &Context) -> Verdict {
    const THREADS: usize = 6;
    const ROUNDS: usize = 1_500;
    type Shelf = Mutex<Vec<(usize, Vec<u8>, Box<[u64]>)>>;
    hs_core::start(context.guest).map_err(|error| format!("start: {error}"))?;
    let classes = [1, 2, 3].map(|id| Class::create(ClassId(id), 0));
    let classes: Vec<Class> = classes.into_iter().collect::<Result<_, _>>().map_err(told)?;
    let classes: Arc<[Class]> = classes.into();
    let shelf: Arc<Shelf> = Arc::new(Mutex::new(Vec::with_capacity(64)));
    let fault: Arc<Mutex<Option<String>>> = Arc::new(Mutex::new(None));
    let work = move |mut random: Random, classes: &[Class], shelf: &Shelf| -> Result<(), String> {
        for round in 0..ROUNDS {
            let class = classes[random.below(classes.len())];
            let fill = random.below(200) + 1;
            let made = with_class(class, || {
                let bytes = vec![fill as u8; fill * 5];
                // Preempted or not, the scope is this thread's.
                if round % 64 == 0 {
                    thread::yield_now();
                }
                (fill, bytes, vec![fill as u64; fill].into_boxed_slice())
            });
            let mut shelf = shelf.lock();
            let other = if shelf.len() < 60 {
                None
            } else {
                let index = random.below(shelf.len());
                Some(shelf.swap_remove(index))
            };
            shelf.push(made);
            drop(shelf);
            if let Some((fill, bytes, numbers)) = other {
                check!(
                    bytes.len() == fill * 5 && bytes.iter().all(|byte| *byte == fill as u8),
                    "bytes that another thread made have changed"
                );
                check!(
                    numbers.len() == fill && numbers.iter().all(|number| *number == fill as u64),
                    "numbers that another thread made have changed"
                );
            }
            if random.once_in(100) {
                class.trim().map_err(told)?;
            }
        }
        Ok(())
    };
    let mut handles = Vec::new();
    for index in 0..THREADS {
        let (classes, shelf, fault) = (Arc::clone(&classes), Arc::clone(&shelf), Arc::clone(&fault));
        let random = Random::new(context.seed ^ index as u64);
        let body: Box<dyn FnOnce() + Send> = Box::new(move || {
            if let Err(error) = work(random, &classes, &shelf) {
                *fault.lock() = Some(error);
            }
        });
        let spawned = thread::spawn("classes", Priority::Normal, thread::STACK_LEN, body);
        handles.push(spawned.map_err(|error| format!("spawn: {error}"))?);
    }
    handles.into_iter().for_each(thread::JoinHandle::join);
    if let Some(error) = fault.lock().take() {
        return Err(error);
    }
    shelf.lock().clear();
    for class in classes.iter() {
        class.destroy().map_err(told)?;
    }
    clear_window(context)?;
    Ok(format!("{THREADS} threads, {ROUNDS} rounds each"))
}

/// As many threads at once as the library registers workers.
pub(crate) fn many_threads(context: &Context) -> Verdict {
    let go = Flag::new();
    let mut ended = Vec::new();
    for _ in 0..hs_core::THREADS_MAX {
        let (go, done, guest) = (go.clone(), Flag::new(), context.guest);
        ended.push(done.clone());
        let body = Box::new(move || {
            go.wait(guest);
            done.set(guest);
        });
        let spawned = context.guest.spawn("one of many", Priority::Normal, body);
        spawned.map_err(|error| format!("thread {}: {error}", ended.len()))?;
    }
    go.set(context.guest);
    for done in &ended {
        check!(done.wait(context.guest), "a thread did not come to its end");
    }
    Ok(format!("{} threads", ended.len()))
}

/// Memory that runs out is told by name, and to the standard library's containers too.
pub(crate) fn exhaustion(context: &Context) -> Verdict {
    hs_core::start(context.guest).map_err(|error| format!("start: {error}"))?;
    let class = Class::create(ClassId(1), PAGE_LEN).map_err(told)?;
    let more = frames::available() * PAGE_LEN;
    let layout = Layout::from_size_align(more, 16).map_err(|error| format!("{error}"))?;
    let refused = class.allocate_block(layout);
    check!(
        matches!(refused, Err(ClassError::Map(_))),
        "more than there is: {refused:?}"
    );
    // Seen by somebody, or the compiler knows better than to allocate.
    let mut bytes = Vec::<u8>::new();
    let reserved = with_class(class, || core::hint::black_box(&mut bytes).try_reserve(more));
    check!(reserved.is_err(), "more than there is was reserved");
    let wide = Layout::from_size_align(64, 2 * PAGE_LEN).map_err(|error| format!("{error}"))?;
    let refused = class.allocate_block(wide);
    check!(
        refused == Err(ClassError::TooLarge(wide)),
        "aligned beyond a page: {refused:?}"
    );
    check!(class.statistics().blocks == 0, "a refused block is counted");
    class.destroy().map_err(told)?;
    clear_window(context)?;
    Ok("".into())
}
