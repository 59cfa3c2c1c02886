"""Requests over HTTP/1.1 that two readers may take for different ones (RFC 9112 section 11.2). Each is refused, or reaches the
application as exactly one request whose meaning is beyond doubt."""

import re

from lines import SHORT, Client, Closed
from world import Case, mark

CASES = []
CHUNKED = "transfer-encoding: chunked"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
REFUSED = (400, 403, 404, 405, 408, 411, 413, 414, 417, 421, 431, 501, 505)


def fields(raw):
    """First line, fields and rest of what the application got; it must be clean."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert not re.search(rb"[\0\x0b\x0c\x7f]|\r(?!\n)|(?<!\r)\n", head), f"control characters in {head!r}"
    first, *lines = head.split(b"\r\n")
    assert re.fullmatch(rb"[!-~]+ [!-\xff]+ HTTP/1\.1", first), first
    assert all(re.match(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:", line) for line in lines), lines
    return first, [(name.lower(), value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)], rest


def framed(raw):
    """Length of the request's body, which must be all that follows, by one framing."""
    first, found, rest = fields(raw)
    values = lambda name: [value for each, value in found if each == name]
    lengths, codings = values(b"content-length"), values(b"transfer-encoding")
    assert len(values(b"host")) == 1, f"hosts {values(b'host')}"
    assert len(lengths) + len(codings) <= 1, f"lengths {lengths}, codings {codings}"
    if codings:
        assert codings == [b"chunked"], codings
        size = 0
        while (match := re.match(rb"([0-9A-Fa-f]+)\r\n", rest)) and (length := int(match[1], 16)):
            assert rest[match.end() + length:][:2] == b"\r\n", rest[:80]
            rest, size = rest[match.end() + length + 2:], size + length
        assert re.fullmatch(rb"0\r\n([!-~]+: ?.*\r\n)*\r\n", rest), f"after the last chunk {rest[:200]!r}"
        return size
    length = int(lengths[0]) if lengths else 0
    assert not lengths or lengths[0].isdigit(), lengths
    assert len(rest) == length, f"{len(rest)} bytes of a body of {length}: {rest[:200]!r}"
    return length


def exchange(place, name, made, *, follow=True):
    """Sends a request and one behind it, as if it were smuggled; statuses of all answers, and what the application got."""
    with Client(place) as client:
        client.socket.settimeout(SHORT)
        second = client.head("GET", f"/second?mark={name}", "connection: close") if follow else b""
        client.send(made(client), second)
        statuses = []
        try:
            while True:
                statuses.append(client.read().status)
        except (Closed, TimeoutError):
            pass
    return statuses, place.seen(name)


def verdict(statuses, seen, *, refused, body, second=False):
    """`refused`: it must be; None: it may be. `second`: the request behind it is one of its own."""
    firsts = [each["raw"] for each in seen if b"/second?" not in each["raw"].split(b"\r\n")[0]]
    others = len(seen) - len(firsts)
    assert second or not others, f"the second request arrived as well; answers {statuses}"
    if refused or not firsts:
        assert refused is not False, f"it was refused: {statuses}"
        assert not firsts, f"it arrived: {firsts[0][:300]!r}"
        assert not statuses or statuses[0] in REFUSED, statuses
        return f"refused with {statuses[0]}" if statuses else "refused without an answer"
    assert len(firsts) == 1 and statuses, (statuses, firsts)
    length = framed(firsts[0])
    assert body is None or length == body, f"a body of {length} bytes"
    return "as one request"


def form(name, *lines, body=b"", refused=None, length=None, method="POST", second=False, **more):
    """A request with these lines and this body."""

    def check(world, place):
        named = mark()
        made = lambda client: client.head(method, f"/record?mark={named}", *lines, **more) + body
        return verdict(*exchange(place, named, made), refused=refused, body=length, second=second)

    CASES.append(Case("smuggling", name, check, "pipe"))


def whole(name, make, refused=None, length=None, second=False):
    """A request that is bytes: `make` of the path and the lines that it needs."""

    def check(world, place):
        named = mark()

        def made(client):
            needed = client.head("X", "/").split(b"\r\n", 1)[1][:-2]
            return make(f"/record?mark={named}".encode(), needed)

        return verdict(*exchange(place, named, made), refused=refused, body=length, second=second)

    CASES.append(Case("smuggling", name, check, "pipe"))


# Two framings.

