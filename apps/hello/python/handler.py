"""hello-python: greets. Event: {"name": "..."} or nothing."""

import platform


def handler(event, context):
    name = event.get("name", "world") if isinstance(event, dict) else "world"
    return {"message": f"Hello, {name}!", "runtime": f"python {platform.python_version()}"}
