"""Reads metrics from standard input with the parser of Prometheus' own library, as strictly as that is; prints every sample's name.

Usage: read_metrics.py text|openmetrics
"""

import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

parser = {"text": text, "openmetrics": openmetrics}[sys.argv[1]]
for family in parser(sys.stdin.read()):
    for sample in family.samples:
        print(sample.name)