# RFC 9112 section 6.1: a server may take the coding alone, and then must close the connection.
form("length before coding", "content-length: 5", CHUNKED, body=HELLO)
form("coding before length", CHUNKED, "content-length: 5", body=HELLO)
form("a length of zero before coding", "content-length: 0", CHUNKED, body=HELLO)
form("a length of all before coding", f"content-length: {len(HELLO)}", CHUNKED, body=HELLO)
form("coding twice", CHUNKED, CHUNKED, body=HELLO, refused=True)
form("chunked in a list with itself", "transfer-encoding: chunked, chunked", body=HELLO, refused=True)
form("a coding before chunked", "transfer-encoding: gzip, chunked", body=HELLO, refused=True)

# Codings that some take for chunked.

for name, line in [
    ("coding with a space before its colon", "transfer-encoding : chunked"),
    ("coding with a tab before its colon", "transfer-encoding\t: chunked"),
    ("coding after a space", " transfer-encoding: chunked"),
    ("coding that is folded", "transfer-encoding:\r\n chunked"),
    ("coding with a vertical tab", "transfer-encoding: \x0bchunked"),
    ("coding with a form feed", "transfer-encoding: chunked\x0c"),
    ("coding with a zero byte", "transfer-encoding: chunked\0"),
    ("coding in quotes", 'transfer-encoding: "chunked"'),
    ("coding with an x", "transfer-encoding: xchunked"),
    ("coding that ends otherwise", "transfer-encoding: chunked, identity"),
    ("coding with a parameter", "transfer-encoding: chunked;q=1"),
    ("coding that is unknown", "transfer-encoding: cow"),
    ("coding that is empty", "transfer-encoding:"),
    ("coding that begins with a comma", "transfer-encoding: ,chunked"),
    ("coding with a carriage return", "transfer-encoding: chunked\rx"),
    ("coding after a carriage return", "x-a: b\rtransfer-encoding: chunked"),
    ("coding after a line feed", "x-a: b\ntransfer-encoding: chunked"),
    ("coding in a name with a zero byte", "transfer\0encoding: chunked"),
    ("coding identity", "transfer-encoding: identity"),
]:
    form(name, "content-length: 15", line, body=HELLO)

form("coding with an underscore", "content-length: 15", "transfer_encoding: chunked", body=HELLO, length=15, second=True)
form("coding in two lines, chunked last", "transfer-encoding: gzip", CHUNKED, body=HELLO, refused=True)
form("coding in two lines, chunked first", CHUNKED, "transfer-encoding: gzip", body=HELLO, refused=True)
form("coding of another case", "Transfer-Encoding: ChUnKeD", body=HELLO, length=5, second=True)
form("coding after a tab", "transfer-encoding:\tchunked", body=HELLO, length=5, second=True)
form("coding in HTTP/1.0", CHUNKED, body=HELLO, version="HTTP/1.0", refused=True)
form("coding and length in HTTP/1.0", CHUNKED, "content-length: 15", body=HELLO, version="HTTP/1.0", refused=True)

# Lengths.

for name, value in [
    ("with a plus", "+5"), ("with a minus", "-5"), ("hexadecimal", "0x5"), ("with a fraction", "5.0"),
    ("with an exponent", "5e0"), ("with a letter", "5x"), ("of two words", "5 5"), ("empty", ""),
    ("with an underscore", "1_0"), ("beyond 64 bits", "18446744073709551621"), ("with a semicolon", "5;"),
    ("with another one in a list", "5, 6"), ("with a vertical tab", "\x0b5"), ("with a zero byte", "5\0"), ("in quotes", '"5"'),
]:
    form(f"length {name}", f"content-length: {value}", body=b"hello", refused=True)
form("length with zeros before", "content-length: 0005", body=b"hello", length=5, second=True)
form("length with itself in a list", "content-length: 5, 5", body=b"hello", length=5, second=True)
form("length twice the same", "content-length: 5", "content-length: 5", body=b"hello", length=5, second=True)
form("length twice, different", "content-length: 5", "content-length: 6", body=b"hello", refused=True)
form("length with a space before its colon", "content-length : 5", body=b"hello", refused=True)
form("length that is folded", "content-length:\r\n 5", body=b"hello")
form("length named by connection", "content-length: 5", "connection: content-length", body=b"hello", length=5, second=True)
form("coding named by connection", CHUNKED, "connection: transfer-encoding", body=HELLO, length=5, second=True)
form("host named by connection", "content-length: 5", "connection: host", body=b"hello", length=5, second=True)
form("length of a GET", "content-length: 5", body=b"hello", length=5, method="GET", second=True)
form("coding of a GET", CHUNKED, body=HELLO, length=5, method="GET", second=True)
form("length of a WebSocket's handshake", "content-length: 5", "upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13", "sec-websocket-key: MTIzNDU2Nzg5MDEyMzQ1Ng==", body=b"hello", method="GET", second=True)
form("an upgrade to HTTP/2", "upgrade: h2c", "connection: upgrade, http2-settings", "http2-settings: AAMAAABkAAQAoAAAAAIAAAAA", method="GET", second=True)

