//! Gives up every right a process of Lockgate does not need, for good.
//!
//! In this order, each step needing what a later one takes away: user and group (only when
//! asked), capabilities, no-new-privileges, core dumps, file system and network rules
//! ([`files`], Landlock), system calls ([`filter`], seccomp). All of it works without any
//! capability, and in a user namespace with a single user. Landlock is taken as far as the
//! kernel has it; the others are required. What was achieved is logged as one line.
//!
//! Every step concerns the calling thread, and threads inherit: confine before the second one.

mod capabilities;
pub mod command;
mod files;
mod filter;
mod identity;

use std::path::{Path, PathBuf};

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior, setrlimit,
};

pub use files::landlock_abi;

/// Whom the rights are cut for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `lockgate-edge run`: no files, no new network sockets, no programs.
    Edge,
    /// `lockgate-edge client`: not even a Unix socket of its own making.
    Client,
    /// Starts and watches the others.
    Supervisor,
    /// Decides; talks to the edge and to its database.
    Control,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Client => "client",
            Self::Supervisor => "supervisor",
            Self::Control => "control",
        }
    }
}

/// A user and group to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
}

/// Files a confined program may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// Read and execute, with everything below.
    pub read: Vec<PathBuf>,
    /// Read, write, create and remove, with everything below.
    pub write: Vec<PathBuf>,
    /// Connect to Unix sockets, of the folder or below; nothing else.
    pub connect: Vec<PathBuf>,
}

/// Which step failed, and why.
#[derive(Debug)]
pub struct ConfineError {
    step: String,
    reason: String,
}

impl ConfineError {
    fn new(step: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self {
            step: step.into(),
            reason: reason.to_string(),
        }
    }
}

impl std::fmt::Display for ConfineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot drop rights: {}: {}", self.step, self.reason)
    }
}

impl std::error::Error for ConfineError {}

/// What a process has given up.
#[derive(Debug)]
pub struct Achieved {
    profile: Profile,
    bounding: capabilities::Bounding,
    landlock: files::Enforced,
}

impl Achieved {
    /// For the log.
    pub fn facts(&self) -> serde_json::Value {
        serde_json::json!({
            "profile": self.profile.name(),
            "uid": rustix::process::getuid().as_raw(),
            "gid": rustix::process::getgid().as_raw(),
            "capabilities": "none",
            "bounding_set": self.bounding.name(),
            "no_new_privileges": true,
            "seccomp": "filter",
            "landlock": self.landlock.extent,
            "landlock_abi": self.landlock.abi,
        })
    }
}

/// Confines the edge; `http_socket` is the one path it still connects to.
pub fn edge(http_socket: &Path) -> Result<Achieved, ConfineError> {
    let bounding = privileges(None)?;
    signal_at_end_of_parent(Some(Signal::TERM))?;
    not_dumpable()?;
    let landlock = files::edge(http_socket)?;
    filter::edge()?;
    Ok(Achieved {
        profile: Profile::Edge,
        bounding,
        landlock,
    })
}

/// Confines the edge of an endpoint. It reaches no path and makes no socket: all it works with is
/// open, or comes over its link. It does not end with its parent.
pub fn client() -> Result<Achieved, ConfineError> {
    let bounding = privileges(None)?;
    // The parent may have asked for it before it executed us.
    signal_at_end_of_parent(None)?;
    not_dumpable()?;
    let landlock = files::nothing()?;
    filter::client()?;
    Ok(Achieved {
        profile: Profile::Client,
        bounding,
        landlock,
    })
}

/// Confines a program that is about to be executed.
pub fn program(
    profile: Profile,
    identity: Option<Identity>,
    paths: &Paths,
) -> Result<Achieved, ConfineError> {
    // Paths are opened before the change of user, rules made of them apply after it.
    let rules = files::Rules::new(profile, paths)?;
    let bounding = privileges(identity)?;
    if profile == Profile::Control {
        signal_at_end_of_parent(Some(Signal::TERM))?;
    }
    let landlock = rules.enforce()?;
    filter::program()?;
    Ok(Achieved {
        profile,
        bounding,
        landlock,
    })
}

/// A supervisor that was killed leaves nothing running behind it. Survives the exec of a program
/// that is not set-uid; a change of user would clear it, so it comes after that.
fn signal_at_end_of_parent(signal: Option<Signal>) -> Result<(), ConfineError> {
    rustix::process::set_parent_process_death_signal(signal)
        .map_err(|problem| ConfineError::new("PR_SET_PDEATHSIG", problem))
}

/// No memory image for others. An exec would make the process dumpable again, but the edges have
/// none.
fn not_dumpable() -> Result<(), ConfineError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|problem| ConfineError::new("PR_SET_DUMPABLE", problem))
}

/// What all profiles share.
fn privileges(identity: Option<Identity>) -> Result<capabilities::Bounding, ConfineError> {
    let bounding = capabilities::drop_bounding()?;
    if let Some(identity) = identity {
        identity::become_user(identity)?;
    }
    capabilities::drop_all()?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|problem| ConfineError::new("PR_SET_NO_NEW_PRIVS", problem))?;
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )
    .map_err(|problem| ConfineError::new("RLIMIT_CORE", problem))?;
    Ok(bounding)
}
