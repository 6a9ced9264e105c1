//! The ranker against LightGBM itself, whose official library the first run fetches; and what needs
//! no library: damaged models, diversity, exploration.
#![allow(clippy::unwrap_used)]

mod diversity;
mod evaluator;
mod exploration;
mod library;
mod malformed;
mod package;
mod synthetic;
mod training;

use std::ops::ControlFlow;
use std::sync::LazyLock;

use millrace_ranker::{Iteration, LightGbm};

/// LightGBM, fetched once where this user and the system have none.
fn lightgbm() -> &'static LightGbm {
    static LIBRARY: LazyLock<LightGbm> = LazyLock::new(|| {
        block_on(LightGbm::obtain(&mut |_, _| {}))
            .unwrap_or_else(|error| panic!("these tests need the real library: {error}"))
    });
    &LIBRARY
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// For trainings that nobody watches.
fn unwatched(_: Iteration) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
