"""An HTTPS server with Extended Protection: pyspnego's acceptor takes a login only if it is bound to this server's
certificate. Arguments: certificate, key, and what becomes of a login that says it is bound to nothing, as that of a
client without TLS does: `accept` or `require`. Writes its port, and serves until its input ends.
"""

import base64
import hashlib
import http.server
import itertools
import ssl
import sys
import threading

import spnego
import spnego._ntlm_raw.messages
import spnego.channel_bindings
import spnego.exceptions

certificate, key, policy = sys.argv[1:]
with open(certificate, encoding="ascii") as file:
    der = ssl.PEM_cert_to_DER_cert(file.read())
BINDINGS = spnego.channel_bindings.GssChannelBindings(
    application_data=b"tls-server-end-point:" + hashlib.sha256(der).digest()
)
numbers = itertools.count(1)


def is_unbound(token):
    """Whether an AUTHENTICATE message says that it is bound to nothing: sixteen zero bytes."""
    message = spnego._ntlm_raw.messages.NTLMMessage.unpack(token)
    if message.MESSAGE_TYPE != spnego._ntlm_raw.messages.MessageType.authenticate:
        return False
    response = spnego._ntlm_raw.messages.NTClientChallengeV2.unpack(message.nt_challenge_response[16:])
    bindings = response.av_pairs.get(spnego._ntlm_raw.messages.AvId.channel_bindings)
    return bindings == bytes(16)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.number = next(numbers)
        self.context = None
        self.identity = None

    def log_message(self, *arguments):
        pass

    def answer(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("X-Connection", str(self.number))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme == "NTLM":
            if self.context is None or self.context.complete:
                self.context = spnego.server(protocol="ntlm", channel_bindings=BINDINGS)
                self.identity = None
            try:
                token = base64.b64decode(token)
                if policy == "require" and is_unbound(token):
                    raise spnego.exceptions.BadBindingsError(context_msg="bound to nothing")
                out = self.context.step(token)
            # The second is what comes of a login's first message in the middle of another one.
            except (spnego.exceptions.SpnegoError, ValueError):
                self.context = None
                self.answer(401, WWW_Authenticate="NTLM")
                return
            if not self.context.complete:
                self.answer(401, WWW_Authenticate="NTLM " + base64.b64encode(out).decode())
                return
            self.identity = self.context.client_principal
        if self.identity is None:
            self.answer(401, WWW_Authenticate="NTLM")
        else:
            self.answer(200, X_Identity=self.identity)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
http.server.ThreadingHTTPServer.request_queue_size = 128  # connections may come all at once
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
