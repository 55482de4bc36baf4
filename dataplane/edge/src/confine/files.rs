//! Files and network through Landlock, as far as the kernel has it.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::{ConfineError, Paths, Profile};

/// The newest interface we know; an older kernel enforces what it has of it.
const NEWEST: ABI = ABI::V9;

/// How much of the rules the kernel enforces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Enforced {
    /// `full`, `partial` (the kernel lacks newer parts) or `none`.
    pub(super) extent: &'static str,
    /// The kernel's version of the interface, 0 without Landlock.
    pub(super) abi: i32,
}

fn failed(problem: impl std::fmt::Display) -> ConfineError {
    ConfineError::new("Landlock", problem)
}

/// Rules that are ready to be enforced; their paths are open.
pub(super) struct Rules(RulesetCreated);

impl Rules {
    /// For a program: only `paths`. The control plane serves no TCP port of its own, and signals
    /// and abstract sockets reach only processes under the same rules. Where its database, resolvers,
    /// log receivers and other gateways are is configuration that changes while it runs, so outgoing
    /// connections stay open.
    pub(super) fn new(profile: Profile, paths: &Paths) -> Result<Self, ConfineError> {
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))
            .map_err(failed)?;
        if profile == Profile::Control {
            rules = rules.handle_access(AccessNet::BindTcp).map_err(failed)?;
            rules = rules.scope(Scope::from_all(NEWEST)).map_err(failed)?;
        }
        let mut rules = rules.create().map_err(failed)?;
        for path in &paths.read {
            rules = allow(rules, "--read", path, AccessFs::from_read(NEWEST))?;
        }
        for path in &paths.write {
            let unneeded = AccessFs::MakeChar | AccessFs::MakeBlock;
            rules = allow(
                rules,
                "--write",
                path,
                AccessFs::from_all(NEWEST) & !unneeded,
            )?;
        }
        for path in &paths.connect {
            rules = allow(rules, "--connect", path, AccessFs::ResolveUnix.into())?;
        }
        Ok(Self(rules))
    }

    pub(super) fn enforce(self) -> Result<Enforced, ConfineError> {
        let status = self.0.restrict_self().map_err(failed)?;
        Ok(Enforced {
            extent: match status.ruleset {
                RulesetStatus::FullyEnforced => "full",
                RulesetStatus::PartiallyEnforced => "partial",
                RulesetStatus::NotEnforced => "none",
            },
            abi: abi(&status.landlock),
        })
    }
}

fn allow(
    rules: RulesetCreated,
    option: &str,
    path: &Path,
    access: landlock::BitFlags<AccessFs>,
) -> Result<RulesetCreated, ConfineError> {
    let named = |problem: &dyn std::fmt::Display| {
        ConfineError::new(format!("{option} {}", path.display()), problem)
    };
    let parent = PathFd::new(path).map_err(|problem| named(&problem))?;
    let metadata = std::fs::metadata(path).map_err(|problem| named(&problem))?;
    // A file has no entries to list or create.
    let access = if metadata.is_dir() {
        access
    } else {
        access & AccessFs::from_file(NEWEST)
    };
    rules
        .add_rule(PathBeneath::new(parent, access))
        .map_err(|problem| named(&problem))
}

/// The edge: no file at all, no TCP connection or port, no signal to others. Where the kernel
/// can tell Unix sockets apart, only those beside `http_socket`.
pub(super) fn edge(http_socket: &Path) -> Result<Enforced, ConfineError> {
    let directory = http_socket.parent().unwrap_or(Path::new("/"));
    Rules(allow(
        everything()?,
        "http_socket",
        directory,
        AccessFs::ResolveUnix.into(),
    )?)
    .enforce()
}

/// The edge of an endpoint: the same, without any path.
pub(super) fn nothing() -> Result<Enforced, ConfineError> {
    Rules(everything()?).enforce()
}

/// Handles all the kernel can, allows nothing of it yet.
fn everything() -> Result<RulesetCreated, ConfineError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .map_err(failed)
}

fn abi(status: &LandlockStatus) -> i32 {
    match status {
        LandlockStatus::Available {
            effective_abi,
            kernel_abi,
        } => kernel_abi.unwrap_or(*effective_abi as i32),
        _ => 0,
    }
}

/// The kernel's version of Landlock, 0 without. Asks in a thread, which has to restrict itself to
/// find out.
pub fn landlock_abi() -> i32 {
    let asking = std::thread::spawn(|| {
        let status = Ruleset::default()
            .handle_access(AccessFs::Execute)
            .and_then(Ruleset::create)
            .and_then(RulesetCreated::restrict_self);
        status.map_or(0, |status| abi(&status.landlock))
    });
    asking.join().unwrap_or(0)
}
