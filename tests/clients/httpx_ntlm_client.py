"""httpx with httpx-ntlm: one client, requests in turn."""

import httpx
from httpx_ntlm import HttpNtlmAuth

from answers import arguments, report

url, user, password, count = arguments()
with httpx.Client(auth=HttpNtlmAuth(user, password), timeout=30) as client:
    for _ in range(count):
        response = client.get(url)
        report(response.status_code, response.headers)
