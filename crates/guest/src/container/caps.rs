//! Capabilities and limits of the application.

use rustix::{
    io::{self, Errno},
    process::{Resource, Rlimit, setrlimit},
    thread::{
        CapabilitySet, CapabilitySets, Gid, Uid, capability_is_in_bounding_set, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
        set_thread_res_uid,
    },
};

use super::user::Account;

/// Spec 14: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot,
/// mknod, audit_write, setfcap.
pub const DEFAULT: CapabilitySet = CapabilitySet::from_bits_retain(0x0000_0000_a804_25fb);

/// Spec 14: RLIMIT_NOFILE, both limits.
const OPEN_FILES: u64 = 1024;
/// The hard limit with all capabilities (the kernel's own `fs.nr_open`).
const OPEN_FILES_ALL: u64 = 1 << 20;

/// Open files: 1024/1024, or a hard limit of 1,048,576 with all capabilities.
pub fn limit_files(all_capabilities: bool) -> io::Result<()> {
    let maximum = if all_capabilities { OPEN_FILES_ALL } else { OPEN_FILES };
    setrlimit(Resource::Nofile, Rlimit { current: Some(OPEN_FILES), maximum: Some(maximum) })
}

/// Becomes `account` for good. The bounding set shrinks first, which only root may do; the user id changes last. Root keeps
/// the bounding set's capabilities; any other user has none and can never gain any (`no_new_privs`, spec 14).
pub fn become_account(account: &Account, all_capabilities: bool) -> io::Result<()> {
    if !all_capabilities {
        bound()?;
    }
    let groups: Vec<Gid> = account.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    clear_ambient_capability_set()?;
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    if !uid.is_root() {
        return set_no_new_privs(true);
    }
    if !all_capabilities {
        let inheritable = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: DEFAULT, permitted: DEFAULT, inheritable })?;
    }
    Ok(())
}

/// Drops every capability that this kernel knows and [`DEFAULT`] lacks from the bounding set.
fn bound() -> io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !DEFAULT.contains(capability) => remove_capability_from_bounding_set(capability)?,
            Ok(_) => {}
            Err(Errno::INVAL) => break, // past the last one
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_set_is_the_specs() {
        let named = [
            CapabilitySet::CHOWN,
            CapabilitySet::DAC_OVERRIDE,
            CapabilitySet::FOWNER,
            CapabilitySet::FSETID,
            CapabilitySet::KILL,
            CapabilitySet::SETGID,
            CapabilitySet::SETUID,
            CapabilitySet::SETPCAP,
            CapabilitySet::NET_BIND_SERVICE,
            CapabilitySet::NET_RAW,
            CapabilitySet::SYS_CHROOT,
            CapabilitySet::MKNOD,
            CapabilitySet::AUDIT_WRITE,
            CapabilitySet::SETFCAP,
        ];
        assert_eq!(named.into_iter().fold(CapabilitySet::empty(), |all, one| all | one), DEFAULT);
    }
}
