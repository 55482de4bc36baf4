//! System calls.
//!
//! The edge has a list of calls it may make; everything else fails with EPERM, except calls that
//! only an intruder would try, which end the process: the supervisor sees SIGSYS and says so.
//! Programs run by `confine` may do what programs do, except for a list of calls that reach into
//! the kernel or into other processes, and for sockets of families we have no use for; those fail
//! with EPERM. Both lists come from the manual pages; the edge's was checked with strace over the
//! integration tests.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use super::ConfineError;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: TargetArch = TargetArch::aarch64;

/// Reaching into the kernel or other processes; nothing of ours does.
const DANGEROUS: &[c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// What the edge never does either: an attempt is an intrusion.
const NEVER_IN_THE_EDGE: &[c_long] = &[libc::SYS_execve, libc::SYS_execveat, libc::SYS_chroot];

/// What both kinds of edge do, whatever the arguments.
const EDGE: &[c_long] = &[
    // Memory. mmap and mprotect have rules of their own.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads and time. clone and prctl have rules of their own.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_getuid,
    // quinn-udp asks for the kernel version before it trusts UDP segmentation.
    libc::SYS_uname,
    libc::SYS_membarrier,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    // The kernel's version, which decides about offloads of UDP.
    libc::SYS_uname,
    // Signals. tgkill has a rule of its own.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Open descriptors.
    libc::SYS_close,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_write,
    libc::SYS_writev,
    // Sockets that exist; recvmsg also brings new ones. socket, socketpair and connect are for the
    // edge of a gateway only.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

/// Flags of clone that make a namespace. `confine` programs fork, but never into a new world.
const NAMESPACES: &[i32] = &[
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Makes a descriptor nonblocking. The type differs between architectures.
#[allow(clippy::unnecessary_cast)]
const FIONBIO: u64 = libc::FIONBIO as u64;

/// `prctl` option to name memory, which the allocator uses; not in every libc.
const PR_SET_VMA: u64 = 0x5356_4d41;

fn failed(problem: impl std::fmt::Display) -> ConfineError {
    ConfineError::new("seccomp", problem)
}

/// Matches when `argument & mask == value`.
fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompRule, ConfineError> {
    let condition = SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(mask),
        value,
    )
    .map_err(failed)?;
    SeccompRule::new(vec![condition]).map_err(failed)
}

fn equal(argument: u8, value: u64) -> Result<SeccompRule, ConfineError> {
    masked(argument, u64::from(u32::MAX), value)
}

fn any(calls: &[c_long]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// `otherwise` for calls that match no rule.
fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, ConfineError> {
    SeccompFilter::new(rules, otherwise, matched, ARCHITECTURE)
        .and_then(BpfProgram::try_from)
        .map_err(failed)
}

/// clone3 has its flags in memory, where no filter sees them; libraries that hear "not
/// implemented" use clone.
fn no_clone3() -> Result<BpfProgram, ConfineError> {
    compile(
        any(&[libc::SYS_clone3]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
    )
}

/// What both kinds of edge may do.
fn edge_rules() -> Result<Rules, ConfineError> {
    let mut rules = any(EDGE);
    let executable = libc::PROT_EXEC as u64;
    let threads = (libc::CLONE_VM | libc::CLONE_THREAD) as u64;
    let process = u64::from(
        rustix::process::getpid()
            .as_raw_nonzero()
            .get()
            .unsigned_abs(),
    );
    rules.extend([
        // For clone3 to be refused by its own filter, this one must let it through.
        (libc::SYS_clone3, vec![]),
        (libc::SYS_clone, vec![masked(0, threads, threads)?]),
        (libc::SYS_mmap, vec![masked(2, executable, 0)?]),
        (libc::SYS_mprotect, vec![masked(2, executable, 0)?]),
        (
            libc::SYS_prctl,
            vec![equal(0, libc::PR_SET_NAME as u64)?, equal(0, PR_SET_VMA)?],
        ),
        // Reading limits: glibc does it for the stack of a thread. Setting needs a pointer here.
        (libc::SYS_prlimit64, vec![limit_query()?]),
        // abort() signals its own thread.
        (libc::SYS_tgkill, vec![equal(0, process)?]),
        (libc::SYS_ioctl, vec![equal(1, FIONBIO)?]),
        // Facts about an open descriptor, which is how glibc does fstat.
        (libc::SYS_newfstatat, vec![empty_path(3)?]),
        (libc::SYS_statx, vec![empty_path(2)?]),
    ]);
    Ok(rules)
}

fn limit_query() -> Result<SeccompRule, ConfineError> {
    let condition =
        SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0).map_err(failed)?;
    SeccompRule::new(vec![condition]).map_err(failed)
}

fn empty_path(argument: u8) -> Result<SeccompRule, ConfineError> {
    let flag = libc::AT_EMPTY_PATH as u64;
    masked(argument, flag, flag)
}

/// Filters for the edge. Needs no-new-privileges; ends with the strictest, which allows no other.
pub(super) fn edge() -> Result<(), ConfineError> {
    let mut rules = edge_rules()?;
    let unix = libc::AF_UNIX as u64;
    rules.extend([
        // The runtime has a pair of its own; HTTP goes to the control plane's socket.
        (libc::SYS_socket, vec![equal(0, unix)?]),
        (libc::SYS_socketpair, vec![equal(0, unix)?]),
        (libc::SYS_connect, vec![]),
    ]);
    apply_edge(rules)
}

/// Filters for the edge of an endpoint: no socket is made and none connected.
pub(super) fn client() -> Result<(), ConfineError> {
    apply_edge(edge_rules()?)
}

fn apply_edge(rules: Rules) -> Result<(), ConfineError> {
    let intruder = any(&[DANGEROUS, NEVER_IN_THE_EDGE].concat());
    let filters = [
        no_clone3()?,
        compile(intruder, SeccompAction::Allow, SeccompAction::KillProcess)?,
        compile(
            rules,
            SeccompAction::Errno(libc::EPERM as u32),
            SeccompAction::Allow,
        )?,
    ];
    filters
        .iter()
        .try_for_each(|filter| apply_filter(filter).map_err(failed))
}

/// Sockets that no program of ours makes. What is left: Unix, TCP and UDP, and the routing socket
/// by which the C library learns which addresses the machine has before it chooses one of a name.
fn foreign_sockets() -> Result<Vec<SeccompRule>, ConfineError> {
    use SeccompCmpOp::{Eq, Ne};
    const FAMILY: u8 = 0;
    const PROTOCOL: u8 = 2;
    let of_internet = |family| {
        all(&[
            (FAMILY, Eq, family),
            (PROTOCOL, Ne, 0),
            (PROTOCOL, Ne, libc::IPPROTO_TCP),
            (PROTOCOL, Ne, libc::IPPROTO_UDP),
        ])
    };
    Ok(vec![
        all(&[
            (FAMILY, Ne, libc::AF_UNIX),
            (FAMILY, Ne, libc::AF_INET),
            (FAMILY, Ne, libc::AF_INET6),
            (FAMILY, Ne, libc::AF_NETLINK),
        ])?,
        of_internet(libc::AF_INET)?,
        of_internet(libc::AF_INET6)?,
        all(&[
            (FAMILY, Eq, libc::AF_NETLINK),
            (PROTOCOL, Ne, libc::NETLINK_ROUTE),
        ])?,
    ])
}

/// All of these: an argument and what it is compared with.
fn all(conditions: &[(u8, SeccompCmpOp, libc::c_int)]) -> Result<SeccompRule, ConfineError> {
    let conditions = conditions.iter().map(|(argument, operator, value)| {
        let value = u64::from(value.unsigned_abs());
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), value)
    });
    let conditions = conditions.collect::<Result<_, _>>().map_err(failed)?;
    SeccompRule::new(conditions).map_err(failed)
}

/// Filters for a program that is about to be executed.
pub(super) fn program() -> Result<(), ConfineError> {
    let mut rules = any(DANGEROUS);
    rules.insert(libc::SYS_socket, foreign_sockets()?);
    let namespaces = NAMESPACES.iter().map(|flag| {
        let flag = flag.unsigned_abs().into();
        masked(0, flag, flag)
    });
    rules.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);
    let filters = [
        no_clone3()?,
        compile(
            rules,
            SeccompAction::Allow,
            SeccompAction::Errno(libc::EPERM as u32),
        )?,
    ];
    filters
        .iter()
        .try_for_each(|filter| apply_filter(filter).map_err(failed))
}
