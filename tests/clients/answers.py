"""What the clients beside this file share: their arguments, and a line for each answer."""

import sys


def arguments():
    """URL, user (DOMAIN\\name), password, number of requests."""
    url, user, password, requests = sys.argv[1:5]
    return url, user, password, int(requests)


def report(status, headers):
    """Prints an answer: its status, whose it is and the server's name for the connection, with tabs between them."""
    print(status, headers.get("X-Identity", ""), headers.get("X-Connection", ""), sep="\t", flush=True)
