from setuptools import setup

setup(cffi_modules=["emulator/core/build.py:builder"])
