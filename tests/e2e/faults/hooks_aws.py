"""What `[compat] profile = "aws"` does otherwise."""


def suspend_hangs():
    vm = Vm(payload={"suspend": ["hang"]})
    vm.suspend()
    said = vm.become("TERMINATED")
    assert said.startswith(f"Suspend lifecycle hook timed out after PT{HOOK_SECONDS}S."), said
    assert vm.pid() is None and not vm.directory().exists()


play([suspend_hangs])
