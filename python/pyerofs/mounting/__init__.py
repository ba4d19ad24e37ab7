"""Mounting: back ends, servers, namespaces and records. ``pyerofs.mount`` is the way in."""
