"""requests with requests-ntlm: one session, requests in turn."""

import requests
from requests_ntlm import HttpNtlmAuth

from answers import arguments, report

url, user, password, count = arguments()
with requests.Session() as session:
    session.auth = HttpNtlmAuth(user, password)
    for _ in range(count):
        response = session.get(url, timeout=30)
        report(response.status_code, response.headers)
