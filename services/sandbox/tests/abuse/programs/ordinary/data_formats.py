"""Reads and writes the usual formats."""

import configparser
import csv
import io
import json
import pickle
import tomllib
import xml.etree.ElementTree as Tree

from probe import ok

rows = [["name", "n"], ["a,b", "1"]]
with open("table.csv", "w", newline="") as file:
    csv.writer(file).writerows(rows)
with open("table.csv", newline="") as file:
    assert list(csv.reader(file)) == rows
assert json.loads(json.dumps({"a": [1, None, 2.5]})) == {"a": [1, None, 2.5]}
assert tomllib.loads("a = 1") == {"a": 1}
assert Tree.fromstring("<a><b/></a>")[0].tag == "b"
assert pickle.loads(pickle.dumps({1, 2})) == {1, 2}
configparser.ConfigParser().read_file(io.StringIO("[a]\nb=1"))
ok("formats")
