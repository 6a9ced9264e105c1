//! How glibc allocates in this process.
//!
//! By default it opens up to eight arenas a core, and what one thread frees of another's arena stays
//! there: a vectorizer far behind its producer grew by 8 % in five minutes (`make bench-backlog`). With an
//! arena a core it grows less, and takes less from the start; jemalloc and mimalloc took 1.8 and 2.5 times as much.
#![allow(unsafe_code)]

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
