"""What the clients beside this file share: their arguments, and one line of JSON for each answer."""

import json
import sys


def arguments():
    """URL, user (DOMAIN\\name), password, number of requests."""
    url, user, password, requests = sys.argv[1:5]
    return url, user, password, int(requests)


def report(status, headers, body):
    """Prints an answer; `headers` finds names whatever their case."""
    answer = {
        "status": status,
        "identity": headers.get("X-Identity"),
        "connection": headers.get("X-Connection"),
        "body": body,
    }
    print(json.dumps(answer), flush=True)
