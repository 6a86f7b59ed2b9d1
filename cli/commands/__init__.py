"""One module a command, loaded when it is asked for: `convert-trace` is `convert_trace.py`, its attribute `command`.

A command's callback returns its exit status (None is 0). At its top a module imports nothing heavy, since `vtd --help`
loads every one of them: what does the work is imported inside the callback.
"""
