"""Shell, exec and files on a running server: `run.py`. Settings come from the environment: what `hearth env` exports,
HEARTH_BIN, HEARTH_DATA_DIR. An image is built, and a JSON line is printed for each check as it ends: name, verdict, detail,
seconds.
"""

import hashlib
import json
import os
import pathlib
import pty
import signal
import subprocess
import sys
import tempfile
import termios
import time
import traceback

sys.dont_write_bytecode = True  # this directory is the repository's

import boto3

from client import *

APP = pathlib.Path(__file__).parents[1] / "appendix_b/app"
NAME = f"shell-{os.getpid()}"
EXEC = "/.hearth/exec"
mv = boto3.client("lambda-microvms")


def run(*more):
    return json.loads(hearth("run", NAME, "--json", *more).stdout)


def token(vm):
    made = mv.create_microvm_shell_auth_token(microvmIdentifier=vm["microvmId"], expirationInMinutes=60)
    return made["authToken"]["X-aws-proxy-auth"]


def auth_token(vm):
    made = mv.create_microvm_auth_token(
        microvmIdentifier=vm["microvmId"], expirationInMinutes=60, allowedPorts=[{"allPorts": {}}]
    )
    return made["authToken"]["X-aws-proxy-auth"]


def shell(vm, **how):
    session = Session(vm, token(vm), **how)
    opcode, payload = session.message()
    init = json.loads(payload)
    assert opcode == TEXT and init["type"] == "session_init" and len(init["session_id"]) == 36, payload
    return session


def execute(vm, *command, **more):
    """`hearth exec`; output, errors, exit code."""
    options = more.pop("options", [])
    done = hearth("exec", *options, vm["microvmId"], "--", *command, check=False, **more)
    return done.stdout, done.stderr, done.returncode


def refused(*arguments, **more):
    try:
        Session(*arguments, **more).leave()
    except Refused as refusal:
        return refusal.args
    raise AssertionError("it was not refused")


def check_a_shell_is_a_terminal_of_root(vm):
    session = shell(vm)
    assert session.headers["sec-websocket-protocol"] == "lambda-microvms", session.headers
    session.type("stty size; tty; id -u; echo $TERM $HOME; pwd; tr '\\0' ' ' </proc/1/cmdline; echo; echo do''ne\n")
    shown = session.until("done\r\n")
    for wanted in ["0 0\r\n", "/dev/pts/", "\r\n0\r\n", "xterm /root\r\n", "python"]:
        assert wanted in shown, (wanted, shown)
    session.resize(101, 37)
    session.type("stty size; echo do''ne\n")
    assert "37 101\r\n" in session.until("done\r\n")
    session.type('{"type":"unheard_of"}\n')
    session.until("unheard_of")
    session.type("exit 3\n")
    assert session.closed() == (1000, "shell exited")


def check_control_c_and_job_control(vm):
    session = shell(vm)
    session.type("sleep 1000; echo st''opped\n")
    time.sleep(0.5)
    session.type("\x03")
    session.type("echo af''ter\n")
    shown = session.until("after\r\n")
    session.type("sleep 999 &\njobs\necho lis''ted\n")
    assert "Running" in session.until("listed\r\n") and "no job control" not in shown
    session.type("sleep 998\n")
    time.sleep(0.5)
    session.type("\x1a")
    session.until("topped")
    session.type("kill %1 %2; exit\n")
    time.sleep(0.5)
    session.type("exit\n")
    assert session.closed() == (1000, "shell exited")


def check_text_is_typed_too_and_the_root_path_works(vm):
    session = shell(vm, path="/")
    session.send(TEXT, b"echo ty''ped\n")
    session.until("typed\r\n")
    session.leave()
    session = shell(vm, header=token(vm))
    assert "sec-websocket-protocol" not in session.headers
    session.type("exit\n")
    assert session.closed() == (1000, "shell exited")
    marks = ["lambda-microvms", f"lambda-microvms.authentication.{token(vm)}", "lambda-microvms.port.8022"]
    shell(vm, protocols=marks).leave()


