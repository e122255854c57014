"""Reads deny lists with the verifier of the example in Python. Arguments: the folder of the example, and that of the
embedded key set. On stdin: [{name, document}]. Prints {name: null | "why not"}.
"""
import json
import sys

example, keys = sys.argv[1:]
sys.path.insert(0, example)
from verifier import Verifier  # noqa: E402

verdicts = {}
for case in json.load(sys.stdin):
    verifier = Verifier(keys, "gitlab-ai-gateway")
    try:
        verifier.take_deny_list(case["document"])
        verdicts[case["name"]] = None
    except Exception as refusal:
        verdicts[case["name"]] = f"{type(refusal).__name__}: {refusal}"
print(json.dumps(verdicts))
