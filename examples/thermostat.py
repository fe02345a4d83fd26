#!/usr/bin/env python3
"""A thermostat as a program of its own, for Althing's line protocol.

It reads one JSON request a line from standard input and answers each with one line on standard
output. Nothing but the requests decides what it answers: no clock, no random numbers, no files.
"""

import argparse
import json
import sys


class Thermostat:
    def __init__(self, target, band):
        self.target = target
        self.on_below = target - band / 2
        self.off_from = target + band / 2
        self.heating = None  # the last command; none so far

    def on_event(self, port, value):
        if port != "temperature":
            raise ValueError(f"no port {port}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -60 <= value <= 100:
            raise ValueError(f"a reading of {json.dumps(value)}, where -60 to 100 is plausible")
        if self.heating is None:
            heat = value < self.target
        else:
            heat = value < (self.off_from if self.heating else self.on_below)
        if heat == self.heating:
            return []
        self.heating = heat
        return [{"port": "heater", "value": "on" if heat else "off"}]

    def snapshot(self):
        return {"heating": self.heating}

    def restore(self, state):
        heating = state["heating"]
        if heating is not None and not isinstance(heating, bool):
            raise ValueError("no state of a thermostat")
        self.heating = heating


def answer(component, request):
    kind = request["kind"]
    if kind == "event":
        return {"outputs": component.on_event(request["port"], request["value"])}
    if kind == "snapshot":
        return {"state": component.snapshot()}
    if kind == "restore":
        component.restore(request["state"])
        return {"restored": True}
    raise ValueError(f"no request {kind}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", type=float, default=21, help="degrees to keep")
    parser.add_argument("--band", type=float, default=1, help="width of the range in which nothing is switched")
    options = parser.parse_args()
    component = Thermostat(options.target, options.band)
    for line in sys.stdin:
        try:
            reply = answer(component, json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
