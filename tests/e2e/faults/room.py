"""A host's disk that is full. The server's data directory has one of its own."""

import contextlib

BALLAST = DATA / "ballast"


def room():
    """KiB left."""
    found = os.statvfs(DATA)
    return found.f_bavail * found.f_frsize >> 10


@contextlib.contextmanager
def full(left):
    """All but so many KiB are taken."""
    # The last MiB by writing: the file system needs some blocks of it for itself.
    subprocess.run(["fallocate", "-l", f"{room() - left - 1024}K", BALLAST], check=True)
    try:
        with BALLAST.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while room() > left:
                file.write(bytes(4096))
        yield
    finally:
        BALLAST.unlink(missing_ok=True)


def a_suspend_without_room_leaves_it_running():
    vm = Vm("plain")
    born = vm.ok("/dirty/64")["born"]
    for left in 20 << 10, 500:
        with full(left):
            vm.suspend()
            vm.explain("The MicroVM could not be suspended: the host's disk is full.")
            found = vm.ok()
            assert vm.state() == "RUNNING" and found["born"] == born and found["pid"] == 1
    vm.suspend()
    vm.become("SUSPENDED")
    assert not vm.reason(), vm.reason()
    assert vm.ok()["count"] == 4
    vm.terminate()


def nothing_changes_without_room_for_a_record():
    """Not a block is left: what would have to be recorded is refused, what runs goes on."""
    vm = Vm("plain")
    sleeper = Vm("plain")
    sleeper.suspend()
    sleeper.become("SUSPENDED")
    before = len(mv.list_microvms()["items"])
    with full(0):
        status, _, message = refused(mv.run_microvm, imageIdentifier=arn("plain"))
        assert status == 500, f"{status} {message}"
        status, _, message = refused(mv.suspend_microvm, microvmIdentifier=vm.id)
        assert status == 500, f"{status} {message}"
        assert sleeper.ask()[0] == 502
        assert (vm.state(), sleeper.state()) == ("RUNNING", "SUSPENDED")
        vm.ok()
    assert (vm.ok()["count"], sleeper.ok()["count"]) == (2, 1)
    assert len(mv.list_microvms()["items"]) == before, "a launch that was refused is listed"
    vm.terminate()
    sleeper.terminate()


def a_guest_that_writes_waits_for_room():
    vm = Vm("plain")
    with full(30 << 10):
        filling = vm.background("/fill/100", timeout=300)
        eventually(lambda: "the host's disk is full: the guest waits for room" in LOG.read_text(), True)
        assert filling.is_alive() and vm.state() == "RUNNING"
    assert filling.result()[0] == 200
    vm.suspend()
    vm.become("SUSPENDED")
    assert vm.ok()["count"] == 2
    vm.terminate()


def a_launch_without_room_ends_with_a_reason():
    """There must be room for its record, and none for its disk: how much that is depends on the database's log."""
    for left in range(40, 400, 40):
        with full(left):
            try:
                vm = Vm("plain", wait=False)
            except ClientError:
                continue
            vm.explain("The MicroVM could not be started: the host's disk is full.")
            # Its end may need more room than its beginning.
        vm.lost()
        break
    vm = Vm("plain")
    vm.ok()
    vm.terminate()
    return f"with {left} KiB left"


play(
    [
        a_suspend_without_room_leaves_it_running,
        a_guest_that_writes_waits_for_room,
        a_launch_without_room_ends_with_a_reason,
        nothing_changes_without_room_for_a_record,
    ],
    1,
)
