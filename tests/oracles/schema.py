"""Whether configurations keep to a JSON Schema, by the library jsonschema.

Reads one JSON list: the schema, documents that must keep to it, documents that must not. Prints what is wrong, or `missing`
where the library is not there.
"""

import json
import sys

try:
    import jsonschema
except ImportError:
    print("missing")
    sys.exit()

schema, good, bad = json.load(sys.stdin)
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)
for document in good:
    for error in validator.iter_errors(document):
        print("good, but", jsonschema.exceptions.best_match([error]).message[:300], "at", list(error.absolute_path))
for document in bad:
    if validator.is_valid(document):
        print("not refused:", json.dumps(document))