# Fields.

for name, line in [
    ("without a colon", "x-a"), ("without a name", ": a"), ("with a space in its name", "x a: b"),
    ("with a zero byte", "x-a: b\0c"), ("with a bell", "x-a: b\x07c"), ("with a DEL", "x-a: b\x7fc"),
    ("with a carriage return", "x-a: b\rc: d"), ("with a parenthesis in its name", "x(a): b"),
    ("with UTF-8 in its name", "x-\u00e9: b"), ("with a space before its colon", "x-a : b"),
]:
    form(f"field {name}", line, method="GET", refused=True)
form("field that is folded", "x-a: b\r\n\tcontent-length: 5", method="GET", second=True)
form("field that follows a bare line feed", "x-a: b\ncontent-length: 5", body=b"hello", second=True)

# First lines and hosts.


def first(name, line, refused=True, second=False):
    whole(f"first line {name}", lambda path, needed: line.replace(b"PATH", path) + b"\r\n" + needed + b"\r\n", refused, None, second)


first("with two spaces", b"GET  PATH HTTP/1.1")
first("with a tab", b"GET\tPATH\tHTTP/1.1")
first("with two spaces before its version", b"GET PATH  HTTP/1.1")
first("with a space at its end", b"GET PATH HTTP/1.1 ", None)
first("with a space before its end in the path", b"GET PATH x HTTP/1.1")
first("with a zero byte in the path", b"GET PATH\0 HTTP/1.1")
first("with a carriage return in the path", b"GET PATH\rx HTTP/1.1")
first("without a version", b"GET PATH")
first("of HTTP/1.2", b"GET PATH HTTP/1.2")
first("of HTTP/2.0", b"GET PATH HTTP/2.0")
first("of HTTP/3", b"GET PATH HTTP/3")
first("of http/1.1", b"GET PATH http/1.1")
first("without a method", b" PATH HTTP/1.1")
first("with a bracket in its method", b"GE(T PATH HTTP/1.1")
first("with a path that does not begin with a slash", b"GET xPATH HTTP/1.1")
first("with bytes beyond ASCII", b"GET PATH\xff HTTP/1.1", None, True)
first("with a fragment", b"GET PATH#x HTTP/1.1", None, True)
first("that ends with a bare line feed", b"GET PATH HTTP/1.1\nx-a: b", None, True)
whole("empty lines before the first", lambda path, needed: b"\r\n\r\nGET " + path + b" HTTP/1.1\r\n" + needed + b"\r\n", False, 0, True)
whole("another host in the first line", lambda path, needed: b"GET http://other.test" + path + b" HTTP/1.1\r\n" + needed + b"\r\n", True, None, True)
whole("a user in the first line", lambda path, needed: b"GET http://a@" + host(needed) + path + b" HTTP/1.1\r\n" + needed + b"\r\n", True, None, True)
whole("the host in the first line, another one below", lambda path, needed: b"GET http://" + host(needed) + path + b" HTTP/1.1\r\n" + needed.replace(b"host: ", b"host: x") + b"\r\n", None, 0, True)
whole("no host", lambda path, needed: b"GET " + path + b" HTTP/1.1\r\n" + needed.replace(b"host:", b"x-host:") + b"\r\n", True, None, True)
whole("two hosts", lambda path, needed: b"GET " + path + b" HTTP/1.1\r\nhost: other.test\r\n" + needed + b"\r\n", True, None, True)
whole("two hosts, the same", lambda path, needed: b"GET " + path + b" HTTP/1.1\r\n" + needed.split(b"\r\n")[0] + b"\r\n" + needed + b"\r\n", True, None, True)
whole("a host with a user", lambda path, needed: b"GET " + path + b" HTTP/1.1\r\n" + needed.replace(b"host: ", b"host: a@") + b"\r\n", True, None, True)
whole("a host with a path", lambda path, needed: b"GET " + path + b" HTTP/1.1\r\n" + needed.replace(b"\r\n", b"/x\r\n", 1) + b"\r\n", True, None, True)
whole("a host with a second one in a list", lambda path, needed: b"GET " + path + b" HTTP/1.1\r\n" + needed.replace(b"\r\n", b", other.test\r\n", 1) + b"\r\n", True, None, True)


