//! Which kernel modules a guest loads, and in which order.

use std::collections::{HashMap, HashSet};

/// What every guest needs (ENGINE.md, section 3); ext4 is built in. Their dependencies come along. `tcp_diag` is for the
/// agent, which closes connections by it.
pub(crate) const WANTED: [&str; 9] = [
    "virtio",
    "virtio_ring",
    "virtio_mmio",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio-rng",
    "overlay",
    "tcp_diag",
];

/// Paths (as `modules.dep` writes them) of `wanted` and all they depend on, each once, every module after what it needs. Names
/// in `modules.builtin` are skipped. The error says what is wrong, for people.
pub(crate) fn load_order(dep: &str, builtin: &str, wanted: &[&str]) -> Result<Vec<String>, String> {
    let mut paths = HashMap::new();
    let mut needs: HashMap<&str, Vec<&str>> = HashMap::new();
    for line in dep.lines().filter(|line| !line.trim().is_empty()) {
        let (path, list) = line.split_once(':').ok_or_else(|| format!("modules.dep has the odd line {line:?}"))?;
        paths.insert(module_name(path), path);
        needs.insert(path, list.split_whitespace().collect());
    }
    let builtin: HashSet<String> = builtin.lines().map(module_name).collect();
    let mut order = Order { needs: &needs, done: HashSet::new(), order: Vec::new() };
    for name in wanted {
        match paths.get(&module_name(name)) {
            Some(path) => order.visit(path, &mut Vec::new())?,
            None if builtin.contains(&module_name(name)) => {}
            None => return Err(format!("it has no module {name}")),
        }
    }
    Ok(order.order.into_iter().map(str::to_owned).collect())
}

/// A module's name from its path: the file's stem, with `-` and `_` alike as the kernel has it.
fn module_name(path: &str) -> String {
    let file = path.trim().rsplit('/').next().unwrap_or_default();
    file.split(".ko").next().unwrap_or_default().replace('-', "_")
}

struct Order<'a> {
    needs: &'a HashMap<&'a str, Vec<&'a str>>,
    done: HashSet<&'a str>,
    order: Vec<&'a str>,
}

impl<'a> Order<'a> {
    /// Depth first; `above` is the chain that led here, so that a cycle is an error and not the end of the stack.
    fn visit(&mut self, path: &'a str, above: &mut Vec<&'a str>) -> Result<(), String> {
        if self.done.contains(path) {
            return Ok(());
        }
        if above.contains(&path) {
            return Err(format!("its module {path} depends on itself"));
        }
        let needs = self.needs;
        let list = needs.get(path).ok_or_else(|| format!("modules.dep names {path} only as a dependency"))?;
        above.push(path);
        // modules.dep lists the direct need first and the deepest last.
        for need in list.iter().rev() {
            self.visit(need, above)?;
        }
        above.pop();
        self.done.insert(path);
        self.order.push(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko\n\
        kernel/drivers/virtio/virtio_ring.ko:\n\
        kernel/net/core/failover.ko:\n\
        kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko\n\
        kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko \
        kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko\n\
        kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko\n";

    #[test]
    fn every_module_comes_once_and_after_what_it_needs() {
        let order = load_order(DEP, "", &["virtio_net", "virtio", "virtio_rng"]).unwrap();
        let names: Vec<_> = order.iter().map(|path| module_name(path)).collect();
        assert_eq!(names, ["virtio_ring", "virtio", "failover", "net_failover", "virtio_net", "virtio_rng"]);
    }

    #[test]
    fn what_is_built_in_is_skipped_and_what_is_missing_is_named() {
        assert_eq!(load_order(DEP, "kernel/fs/ext4/ext4.ko\n", &["ext4"]).unwrap(), [] as [&str; 0]);
        assert!(load_order(DEP, "", &["ext4"]).unwrap_err().contains("ext4"));
    }

    #[test]
    fn a_cycle_or_an_odd_line_is_an_error() {
        assert!(load_order("a.ko: b.ko\nb.ko: a.ko\n", "", &["a"]).unwrap_err().contains("depends on itself"));
        assert!(load_order("a.ko: c.ko\n", "", &["a"]).unwrap_err().contains("c.ko"));
        assert!(load_order("nonsense\n", "", &["a"]).unwrap_err().contains("nonsense"));
    }
}
