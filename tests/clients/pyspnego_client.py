"""pyspnego over http.client, leg by leg; the fifth argument is `ntlm` or `negotiate`.

The first request logs in, the others follow on its connection without credentials. A last token from the server is
checked too: with `negotiate` it proves that nobody changed the list of mechanisms.
"""

import base64
import http.client
import sys
import urllib.parse

import spnego
import spnego.exceptions

from answers import arguments, report

SCHEMES = {"ntlm": "NTLM", "negotiate": "Negotiate"}


def token_in(response, scheme):
    for value in response.headers.get_all("WWW-Authenticate", []):
        name, _, token = value.partition(" ")
        if name.lower() == scheme.lower() and token:
            return base64.b64decode(token)
    return None


url, user, password, count = arguments()
protocol = sys.argv[5]
scheme = SCHEMES[protocol]
parts = urllib.parse.urlsplit(url)
target = parts.path or "/"
context = spnego.client(user, password, hostname=parts.hostname, service="HTTP", protocol=protocol)
connect = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}[parts.scheme]
connection = connect(parts.hostname, parts.port, timeout=30)

token = context.step()
while True:
    value = f"{scheme} {base64.b64encode(token).decode()}"
    connection.request("GET", target, headers={"Authorization": value})
    response = connection.getresponse()
    response.read()
    answer = token_in(response, scheme)
    if answer is not None:
        try:
            token = context.step(answer)
        except spnego.exceptions.SpnegoError:
            if response.status == 401:  # a rejection, in words of SPNEGO
                break
            raise
    if response.status != 401:
        if not context.complete:
            sys.exit("the server is content, the client is not")
        break
    if answer is None or token is None:
        break
report(response.status, response.headers)
for _ in range(count - 1):
    connection.request("GET", target)
    response = connection.getresponse()
    response.read()
    report(response.status, response.headers)
