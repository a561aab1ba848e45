"""Reads batches of captured bytes from standard input with h11, and says what it sees.

A batch: its number of items, then for each its kind (Q request, S response), whether the connection was closed behind it,
the number of the requests that its responses answer and for each H if that is a HEAD, and its bytes. The reply to each: the messages
that are complete (method or status, target, version, body), then why it stopped, if it did. Numbers are four bytes, big-endian.
"""

import struct
import sys

import h11

NUMBER = struct.Struct(">I")
LIMIT = 1 << 20


def exactly(n):
    data = sys.stdin.buffer.read(n)
    if len(data) != n:
        sys.exit(0)
    return data


def number():
    return NUMBER.unpack(exactly(4))[0]


def asked(head):
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LIMIT)
    connection.send(h11.Request(method=b"HEAD" if head else b"GET", target=b"/", headers=[(b"host", b"h")]))
    connection.send(h11.EndOfMessage())
    return connection


def read(kind, closed, heads, data):
    messages = []
    try:
        while data and len(messages) < 200:
            if kind == b"Q":
                connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LIMIT)
            else:
                index = len(messages)
                connection = asked(heads[index : index + 1] == b"H")
            connection.receive_data(data)
            if closed:
                connection.receive_data(b"")
            body = []
            while True:
                event = connection.next_event()
                kind_of = type(event)
                if kind_of is h11.Data:
                    body.append(bytes(event.data))
                elif kind_of is h11.Request:
                    first = (event.method, event.target, event.http_version)
                elif kind_of is h11.Response:
                    first = (b"%d" % event.status_code, b"", event.http_version)
                elif kind_of is h11.EndOfMessage:
                    messages.append(first + (b"".join(body),))
                    data = connection.trailing_data[0]
                    break
                elif kind_of is not h11.InformationalResponse:
                    return messages, "incomplete"
    except h11.RemoteProtocolError as error:
        return messages, str(error)
    return messages, ""


def main():
    out = sys.stdout.buffer
    while True:
        items = []
        for _ in range(number()):
            kind, closed = exactly(1), exactly(1) == b"\1"
            heads = exactly(number())
            items.append((kind, closed, heads, exactly(number())))
        reply = []
        for item in items:
            messages, error = read(*item)
            reply.append(NUMBER.pack(len(messages)))
            for message in messages:
                for part in message:
                    reply.append(NUMBER.pack(len(part)))
                    reply.append(bytes(part))
            text = error.encode()
            reply.append(NUMBER.pack(len(text)))
            reply.append(text)
        out.write(b"".join(reply))
        out.flush()


main()
