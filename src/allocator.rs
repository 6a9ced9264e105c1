//! How glibc allocates in this process, and gives back.
//!
//! By default it opens up to eight arenas a core, and what one thread frees of another's arena stays
//! there: a vectorizer far behind its producer grew by 8 % in five minutes (`make bench-backlog`). With an
//! arena a core it grows less, and takes less from the start; jemalloc and mimalloc took 1.8 and 2.5 times as much.
#![allow(unsafe_code)]

#[cfg(target_env = "gnu")]
use std::time::Duration;

/// How often what is free goes back to the system: taking it again costs a fault a page.
#[cfg(target_env = "gnu")]
const GIVE_BACK_EVERY: Duration = Duration::from_secs(20);

/// Lets the allocator open as many arenas as there are cores, unless the environment says how many.
///
/// To be called before there are other threads.
#[cfg(target_env = "gnu")]
pub fn one_arena_a_core() {
    let told = std::env::var_os("MALLOC_ARENA_MAX").is_some()
        || std::env::var_os("GLIBC_TUNABLES").is_some_and(|tunables| {
            tunables
                .to_string_lossy()
                .contains("glibc.malloc.arena_max")
        });
    if told {
        return;
    }
    let cores = std::thread::available_parallelism()
        .ok()
        .and_then(|cores| i32::try_from(cores.get()).ok())
        .unwrap_or(1);
    // SAFETY: takes two integers and keeps nothing of ours; no other thread allocates yet. What it
    // answers says whether it was set, and a process where it was not works as well.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, cores) };
}

/// Other allocators are left as they are.
#[cfg(not(target_env = "gnu"))]
pub fn one_arena_a_core() {}

/// Gives what is free back to the system, every so often, for as long as it is polled. By itself glibc does so
/// only at the end of an arena, and one small allocation there keeps all that is below.
#[cfg(target_env = "gnu")]
pub async fn give_back_regularly() {
    loop {
        tokio::time::sleep(GIVE_BACK_EVERY).await;
        // SAFETY: it takes an integer, and locks what it works on itself. Its answer says whether there was
        // anything to give.
        let given = tokio::task::spawn_blocking(|| unsafe { libc::malloc_trim(0) });
        if given.await.is_err() {
            return;
        }
    }
}

/// Other allocators are left as they are.
#[cfg(not(target_env = "gnu"))]
pub async fn give_back_regularly() {}
