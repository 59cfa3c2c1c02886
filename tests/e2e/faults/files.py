"""Damaged and missing files of a sleeper and of its image: refused by name, asleep as before, well once they are mended."""

import contextlib
import shutil


@contextlib.contextmanager
def aside(path):
    """Out of the way, and back."""
    hidden = path.with_name(f"aside-{path.name}")
    path.rename(hidden)
    try:
        yield hidden
    finally:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        hidden.rename(path)


@contextlib.contextmanager
def cut(path):
    """Half as long."""
    with aside(path) as hidden:
        whole = hidden.stat().st_size
        with hidden.open("rb") as source, path.open("wb") as target:
            target.write(source.read(1 << 20))
            target.truncate(whole // 2)
        yield


@contextlib.contextmanager
def flipped(path):
    """One bit in its middle."""

    def flip():
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 0x10]))

    flip()
    try:
        yield
    finally:
        flip()


def image_of(vm):
    """The directory of its image: the one whose memory its machine has mapped."""
    mapped = {line.split()[4] for line in pathlib.Path(f"/proc/{vm.pid()}/maps").read_text().splitlines()}
    (found,) = [path for path in (DATA / "images").glob("*/*/memory") if str(path.stat().st_ino) in mapped]
    return found.parent


def refused_by_name(vm, path, damage, reason):
    """With that damage it sleeps on: asked by the API, and by a request. Then it is as it was before."""
    before = len(LOG.read_text())
    with damage(path):
        vm.resume()
        said = vm.explain(reason)
        status, body = vm.ask()
        assert status == 502, f"{path.name}: {status} {body}"
        assert (vm.state(), vm.pid()) == ("SUSPENDED", None), f"{path.name}: {vm.get()}"
    log = LOG.read_text()[before:]
    assert str(path) in log, f"{path} is not named in {log}"
    return said


def a_sleeper_and_each_of_its_files():
    vm = Vm("hooked")
    vm.ok()
    image = image_of(vm)
    vm.suspend()
    vm.become("SUSPENDED")
    saved, overlay = vm.saved(), vm.directory() / "disk.qcow2"
    for path, damage, reason in [
        (overlay, cut, "its snapshot file disk.qcow2 is damaged"),
        (saved / "pages", flipped, "its snapshot file pages is damaged"),
        (saved / "pages", cut, "its snapshot file pages is damaged"),
        (saved / "device-state", flipped, "its snapshot file device-state is damaged"),
        (saved / "sums", flipped, "its snapshot file sums is damaged"),
        (saved / "pages", aside, "a file of its snapshot is missing"),
        (saved / "device-state", cut, "its snapshot file device-state is damaged"),
        (saved, aside, "a file of its snapshot is missing"),
        (image / "memory", cut, "its snapshot file memory is damaged"),
        (image / "memory", aside, "a file of its snapshot is missing"),
        (image / "sealed/sums", flipped, "its snapshot file sums is damaged"),
    ]:
        refused_by_name(vm, path, damage, f"The MicroVM could not be resumed: {reason}.")
    assert vm.ok()["count"] == 2, "its memory is as it was"
    assert not vm.reason(), f"the reason stays: {vm.reason()}"
    vm.suspend()
    vm.become("SUSPENDED")
    vm.resume()
    vm.become("RUNNING")
    assert vm.ok()["count"] == 3
    vm.terminate()


def a_launch_from_a_damaged_image_ends_with_a_reason():
    vm = Vm("hooked")
    memory = image_of(vm) / "memory"
    for damage, reason in (aside, "a file of its snapshot is missing"), (cut, "its snapshot file memory is damaged"):
        with damage(memory):
            said = Vm("hooked", wait=False).lost()
            assert said == f"The MicroVM could not be started: {reason}.", said
            assert vm.ok(), "who runs already has the file open"
    vm.terminate()
    vm = Vm("hooked")
    vm.ok()
    vm.terminate()


def a_damaged_sleeper_can_be_terminated():
    vm = Vm("plain")
    vm.suspend()
    vm.become("SUSPENDED")
    shutil.rmtree(vm.saved())
    vm.resume()
    vm.explain("missing")
    vm.terminate()


# One after the other: they damage the same image.
play([a_sleeper_and_each_of_its_files, a_launch_from_a_damaged_image_ends_with_a_reason, a_damaged_sleeper_can_be_terminated], 1)