def check_two_sessions_and_a_hangup(vm):
    one, two = shell(vm), shell(vm)
    one.type("echo $$ > /tmp/pid; tty; echo on''e\n")
    two.type("tty; echo tw''o\n")
    ttys = [s.until(word).split("/dev/pts/")[1][0] for s, word in ((one, "one\r\n"), (two, "two\r\n"))]
    assert ttys[0] != ttys[1]
    one.leave()
    two.type("while kill -0 $(cat /tmp/pid) 2>/dev/null; do sleep 0.1; done; echo go''ne\n")
    two.until("gone\r\n")
    two.leave()


def check_tokens(vm):
    other = run("--shell")
    closed = run()
    mine, auth = token(vm), auth_token(vm)
    for arguments, wanted in [
        ((vm, token(other)), (403, "Token authentication failed")),
        ((vm, mine[::-1]), (403, "Request missing authentication")),
        ((vm, mine, "/other"), (502, "")),
        ((closed, mine), (403, "Token authentication failed")),
    ]:
        status, headers, body = refused(*arguments)
        assert (status, body) == wanted, (wanted, status, body)
    status, headers, body = refused(vm, protocols=[f"lambda-microvms.authentication.{mine}"])
    assert (status, body) == (403, "Request missing authentication")
    # An endpoint token leads to the application, here one that takes WebSockets, and never to the shell.
    end = time.monotonic() + 30
    while True:
        try:
            session = Session(vm, auth)
            break
        except Refused as refusal:
            # Nothing listens yet: the image has no hook that says when.
            assert refusal.args[0] == 502 and time.monotonic() < end, refusal.args
            time.sleep(0.1)
    assert session.message()[1][:10] != b"{\"type\":\"s", "an endpoint token opened the shell"
    session.leave()
    session = Session(vm, auth, path=EXEC)
    assert session.message()[0] == TEXT, "the application's own word"
    session.leave()
    name, _, port = vm["endpoint"].partition(":")
    for path in "/", "/shell":
        asked = subprocess.run(
            ["curl", "-s", "--resolve", f"{name}:{port}:127.0.0.1", "-o", "/dev/stderr", "-w", "%{http_code}",
             "-H", f"X-aws-proxy-auth: {mine}", f"https://{vm['endpoint']}{path}"], capture_output=True)
        assert (asked.stdout, asked.stderr) == (b"502", b""), asked
    for each in other, closed:
        mv.terminate_microvm(microvmIdentifier=each["microvmId"])


