"""The C core: its sources, the generator of its masks (generate.py) and its build (build.py)."""
