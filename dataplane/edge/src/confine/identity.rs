//! Becoming another user.

use rustix::process::{Gid, Uid, getegid, geteuid, getgid, getgroups, getuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::{ConfineError, Identity};

/// Gives up supplementary groups, then the group, then the user: real, effective and saved.
///
/// These calls change one thread; there is only one at this time.
pub(super) fn become_user(identity: Identity) -> Result<(), ConfineError> {
    let Identity { uid, gid } = identity;
    if uid == u32::MAX || gid == u32::MAX {
        // The kernel would understand "leave as it is".
        return Err(ConfineError::new(
            "--uid, --gid",
            "4294967295 is no user or group",
        ));
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[]).map_err(|problem| ConfineError::new("setgroups", problem))?;
    set_thread_res_gid(group, group, group)
        .map_err(|problem| ConfineError::new("setresgid", problem))?;
    set_thread_res_uid(user, user, user)
        .map_err(|problem| ConfineError::new("setresuid", problem))?;
    let groups = getgroups().map_err(|problem| ConfineError::new("getgroups", problem))?;
    if getuid() != user
        || geteuid() != user
        || getgid() != group
        || getegid() != group
        || !groups.is_empty()
    {
        return Err(ConfineError::new(
            "setresuid",
            "the kernel kept another user or group",
        ));
    }
    Ok(())
}