def host(needed):
    return needed.split(b"\r\n")[0].split(b": ")[1]


# Chunks.

for name, body, refused in [
    ("with an extension", b"5;a=b\r\nhello\r\n0\r\n\r\n", None),
    ("with an extension in quotes", b'5;a="b;c"\r\nhello\r\n0\r\n\r\n', None),
    ("with a line feed in an extension", b"5;a\nhello\r\n0\r\n\r\n", True),
    ("with a carriage return in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n", None),
    ("with a bare line feed after its size", b"5\nhello\r\n0\r\n\r\n", True),
    ("with a bare line feed after its data", b"5\r\nhello\n0\r\n\r\n", True),
    ("with a space after its size", b"5 \r\nhello\r\n0\r\n\r\n", None),
    ("with a space before its size", b" 5\r\nhello\r\n0\r\n\r\n", None),
    ("with a plus", b"+5\r\nhello\r\n0\r\n\r\n", True),
    ("with a minus", b"-5\r\nhello\r\n0\r\n\r\n", True),
    ("with 0x", b"0x5\r\nhello\r\n0\r\n\r\n", True),
    ("with an underscore", b"0_5\r\nhello\r\n0\r\n\r\n", True),
    ("without a size", b"\r\nhello\r\n0\r\n\r\n", True),
    ("beyond 64 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n", True),
    ("longer than it says", b"5\r\nhello!\r\n0\r\n\r\n", True),
    ("shorter than it says", b"6\r\nhello\r\n0\r\n\r\n", True),
    ("with a bare line feed at the end of all", b"5\r\nhello\r\n0\r\n\n", None),
    ("with bare line feeds everywhere", b"5\nhello\n0\n\n", True),
    ("with zeros before its size", b"000005\r\nhello\r\n0\r\n\r\n", None),
    ("with an extension of 100 KB", b"5;" + b"a" * 100000 + b"\r\nhello\r\n0\r\n\r\n", True),
]:
    # The head has gone on before the body is read: what counts is that the application gets no whole body.
    def check(world, place, body=body, refused=refused):
        named = mark()
        made = lambda client: client.head("POST", f"/record?mark={named}", CHUNKED) + body
        statuses, seen = exchange(place, named, made)
        firsts = [each["raw"] for each in seen if b"/second?" not in each["raw"].split(b"\r\n")[0]]
        if not refused and statuses[:1] == [200]:
            assert len(firsts) == 1 and framed(firsts[0]) == 5, firsts
            return "as one request"
        assert 200 not in statuses and len(seen) == len(firsts) <= 1, (statuses, seen)
        if firsts:
            tail = fields(firsts[0])[2]
            while match := re.match(rb"0*([1-9A-Fa-f][0-9A-Fa-f]{0,4})\r\n", tail):
                end = match.end() + int(match[1], 16)
                assert tail[end:end + 2] == b"\r\n", f"a chunk of another length: {firsts}"
                tail = tail[end + 2:]
            assert not tail, f"what is no whole chunk arrived: {tail[:80]!r}"
        return f"refused with {statuses[0]}" if statuses else "cut off"

    CASES.append(Case("smuggling", f"chunk {name}", check, "pipe"))


def trailer(name, line, secret):
    def check(world, place):
        named = mark()
        body = b"5\r\nhello\r\n0\r\n" + line + b"\r\n\r\n"
        made = lambda client: client.head("POST", f"/record?mark={named}", CHUNKED, "trailer: x-sum") + body
        statuses, seen = exchange(place, named, made, follow=False)
        tail = seen[0]["raw"].partition(b"\r\n\r\n")[2] if seen else b""
        assert secret not in tail.lower(), tail
        return f"{statuses}"

    CASES.append(Case("smuggling", f"trailer {name}", check, "pipe"))


trailer("of the platform", b"x-aws-proxy-auth: a", b"x-aws-proxy-auth")
trailer("that is a length", b"content-length: 9", b"content-length")
trailer("that is a coding", b"transfer-encoding: chunked", b"transfer-encoding")
trailer("that is a host", b"host: other.test", b"host")
trailer("that is hop-by-hop", b"connection: close", b"connection")
