"""Applications that end, kernels that panic, and agents that get no processor."""


def exits(code):
    vm = Vm("plain")
    held = vm.background("/hold/300", timeout=300)
    vm.background(f"/exit/{code}")
    said = vm.lost()
    assert said == f"Container Stopped with Exit Code: {code}", said
    assert held.result(20)[0] == 502
    return said


def exits_with_0():
    return exits(0)


def exits_with_3():
    return exits(3)


def is_killed_by_a_signal():
    vm = Vm("plain")
    vm.background("/crash")
    said = vm.lost()
    assert said == f"Container Stopped with Exit Code: {128 + signal.SIGSEGV}", said
    return said


def its_kernel_panics():
    vm = Vm("plain")
    asked = vm.background("/panic")
    said = vm.lost()
    assert asked.result(20)[0] == 502
    return said


def starved(name):
    vm = Vm(name)
    vm.ok("/starve")
    # The application gets no processor either.
    eventually(lambda: silent(vm), True)
    return vm


def silent(vm):
    try:
        return vm.ask(timeout=2)[0] != 200
    except OSError:
        return True


def starved_and_told_to_suspend_with_a_hook():
    vm = starved("hooked")
    vm.suspend()
    said = vm.explain(f"Suspend lifecycle hook timed out after PT{HOOK_SECONDS}S")
    assert vm.state() == "RUNNING"
    vm.terminate()
    return said


def starved_and_told_to_suspend_without_a_hook():
    """The agent need not agree: it is frozen as it is. Woken, it answers as little as before, and sleeps on."""
    vm = starved("plain")
    vm.suspend()
    vm.become("SUSPENDED", 120)
    vm.resume()
    said = vm.explain("The MicroVM could not be resumed: its guest did not answer.", 120)
    eventually(lambda: (vm.state(), vm.pid()), ("SUSPENDED", None))
    vm.terminate()
    return said


def starved_and_told_to_end():
    vm = starved("hooked")
    start = time.monotonic()
    vm.terminate()
    return f"after {time.monotonic() - start:.1f} s"


play(
    [
        starved_and_told_to_suspend_without_a_hook,
        starved_and_told_to_suspend_with_a_hook,
        starved_and_told_to_end,
        exits_with_0,
        exits_with_3,
        is_killed_by_a_signal,
        its_kernel_panics,
    ],
    4,
)