def check_suspend_ends_a_shell_and_a_new_one_wakes(vm):
    other = run("--shell", "--idle", "600")
    session = shell(other)
    session.type("echo he''re\n")
    session.until("here\r\n")
    hearth("suspend", other["microvmId"])
    code, reason = session.closed()
    assert code == 1001, (code, reason)
    session = shell(other)
    # Of the shell before there is neither a process nor a terminal.
    count = "grep -lx bash /proc/[0-9]*/comm >/tmp/shells 2>/dev/null; [ $(wc -l </tmp/shells) = 1 ]"
    session.type(f"until {count}; do sleep 0.1; done; echo pts: /dev/pts/[0-9]*; echo aw''ake\n")
    shown = session.until("awake\r\n")
    assert shown.count("/dev/pts/") - shown.count("/dev/pts/[") == 1, shown
    session.leave()
    hearth("suspend", other["microvmId"])
    assert execute(other, "echo", "up")[0] == b"up\n"
    command = [HEARTH, "exec", other["microvmId"], "--", "sh", "-c", "echo on; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"on\n"
        hearth("suspend", other["microvmId"])
        assert process.wait(30) == 1 and b"does not run any more" in process.stderr.read()
    hearth("terminate", other["microvmId"])


def check_without_auto_resume_nothing_wakes(vm):
    other = run("--shell", "--idle", "600", "--no-auto-resume")
    hearth("suspend", other["microvmId"])
    status, headers, body = refused(other, token(other))
    assert (status, body) == (502, "") and "x-aws-proxy-error" not in headers, (status, headers, body)
    out, err, code = execute(other, "true")
    assert (out, code) == (b"", 1) and b"error:" in err, (out, err, code)
    hearth("terminate", other["microvmId"])


def check_what_ends_the_microvm_ends_its_sessions(vm):
    other = run("--shell")
    session = shell(other)
    hearth("terminate", other["microvmId"])
    assert session.closed()[0] == 1001
    other = run("--shell")
    session = shell(other)
    ask = "import urllib.request as r, time\nfor _ in range(300):\n try: r.urlopen('http://127.0.0.1:8080/exit'); break\n except OSError: time.sleep(0.1)"
    execute(other, "python3", "-c", ask)
    # The application's end is its container's, and so the shell's: which of the two is told first is open.
    code, reason = session.closed()
    assert (code, reason) == (1000, "shell exited") or code == 1001, (code, reason)


def check_an_idle_shell_is_suspended_and_a_busy_one_not(vm):
    idle, busy = run("--shell", "--idle", "60"), run("--shell", "--idle", "60")
    quiet, loud = shell(idle), shell(busy)
    loud.type("while :; do echo be''at; sleep 5; done\n")
    quiet.socket.settimeout(120)
    start = time.monotonic()
    assert quiet.closed()[0] == 1001
    waited = time.monotonic() - start
    assert waited > 50, waited
    end = time.monotonic() + 15
    while time.monotonic() < end:
        loud.until("beat")
    assert mv.get_microvm(microvmIdentifier=busy["microvmId"])["state"] == "RUNNING"
    loud.leave()
    for each in idle, busy:
        hearth("terminate", each["microvmId"])
    return f"suspended after {waited:.0f} s"


def check_an_image_with_a_user(vm):
    name = NAME + "-user"
    with tempfile.TemporaryDirectory() as scratch:
        dockerfile = "FROM public.ecr.aws/lambda/microvms:al2023-minimal\nUSER 1234:1234\nWORKDIR /tmp\nCMD [\"sleep\", \"infinity\"]\n"
        pathlib.Path(scratch, "Dockerfile").write_text(dockerfile)
        hearth("build", scratch, "--name", name, timeout=300)
    other = json.loads(hearth("run", name, "--json", "--shell").stdout)
    look = "id -u; id -g; grep -E 'NoNewPrivs|CapEff' /proc/self/status | tr '\\n\\t' '  '"
    out = execute(other, "sh", "-c", look)[0].decode()
    assert out.split()[:2] == ["1234", "1234"] and "CapEff: 0000000000000000" in out and "NoNewPrivs: 1" in out, out
    assert execute(other, "id", "-u", options=["-u", "0"])[0] == b"0\n"
    session = shell(other)
    session.type(look + "; echo do''ne\n")
    shown = session.until("done\r\n")
    assert "\r\n0\r\n" in shown and "CapEff: 00000000a80425fb" in shown and "NoNewPrivs: 0" in shown, shown
    session.leave()
    with tempfile.TemporaryDirectory() as scratch:
        pathlib.Path(scratch, "f").write_text("x")
        hearth("cp", scratch + "/f", f"{other['microvmId']}:/root/f")
        assert execute(other, "stat", "-c", "%u", "/root/f", options=["-u", "0"])[0] == b"0\n", "files are moved as root"
    hearth("terminate", other["microvmId"])


def check_exec_streams_and_codes(vm):
    assert execute(vm, "sh", "-c", "echo out; echo err >&2; exit 7") == (b"out\n", b"err\n", 7)
    assert execute(vm, "true") == (b"", b"", 0)
    assert execute(vm, "sh", "-c", "kill -9 $$")[2] == 137
    out, err, code = execute(vm, "no-such-program")
    assert (out, code) == (b"", 127) and b"not found" in err
    assert execute(vm, "cat", input=b"ignored") == (b"", b"", 0), "no input without -i"
    assert execute(vm, "cat", options=["-i"], input=b"taken") == (b"taken", b"", 0)
    out, err, code = execute(vm, "env", options=["-e", "A=b c", "-w", "/tmp"])
    assert b"A=b c\n" in out and b"PATH=" in out and code == 0
    assert execute(vm, "pwd", options=["-w", "/tmp"])[0] == b"/tmp\n"
    assert execute(vm, "id", "-u", options=["-u", "1234"])[0] == b"1234\n"
    out, err, code = execute(vm, "true", options=["-u", "nobody-knows"])
    assert code == 1 and b"nobody-knows" in err, (out, err, code)
    out, err, code = execute(vm, "true", options=["-w", "/no/such"])
    assert code == 1 and b"/no/such" in err
    assert execute(vm, "stty", "size", options=["-t"])[0] == b"0 0\r\n"
    assert b"hello from root" in execute(vm, "sh", "-c", "sleep 300 & echo hello from root")[0], "what it left does not hold us"


def check_exec_is_confined_as_the_application(vm):
    out, err, code = execute(vm, "sh", "-c", "grep -E 'CapEff|CapBnd' /proc/self/status; cat /proc/self/cgroup; ls /proc/1/fd >/dev/null && ls -A /root-fs /run/container 2>&1 | head -3")
    assert b"CapEff:\t00000000a80425fb" in out and b"CapBnd:\t00000000a80425fb" in out, out
    assert b"/system.slice/app" in out, out
    assert b"hosts" not in out, out
    out, err, code = execute(vm, "sh", "-c", "ls -l /proc/self/fd")
    assert out.count(b"pipe:") == 3 and out.count(b"->") == 4, out


def check_what_goes_on_in_the_background_holds_nothing(vm):
    out, err, code = execute(vm, "sh", "-c", "yes & exit 4", timeout=30)
    assert code == 4 and len(out) < 10 << 20, (code, len(out))
    out, err, code = execute(vm, "sh", "-c", "setsid yes & sleep 1000", options=["--timeout", "1"], timeout=30)
    assert code == 124, code
    out, err, code = execute(vm, "sh", "-c", "printf abc | cat", options=["-t"])
    assert (out, code) == (b"abc", 0), out
    assert execute(vm, "cat", options=["-i", "-t"], input=b"abc", timeout=30)[2] == 0, "an end after half a line"


def check_a_client_that_reads_late(vm):
    command = [HEARTH, "exec", vm["microvmId"], "--", "sh", "-c", "head -c 3000000 /dev/zero; exit 5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        time.sleep(3)
        assert len(process.stdout.read()) == 3_000_000
        assert process.wait(30) == 5


def check_insisting_ends_the_command(vm):
    # The shell would say "Hangup" of its child to nobody, and die of that first.
    command = [HEARTH, "exec", vm["microvmId"], "--", "sh", "-c", "exec 2>/dev/null; trap '' INT; trap ': >/tmp/hung-up; exit' HUP; echo on; while :; do sleep 0.1; done"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"on\n"
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None, "the first is the program's"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    wait = "for i in $(seq 100); do [ -e /tmp/hung-up ] && exit 0; sleep 0.1; done; exit 1"
    assert execute(vm, "sh", "-c", wait)[2] == 0, "it hears a hangup"
    # Also when nobody takes the output.
    with subprocess.Popen([HEARTH, "exec", vm["microvmId"], "--", "sh", "-c", "trap '' TERM; yes"], stdout=subprocess.PIPE) as process:
        process.stdout.read(1)
        time.sleep(1)
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
        assert process.wait(10) == 143


def check_hearth_shell_gives_the_terminal_back(vm):
    done = hearth("shell", vm["microvmId"], input=b"echo ls\n", check=False)
    assert done.returncode == 1 and b"no terminal" in done.stderr, done

    def play(end):
        ours, theirs = pty.openpty()
        before = termios.tcgetattr(theirs)
        with subprocess.Popen([HEARTH, "shell", vm["microvmId"]], stdin=theirs, stdout=theirs, stderr=theirs) as process:
            os.write(ours, b"echo re''ady\n")
            shown = b""
            while b"ready" not in shown:
                shown += os.read(ours, 4096)
            assert termios.tcgetattr(theirs) != before, "raw"
            end(process, ours)
            # What is shown at the end must be taken, or the terminal's settings wait for it.
            os.set_blocking(ours, False)
            last = time.monotonic() + 30
            while process.poll() is None and time.monotonic() < last:
                try:
                    os.read(ours, 4096)
                except BlockingIOError:
                    time.sleep(0.05)
            code = process.wait(1)
        after = termios.tcgetattr(theirs)
        os.close(ours)
        os.close(theirs)
        assert after == before, (before, after)
        return code

    assert play(lambda process, ours: os.write(ours, b"exit 7\n")) == 0
    for number in signal.SIGTERM, signal.SIGHUP:
        assert play(lambda process, ours: process.send_signal(number)) == 128 + number


def check_exec_moves_ten_megabytes_intact(vm):
    data = os.urandom(10 << 20)
    start = time.monotonic()
    out, err, code = execute(vm, "cat", options=["-i"], input=data, timeout=300)
    seconds = time.monotonic() - start
    assert code == 0 and out == data, (code, len(out), err)
    out, err, code = execute(vm, "sha256sum", options=["-i"], input=data, timeout=300)
    assert out.split()[0].decode() == hashlib.sha256(data).hexdigest()
    return f"cat: {20 / seconds:.1f} MB/s"


def check_exec_timeout_and_signals(vm):
    start = time.monotonic()
    out, err, code = execute(vm, "sh", "-c", "echo a; sleep 1000", options=["--timeout", "1"])
    assert (out, code) == (b"a\n", 124), (out, err, code)
    out, err, code = execute(vm, "sh", "-c", "trap '' TERM; while :; do sleep 1; done", options=["--timeout", "1"])
    assert code == 124 and time.monotonic() - start < 30
    command = [HEARTH, "exec", "-i", vm["microvmId"], "--", "sh", "-c", "trap 'exit 42' INT; echo on; while :; do sleep 0.1; done"]
    # Input that nobody reads must not hold the signal back.
    with open("/dev/zero") as zero, subprocess.Popen(command, stdin=zero, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"on\n"
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 42
    command = [HEARTH, "exec", vm["microvmId"], "--", "sh", "-c", "echo $$ > /tmp/exec-pid; sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        time.sleep(2)
        process.kill()
    wait = "for i in $(seq 100); do kill -0 $(cat /tmp/exec-pid) 2>/dev/null || exit 0; sleep 0.1; done; exit 1"
    assert execute(vm, "sh", "-c", wait)[2] == 0, "the program did not hear that its client left"


def look(top):
    """Everything below a directory: kind, mode, time, content."""
    found = {}
    for path in sorted(pathlib.Path(top).rglob("*")):
        stat = path.lstat()
        what = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        meta = None if path.is_symlink() else (stat.st_mode, stat.st_mtime_ns)
        found[str(path.relative_to(top))] = (meta, what)
    return found


def check_files_go_both_ways(vm):
    vm = vm["microvmId"]
    with tempfile.TemporaryDirectory() as scratch:
        top = pathlib.Path(scratch, "tree")
        (top / "deep/er/empty").mkdir(parents=True)
        (top / "deep/data").write_bytes(os.urandom(3 << 20))
        (top / "deep/program").write_text("#!/bin/sh\necho ran\n")
        (top / "deep/program").chmod(0o751)
        (top / "nothing").touch()
        (top / "l\u00efnk with space").symlink_to("../nowhere")
        os.utime(top / "deep/er", ns=(0, 1_234_567_890_123_456_789))
        (top / "deep").chmod(0o700)
        wanted = look(top)
        hearth("cp", str(top), f"{vm}:/tmp/")
        assert hearth("exec", vm, "--", "/tmp/tree/deep/program").stdout == b"ran\n"
        assert hearth("exec", vm, "--", "stat", "-c", "%u:%g", "/tmp/tree/nothing").stdout == b"0:0\n"
        hearth("cp", f"{vm}:/tmp/tree", str(pathlib.Path(scratch, "back")))
        back = look(pathlib.Path(scratch, "back"))
        assert back == wanted, {name: (back.get(name), wanted.get(name)) for name in {*back, *wanted}
                                if back.get(name) != wanted.get(name) and "data" not in name}
        hearth("cp", f"{vm}:/tmp/tree/nothing", scratch)
        assert pathlib.Path(scratch, "nothing").read_bytes() == b""
        hearth("cp", str(top / "deep/data"), f"{vm}:/tmp/renamed")
        said = hearth("exec", vm, "--", "sha256sum", "/tmp/renamed").stdout.split()[0].decode()
        assert said == hashlib.sha256((top / "deep/data").read_bytes()).hexdigest()
        for arguments, word in [
            ((f"{vm}:/no/such", scratch), "/no/such"),
            ((str(top), f"{vm}:/no/such/place"), "/no/such/place"),
            ((scratch + "/gone", f"{vm}:/tmp"), "gone"),
            ((f"{vm}:/tmp/tree", scratch + "/gone/x"), "gone/x"),
            ((f"{vm}:/", scratch), "name the copy"),
            ((scratch, scratch), "MICROVM:/PATH"),
            # The cause is here and not there.
            (("/proc/self/mem", f"{vm}:/tmp/mem"), "mem: Input/output error (os error 5)\n"),
            (("/dev/null", f"{vm}:/tmp/device"), "neither file nor directory"),
            ((f"{vm}:/dev/null", scratch + "/device"), "neither file nor directory"),
        ]:
            done = hearth("cp", *arguments, check=False)
            assert done.returncode == 1 and word in done.stderr.decode(), (arguments, done)
        assert not pathlib.Path(scratch, "device").exists()
        # As often as it takes for two to race at its beginning.
        for turn in range(10):
            pathlib.Path(scratch, "turn").write_text(str(turn))
            hearth("cp", scratch + "/turn", f"{vm}:/tmp/turn")
            hearth("cp", f"{vm}:/tmp/turn", scratch + "/again")
            assert pathlib.Path(scratch, "again").read_text() == str(turn)
        # Links in a hostile guest lead nowhere.
        script = "mkdir -p /tmp/evil && ln -s /etc /tmp/evil/out && cd /tmp && ln -sf /etc/passwd plain"
        hearth("exec", "-u", "0", vm, "--", "sh", "-c", script)
        hearth("cp", f"{vm}:/tmp/evil", scratch)
        assert os.readlink(pathlib.Path(scratch, "evil/out")) == "/etc"
        done = hearth("cp", str(top / "nothing"), f"{vm}:/tmp/plain", check=False)
        assert done.returncode == 1 and b"link" in done.stderr.lower(), done
        assert hearth("exec", vm, "--", "test", "-s", "/etc/passwd").returncode == 0


def check_hostile_clients(vm):
    user = b'{"get":{"path":"/"},"user":"app"}'
    for first, opcode in [(b"{", TEXT), (b"{}", TEXT), (b'{"argv":[]}', TEXT), (user, TEXT), (b"\0", BINARY)]:
        session = Session(vm, token(vm), path=EXEC)
        session.send(opcode, first)
        opcode, payload = session.message()
        assert opcode == BINARY and payload[0] == FAILED, payload
        assert session.closed()[0] == 1011
    start = json.dumps({"argv": ["sleep", "100"]}).encode()
    for rubbish, code in [(b"\xff", 1008), (b"", 1008), (b"\0" + b"x" * 40000, 1008), (b"\0" + b"x" * 300000, 1009), (bytes([SIGNAL, 32]), 1008)]:
        session = Session(vm, token(vm), path=EXEC)
        session.send(TEXT, start)
        session.send(BINARY, rubbish)
        assert session.closed()[0] == code, (rubbish[:3], len(rubbish))
    # Input beyond its credit ends the session.
    session = Session(vm, token(vm), path=EXEC)
    session.send(TEXT, start)
    try:
        for _ in range(40):
            session.send(BINARY, b"\0" + b"x" * 30000)
    except OSError:
        pass
    assert session.closed() == (1011, "the session broke off")


def check_sessions_are_bounded(vm):
    pass_ = token(vm)
    start = time.monotonic()
    sessions = [Session(vm, pass_) for _ in range(64)]
    status, headers, body = refused(vm, pass_)
    assert status == 429 and "64" in body, (status, body)
    assert headers["x-aws-proxy-error"] == "TOO_MANY_SESSIONS"
    sessions[0].leave()
    time.sleep(1)
    Session(vm, pass_).leave()
    for session in sessions:
        session.leave()
    return f"64 shells in {time.monotonic() - start:.1f} s"


def judge(check, vm):
    start = time.monotonic()
    try:
        verdict, detail = "ok", check(vm) or ""
    except Exception as error:
        where = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)][1:3]
        verdict, detail = "FAIL", f"{type(error).__name__}: {error} ({' '.join(where)})"
    name = check.__name__.removeprefix("check_").replace("_", " ")
    told = {"name": name, "verdict": verdict, "detail": detail, "seconds": round(time.monotonic() - start, 1)}
    print(json.dumps(told), flush=True)


def main():
    hearth("build", str(APP), "--name", NAME, timeout=300)
    vm = run("--shell")
    wanted = sys.argv[1:]
    for name, check in list(globals().items()):
        if name.startswith("check_") and (not wanted or any(word in name for word in wanted)):
            judge(check, vm)
    hearth("terminate", vm["microvmId"])


main()
