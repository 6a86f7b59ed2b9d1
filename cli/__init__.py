"""The command `vtd`: one module a command, which parses, calls one function and renders what it returns."""
