//! The load patterns. Each takes a [`Run`] and gives a [`Tally`]; nothing here outlives its command.

pub mod flood;
pub mod garbage;
pub mod hold;
pub mod replay;
pub mod resume;
pub mod signin;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use crate::conversation::Secret;
use crate::report::Tally;
use crate::session::{Target, Who};

/// What every command works with.
#[derive(Debug)]
pub struct Run {
    pub target: Target,
    pub user_template: String,
    /// Names in use: the template with 0 .. users - 1.
    pub users: usize,
    pub password: Secret,
    pub parallel: usize,
    pub esp: bool,
}

impl Run {
    /// The user whose turn `index` is.
    pub fn who(&self, index: usize) -> Who {
        let number = index.checked_rem(self.users).unwrap_or(0);
        Who {
            user: self.user_template.replace("{}", &number.to_string()),
            password: self.password.clone(),
            cookie: None,
        }
    }
}

/// Deals out 0 .. total - 1, each once.
#[derive(Debug)]
pub struct Turns {
    next: AtomicUsize,
    total: usize,
}

impl Turns {
    pub fn new(total: usize) -> Arc<Turns> {
        Arc::new(Turns {
            next: AtomicUsize::new(0),
            total,
        })
    }

    pub fn take(&self) -> Option<usize> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        (turn < self.total).then_some(turn)
    }
}

/// Runs the workers side by side and adds up what they return.
pub async fn together<F>(workers: impl Iterator<Item = F>) -> Tally
where
    F: Future<Output = Tally> + Send + 'static,
{
    let mut set: JoinSet<Tally> = workers.collect();
    let mut whole = Tally::default();
    while let Some(done) = set.join_next().await {
        match done {
            Ok(tally) => whole.merge(tally),
            Err(error) => {
                whole.failed += 1;
                *whole.errors.entry(format!("worker: {error}")).or_default() += 1;
            }
        }
    }
    whole
}
