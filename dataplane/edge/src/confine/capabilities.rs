//! Capabilities: none in any set, and none to be had from a program.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities,
    capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
};

use super::ConfineError;

/// What happened to the bounding set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bounding {
    Empty,
    /// Only CAP_SETPCAP can empty it. A process without has no capability to begin with, and
    /// no-new-privileges keeps it from getting one.
    Untouched,
}

impl Bounding {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Untouched => "untouched",
        }
    }
}

/// Empties the bounding set and locks the special treatment of user 0 off, as far as allowed.
pub(super) fn drop_bounding() -> Result<Bounding, ConfineError> {
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(one) {
            // The kernel knows no capability of this number, nor any above.
            Err(_) => break,
            Ok(false) => {}
            Ok(true) => match remove_capability_from_bounding_set(one) {
                Ok(()) => {}
                Err(Errno::PERM) => return Ok(Bounding::Untouched),
                Err(problem) => return Err(ConfineError::new("PR_CAPBSET_DROP", problem)),
            },
        }
    }
    let locked = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    match set_capabilities_secure_bits(locked) {
        Ok(()) | Err(Errno::PERM) => Ok(Bounding::Empty),
        Err(problem) => Err(ConfineError::new("PR_SET_SECUREBITS", problem)),
    }
}

/// Empties the ambient, inheritable, permitted and effective sets, and looks that it is so.
pub(super) fn drop_all() -> Result<(), ConfineError> {
    clear_ambient_capability_set()
        .map_err(|problem| ConfineError::new("PR_CAP_AMBIENT_CLEAR_ALL", problem))?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(|problem| ConfineError::new("capset", problem))?;
    let left = capabilities(None).map_err(|problem| ConfineError::new("capget", problem))?;
    if left.effective.is_empty() && left.permitted.is_empty() && left.inheritable.is_empty() {
        Ok(())
    } else {
        Err(ConfineError::new("capget", "capabilities are still there"))
    }
}
