"""What of JSON Schema the project's own schemas use, for tests."""

KINDS = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
    "integer": int, "number": (int, float),
}


def violations(value, schema, root, at="$"):
    """Yields a line for each place where a value is not as its schema says."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    if "const" in schema and value != schema["const"]:
        yield f"{at}: {value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        fits = [
            isinstance(value, KINDS[name])
            and not (isinstance(value, bool) and name in ("integer", "number"))
            for name in names
        ]
        if not any(fits):
            yield f"{at}: {value!r} is not of type {names}"
            return
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{at}: {value!r} is below {schema['minimum']}"
    if isinstance(value, dict):
        yield from violations_of_members(value, schema, root, at)
    if isinstance(value, list) and "items" in schema:
        for index, member in enumerate(value):
            yield from violations(member, schema["items"], root, f"{at}[{index}]")


def violations_of_members(value, schema, root, at):
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name in schema.get("required", []):
        if name not in value:
            yield f"{at}.{name} is missing"
    for name, member in value.items():
        if name in known:
            yield from violations(member, known[name], root, f"{at}.{name}")
        elif others is False:
            yield f"{at}.{name} is not in the schema"
        elif isinstance(others, dict):
            yield from violations(member, others, root, f"{at}.{name}")
